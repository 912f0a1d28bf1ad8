"""What another's encode returned, taken apart: its outputs with their names, a distribution, or a kind of model that has no posterior."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import distributions, nn

from visus.errors import DataError

Output = tuple[str, Any]
Pair = tuple[torch.Tensor, torch.Tensor]

# Each form of a spread as a log-variance. A sigma counts by its size: mu + sigma * noise has the same law for either sign.
FORMS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logvar": lambda t: t,
    "logsigma": lambda t: 2 * t,
    "sigma": lambda t: 2 * t.abs().log(),
    "var": torch.log,
    "softplus": lambda t: 2 * nn.functional.softplus(t).log(),
    "softplusvar": lambda t: nn.functional.softplus(t).log(),
}
SOFT = ("softplus", "softplusvar")  # told from the exponentials by samples alone
WORDS = {
    "logvar": "its log-variance",
    "logsigma": "its log standard deviation",
    "sigma": "its standard deviation",
    "var": "its variance",
    "softplus": "its standard deviation before softplus",
    "softplusvar": "its variance before softplus",
}
NAMES = ("z", "mu", *FORMS, "skip")


@dataclass(frozen=True)
class Reading:
    """Where mean and spread stand among an encoder's outputs, and how that was told.

    mu, spread: numbers of outputs (halves: of the one output, cut in two). form: one of FORMS. told: how, for the
    page. doubt: what speaks against it, or ''.
    """

    mu: int
    spread: int
    form: str
    told: str = ""
    halves: bool = False
    doubt: str = ""

    def pair(self, found: Any) -> Pair:
        """(mu, logvar) of what encode returned."""
        if (known := gaussian_of(found)) is not None:
            return known
        outputs = outputs_of(found)
        if self.halves:
            outputs = [("", t) for t in outputs[0][1].chunk(2, dim=1)]
        return outputs[self.mu][1], FORMS[self.form](outputs[self.spread][1])


def outputs_of(found: Any) -> list[Output]:
    """(name, value) of everything that encode returned; names of a dict, a dataclass or an object's attributes, else ''."""
    found = getattr(found, "latent_dist", found)
    if isinstance(found, torch.Tensor):
        return [("", found)]
    if isinstance(found, Mapping):
        return [(str(k), v) for k, v in found.items()]
    if is_dataclass(found) and not isinstance(found, type):
        return [(f.name, getattr(found, f.name)) for f in fields(found)]
    if isinstance(found, tuple | list):
        names = getattr(found, "_fields", [""] * len(found))
        pairs = list(zip(names, found, strict=True))
        nested = [v for _, v in pairs if isinstance(v, tuple | list)]
        if len(nested) == 1 and all(isinstance(t, torch.Tensor) for t in nested[0]):  # (z, (mu, logvar))
            return [o for name, v in pairs for o in (outputs_of(v) if v is nested[0] else [(name, v)])]
        return pairs
    return list(vars(found).items()) if hasattr(found, "__dict__") else [("", found)]


def gaussian_of(found: Any) -> Pair | None:
    """(mu, logvar) of a diagonal Gaussian of torch, alone or as the only one among other outputs; None where there is none.

    Raises TypeError for another law: its KL is not the one that is measured here.
    """
    found = getattr(found, "latent_dist", found)
    if isinstance(found, tuple | list | Mapping):
        inside = [v for _, v in outputs_of(found) if isinstance(v, distributions.Distribution)]
        if len(inside) > 1:
            raise TypeError(f"encode gave {len(inside)} distributions; return the posterior alone")
        found = inside[0] if inside else found
    if not isinstance(found, distributions.Distribution):
        return None
    while isinstance(found, distributions.Independent):
        found = found.base_dist
    if isinstance(found, distributions.Normal):
        return found.loc, 2 * found.scale.log()
    if isinstance(found, distributions.MultivariateNormal | distributions.LowRankMultivariateNormal):
        covariance = found.covariance_matrix
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        beside = covariance - torch.diag_embed(variance)
        if bool((beside.abs().amax((-2, -1)) <= 1e-5 * variance.amax(-1)).all()):
            return found.mean, variance.log()
        raise TypeError("encode gave a Gaussian with correlated dimensions; what is measured here are diagonal ones")
    raise TypeError(f"encode gave a {type(found).__name__} distribution; what is measured here are diagonal Gaussians")


def refuse_other_kinds(module: nn.Module, outputs: Sequence[Output]) -> None:
    """Raise DataError, by its name, for what has no single Gaussian posterior."""
    tensors = [t for _, t in outputs if isinstance(t, torch.Tensor)]
    kinds = {type(m).__name__.lower() for m in module.modules()}
    quantised = [k for k in kinds if re.search(r"quanti[sz]|codebook|vq_?vae|^vq", k)]
    if any(not t.is_floating_point() and t.ndim for t in tensors) or (quantised and len(tensors) == len(outputs)):
        raise DataError(
            "a VQ-VAE: its codes are discrete and have no Gaussian posterior, so neither KL nor ELBO of it can be measured"
        )
    lists = [v for _, v in outputs if isinstance(v, tuple | list) and any(isinstance(t, torch.Tensor) for t in v)]
    if lists:
        raise DataError(
            f"encode gives {len(lists)} lists of tensors: a hierarchical VAE, with several layers of latents; what is measured has one"
        )
    if not tensors:
        raise DataError(f"encode gave {', '.join(type(v).__name__ for _, v in outputs) or 'nothing'}, not (mu, logvar)")
