"""A teacher beside the labels: the student predicts the features that a trained backbone has of the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from visus.features import extract
from visus.measures.reduce import pca_from_train
from visus.measures.rows import unit_rows

if TYPE_CHECKING:
    from visus.images import ImageSet
    from visus.models import Backbone

DIMS = 256
WEIGHT = 10.0  # of the teacher's loss, beside cross-entropies of a few nats


def teacher_features(
    sources: Sequence[tuple[ImageSet, np.ndarray]], teacher: Backbone, *, device: str, seed: int
) -> np.ndarray:
    """float32 [n, d <= DIMS], of unit length: the teacher's late features of the images, standardised and reduced by PCA.

    sources: image sets with the positions that count, one after the other. The images pass through the teacher once, not augmented.
    """
    late = teacher.aliases["late"]
    parts = [extract(s.subset(rows), teacher, [late], device=device)[late] for s, rows in sources if len(rows)]
    x = np.concatenate(parts)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    reduced = pca_from_train(x.astype(np.float32), np.arange(len(x)), dims=DIMS, seed=seed)
    return unit_rows(reduced)


def distillation_head(width: int, dims: int) -> nn.Linear | None:
    """From a student's feature to the teacher's; None without a teacher."""
    return nn.Linear(width, dims) if dims else None


def distillation_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """WEIGHT * (1 - cosine), averaged: a regression of features, as in FitNets (Romero et al. 2015), blind to their length."""
    return WEIGHT * (1 - functional.cosine_similarity(predicted.float(), target, dim=1)).mean()
