"""The shape of the gap between two modalities: the cone that each stands in, the gap without L2, and what moving them does (P12)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, block_rows, generator_of
from visus.measures._arrays import features as checked
from visus.measures.partners import partners
from visus.measures.rows import unit64


@dataclass(frozen=True)
class Cone:
    """How narrow a modality stands. cosine: mean over pairs of different rows; angle: mean angle to the centroid, in degrees."""

    cosine: float
    angle: float


@dataclass(frozen=True)
class RawGap:
    """Vectors as given, not of unit length. centroid_distance: of the means; image_norm, text_norm: mean lengths."""

    centroid_distance: float
    image_norm: float
    text_norm: float


@dataclass(frozen=True)
class Shifted:
    """Both modalities moved. shift: share of the difference of centroids that was closed (0: as is, 1: closed). loss: `contrastive_loss`, nats."""

    shift: float
    centroid_distance: float
    loss: float
    score: float


def cone_width(x: Array) -> Cone:
    """The cone of float [n, d], n >= 2, on unit rows (Ethayarajh 2019; Liang et al. 2022, section 2). Raises DataError."""
    rows = unit64(checked(x, "x", at_least=2))
    n = len(rows)
    total = rows.sum(axis=0)
    length = float(np.linalg.norm(total))
    if length == 0:
        return Cone(-1 / (n - 1), 90.0)
    cosines = np.clip(rows @ (total / length), -1, 1)
    return Cone(
        float((total @ total - (rows * rows).sum()) / (n * (n - 1))), float(np.degrees(np.arccos(cosines)).mean())
    )


def raw_gap(images: Array, texts: Array) -> RawGap:
    """The gap of float [n, d] and [m, d] without scaling to unit length. Raises DataError."""
    x, y = (np.asarray(checked(a, name), np.float64) for a, name in ((images, "images"), (texts, "texts")))
    if x.shape[1] != y.shape[1]:
        raise DataError(f"images have {x.shape[1]} dimensions, texts {y.shape[1]}; take both from the shared space")
    return RawGap(
        float(np.linalg.norm(x.mean(axis=0) - y.mean(axis=0))),
        float(np.linalg.norm(x, axis=1).mean()),
        float(np.linalg.norm(y, axis=1).mean()),
    )


def contrastive_loss(
    images: Array,
    texts: Array,
    scale: float,
    *,
    keys: npt.ArrayLike | None = None,
    image_keys: npt.ArrayLike | None = None,
    bias: float | None = None,
) -> float:
    """The loss that dual encoders are trained with, in nats, over all n pairs of unit rows [n, d], in blocks of rows.

    Without a bias symmetric InfoNCE (Radford et al. 2021); with one the sigmoid loss of every image with every text, summed over texts and averaged
    over images (Zhai et al. 2023). keys, image_keys: int64 [n], equal for equal texts and for equal images: an image is not held against another
    pair's text that is its own as well, nor a text against such an image.
    """
    x, y = np.asarray(images, np.float64), np.asarray(texts, np.float64)
    n = len(x)
    code, shown = (np.arange(n) if k is None else np.asarray(k) for k in (keys, image_keys))
    joined = partners(shown, code)[np.unique(shown, return_inverse=True)[1].reshape(-1)]
    joined = joined[:, np.unique(code, return_inverse=True)[1].reshape(-1)].tocsr()
    rows = block_rows(8 * n * 4)
    total = 0.0
    for a, b, own_too in ((x, y, joined), (y, x, joined.T.tocsr())):
        for start in range(0, n, rows):
            z = scale * a[start : start + rows] @ b.T
            at = np.arange(len(z)), np.arange(start, start + len(z))
            own = z[at]
            z[own_too[start : start + rows].toarray()] = -np.inf
            if bias is not None:
                total += float(np.logaddexp(0, -own - bias).sum() + np.logaddexp(0, z + bias).sum())
                continue
            z[at] = own
            top = z.max(axis=1, keepdims=True)
            total += float((np.log(np.exp(z - top).sum(axis=1)) + top[:, 0] - own).sum())
    return total / (2 * n)


@dataclass(frozen=True)
class PairLoss:
    """What `contrastive_loss` asks of n pairs besides their rows."""

    scale: float
    keys: npt.ArrayLike | None = None
    image_keys: npt.ArrayLike | None = None
    bias: float | None = None

    def of(self, images: Array, texts: Array, rows: Array) -> float:
        """The loss over some of the pairs."""
        keys, image_keys = (None if k is None else np.asarray(k)[rows] for k in (self.keys, self.image_keys))
        return contrastive_loss(images[rows], texts[rows], self.scale, keys=keys, image_keys=image_keys, bias=self.bias)


def gap_shift(
    images: Array,
    texts: Array,
    *,
    loss: PairLoss,
    score: Callable[[Floats, Floats, Callable[[Array], Floats]], float],
    most: int = 2000,
    steps: int = 17,
    reach: float = 2.0,
    seed: int = 0,
) -> list[Shifted]:
    """Move both modalities along the difference of their centroids and scale to unit length again (Liang et al. 2022, section 4.2).

    images, texts: pairs [n, d]. score: of moved unit rows, and of what moves other texts along (as those of classes). loss: over a sample of
    `most` pairs where there are more. Shares from 1 - reach to 1 + reach: below 0 apart, 1 together, above 1 past each other. Raises
    DataError on shapes that differ.
    """
    x, y = unit64(checked(images, "images", at_least=2)), unit64(checked(texts, "texts", at_least=2))
    if x.shape != y.shape:
        raise DataError(f"images {x.shape} and texts {y.shape} are no pairs; they must have the same shape")
    apart = x.mean(axis=0) - y.mean(axis=0)
    judged = np.sort(generator_of(seed).permutation(len(x))[:most])
    found = []
    for share in np.linspace(1 - reach, 1 + reach, steps):

        def along(other: Array, by: Floats = share / 2 * apart) -> Floats:
            return unit64(unit64(other) + by)

        a, b = unit64(x - share / 2 * apart), along(y)
        found.append(
            Shifted(
                float(share),
                float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0))),
                loss.of(a, b, judged),
                score(a, b, along),
            )
        )
    return found
