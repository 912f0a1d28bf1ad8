"""A vision transformer from nothing on few images: classes, and beside them the names of all images that have one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from visus.memory import halving
from visus.training.distillation import distillation_head, distillation_loss
from visus.training.objective import Objective, balanced, weight
from visus.training.recipe import Recipe
from visus.training.views import Views, dropped

if TYPE_CHECKING:
    from lightning_fabric import Fabric

UNKNOWN = -1
EVALUATED = 256


class MultitaskViT(nn.Module):
    """A timm ViT as the loop trains it: images -> (logits of classes, of names, a teacher's features).

    The second and third heads sit on the same CLS feature and are dropped when the model is saved.
    """

    def __init__(self, vit: Any, names: int, dims: int = 0) -> None:
        super().__init__()
        self.vit = vit
        self.names = nn.Linear(vit.num_features, names) if names else None
        if self.names is not None:
            nn.init.trunc_normal_(self.names.weight, std=0.02)
            nn.init.zeros_(self.names.bias)
        # Named in checkpoints, which must be read again.
        self.guide = distillation_head(vit.num_features, dims)

    def forward(
        self, images: torch.Tensor, drop: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """float [b, 3, h, w] -> [b, classes], [b, names] or None, [b, dims] or None. drop: share of patch tokens left out."""
        vit = self.vit
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
        if drop:
            x = dropped(x, drop, vit.num_prefix_tokens)
        feature = vit.forward_head(vit.norm(vit.blocks(x)), pre_logits=True)
        return (
            vit.head(feature),
            None if self.names is None else self.names(feature),
            None if self.guide is None else self.guide(feature),
        )


@dataclass(frozen=True)
class MultitaskImages:
    """images: uint8 [n, h, w, 3]. classes, names: int64 [n], UNKNOWN where an image has none. balance, teacher_features: as in
    CaptionedImages."""

    images: np.ndarray
    classes: np.ndarray
    names: np.ndarray
    balance: np.ndarray | None = None
    teacher_features: np.ndarray | None = None


class Multitask(Objective):
    """Cross-entropy of classes plus that of names, each over the images that have one; validation: accuracy of classes."""

    cuts = True

    def __init__(
        self,
        train: MultitaskImages,
        held: MultitaskImages,
        views: Views,
        recipe: Recipe,
    ) -> None:
        self.train, self.held, self.views, self.recipe = train, held, views, recipe

    @property
    def n(self) -> int:
        """Training images."""
        return len(self.train.classes)

    def batches(self, recipe: Recipe, epoch: int) -> list[np.ndarray]:
        """Rows of every batch, the values of `balance` in equal shares."""
        return balanced(self.train.balance, self.n, recipe, epoch)

    def loss(
        self, model: nn.Module, rows: np.ndarray, *, epoch: int, fabric: Fabric, whole: np.ndarray | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Their part of the sum of both mean cross-entropies in nats, the number of classes right, out of how many that are known."""
        step = rows if whole is None else whole
        x = self.views.of(self.train.images, rows, seed=self.recipe.seed, epoch=epoch, device=fabric.device)
        classes, names, predicted = model(x, self.views.drop.at(epoch, self.recipe.epochs))
        y = torch.from_numpy(self.train.classes[rows]).to(fabric.device)
        loss = self._cross_entropy(classes, y, self.train.classes[step])
        if names is not None:
            said = torch.from_numpy(self.train.names[rows]).to(fabric.device)
            loss = loss + self._cross_entropy(names, said, self.train.names[step])
        if predicted is not None and self.train.teacher_features is not None:
            beside = distillation_loss(predicted, torch.from_numpy(self.train.teacher_features[rows]).to(fabric.device))
            loss = loss + weight(rows, whole) * beside
        return loss, (classes.detach().argmax(1) == y).sum(), int((self.train.classes[rows] != UNKNOWN).sum())

    def _cross_entropy(self, logits: torch.Tensor, y: torch.Tensor, whole: np.ndarray) -> torch.Tensor:
        """Summed over y, divided by how many are known of the whole step: parts add up, however the unknown ones are spread."""
        total = functional.cross_entropy(
            logits.float(), y, label_smoothing=self.recipe.smoothing, ignore_index=UNKNOWN, reduction="sum"
        )
        return total / max(int((whole != UNKNOWN).sum()), 1)

    def validate(self, model: nn.Module, fabric: Fabric) -> tuple[float, float]:
        """(mean cross-entropy in nats, accuracy) of the classes of the held-out images."""

        def run(at: slice) -> torch.Tensor:
            raw = torch.from_numpy(self.held.images[at]).to(fabric.device)
            logits: torch.Tensor = model(self.views.preprocess.normalize(raw))[0].float()
            return logits

        found = [x for _, x in halving(len(self.held.images), EVALUATED, run, what="validation")]
        logits, y = torch.cat(found).cpu(), torch.from_numpy(self.held.classes)
        return float(functional.cross_entropy(logits, y)), float((logits.argmax(1) == y).float().mean())
