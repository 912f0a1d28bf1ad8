"""On which scale a VAE's loss weighs its two terms: the effective beta, from gradients alone (protocol P11)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, as_array, features

# The sine of the angle between the two gradients below which float32 gradients no longer tell their shares apart.
_COLLINEAR = 1e-5


@dataclass(frozen=True)
class EffectiveBeta:
    """The loss's gradient as reconstruction_scale x (reconstruction's) + kl_scale x (KL's); beta = kl_scale / reconstruction_scale.
    unexplained: share of its squared norm that no such sum explains, 0 to 1. reason: empty, or why beta is NaN or infinite, in one line."""

    reconstruction_scale: float
    kl_scale: float
    beta: float
    unexplained: float
    reason: str = ""


def effective_beta(gradient_loss: Array, gradient_reconstruction: Array, gradient_kl: Array) -> EffectiveBeta:
    """The beta a loss really uses, on the scale of nats per image: least squares of its gradient on those of the two terms.

    Each a float vector [p] over the same parameters at the same point and batch, the two terms in nats per image (summed over pixels and over
    dimensions). A term whose gradient is zero has scale NaN, and beta is NaN; so are both scales and beta where the two gradients are
    parallel; beta is infinite where the loss does not hold the reconstruction; `reason` says which. Raises DataError: lengths that
    differ, NaN, a loss whose gradient is zero. Source: Higgins et al. 2017 (beta); the fit is ordinary least squares.
    """
    loss = _vector(gradient_loss, "gradient_loss")
    first, second = _vector(gradient_reconstruction, "gradient_reconstruction"), _vector(gradient_kl, "gradient_kl")
    if not len(loss) == len(first) == len(second):
        raise DataError(
            f"the gradients have {len(loss)}, {len(first)} and {len(second)} entries; take all over the same parameters"
        )
    size, size_first, size_second = (float(np.linalg.norm(v)) for v in (loss, first, second))
    if size == 0:
        raise DataError("the loss's gradient is zero everywhere; measure it where the model still learns")
    nan = float("nan")
    loss /= size
    if size_first == 0 or size_second == 0:
        names = [name for name, s in (("reconstruction", size_first), ("KL", size_second)) if s == 0]
        reason = f"the gradient of the {' and of the '.join(names)} is zero at this point"
        if len(names) == 2:
            return EffectiveBeta(nan, nan, nan, 1.0, reason)
        unit = first / size_first if size_first else second / size_second
        share = float(unit @ loss)
        left = _unexplained(loss - share * unit)
        if size_first:
            return EffectiveBeta(share * size / size_first, nan, nan, left, reason)
        return EffectiveBeta(nan, share * size / size_second, nan, left, reason)
    # QR of the two unit columns; the second pass removes what rounding left of the first direction.
    first /= size_first
    second /= size_second
    cosine = float(first @ second)
    across = second - cosine * first
    across -= float(first @ across) * first
    sine = float(np.linalg.norm(across))
    along = float(first @ loss)
    if sine < _COLLINEAR:
        reason = "the gradients of the reconstruction and of the KL are parallel at this point, and their shares cannot be told apart"
        return EffectiveBeta(nan, nan, nan, _unexplained(loss - along * first), reason)
    across /= sine
    up = float(across @ loss)
    left = _unexplained(loss - along * first - up * across)
    b = up / sine
    a = along - cosine * b
    kl_scale, reconstruction_scale = b * size / size_second, a * size / size_first
    if reconstruction_scale == 0:
        return EffectiveBeta(0.0, kl_scale, float("inf"), left, "the loss does not hold the reconstruction")
    return EffectiveBeta(reconstruction_scale, kl_scale, kl_scale / reconstruction_scale, left)


def _vector(v: Array, name: str) -> Floats:
    v = as_array(v, name)
    if v.ndim != 1:
        raise DataError(f"{name} has shape {list(v.shape)}; give one vector over all parameters")
    wide: Floats = features(v[None], name)[0].astype(np.float64)  # a copy: it is scaled in place
    return wide


def _unexplained(rest: Floats) -> float:
    return min(1.0, float(rest @ rest))
