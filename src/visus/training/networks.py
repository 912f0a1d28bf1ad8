"""The network of a regime: what of it trains, the parts of it that are fed, and its weights afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from visus.errors import DataError
from visus.models.base import Backbone
from visus.models.classifier import Classifier, classifier_of
from visus.models.cut import Tail
from visus.models.lora import add_lora, merge_lora
from visus.models.parts import freeze, last_block, set_modes, trainable
from visus.models.preprocess import Preprocess
from visus.training import checkpoint
from visus.training.regimes import REGIMES
from visus.training.training_data import Settings


@dataclass(frozen=True)
class Built:
    """The network of a regime before it is fed. classifier: trunk and head. names: its parameters that train. path: of the last block."""

    regime: str
    classifier: Classifier
    names: tuple[str, ...]
    path: str = ""

    def train_mode(self) -> None:
        """Train what trains; keep what is frozen in eval mode, so that its BatchNorm statistics stay (P2)."""
        set_modes(self.classifier, self.names)


def build(regime: str, backbone: Backbone, n_classes: int, settings: Settings, *, seed: int) -> Built:
    """The classifier of a regime, with gradients where it trains. backbone: pretrained, or random for 'scratch'.

    Raises SpecError where the architecture does not allow the regime.
    """
    classifier = classifier_of(backbone, n_classes, seed=seed)
    trains = REGIMES[regime].trains
    names = (
        add_lora(classifier, backbone, rank=settings.lora_rank, seed=seed)
        if trains == "adapters"
        else trainable(classifier, backbone, trains)
    )
    freeze(classifier, names)
    return Built(regime, classifier, names, last_block(backbone) if trains == "last-block" else "")


class OverFeatures(torch.nn.Module):
    """Features -> logits: the classifier's head alone."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.head = classifier.head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(features)
        return logits


class FromCut(torch.nn.Module):
    """What enters the last block -> logits: the classifier from the cut on, as a module that Fabric can set up."""

    def __init__(self, classifier: Classifier, path: str, size: tuple[int, int]) -> None:
        super().__init__()
        self.classifier = classifier
        self.path, self.size = path, size
        self._tail: Tail | None = None

    def forward(self, cached: torch.Tensor) -> torch.Tensor:
        if self._tail is None:
            self._tail = Tail(self.classifier, self.path, self.size)
        return self._tail(cached)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_tail": None}  # it holds outputs by module: another process makes its own


def restore(built: Built, folder: Path) -> None:
    """Put the weights that a finished run kept into its classifier."""
    kept = checkpoint.load(folder / checkpoint.BEST)
    if kept is None:
        raise DataError(f"{folder} holds no weights; delete it and run the same command again")
    checkpoint.put_back(built.classifier, kept["tensors"])
    built.classifier.eval()


def trained_backbone(built: Built, backbone: Backbone, preprocess: Preprocess | None = None) -> Backbone:
    """The backbone with the weights that training left, for looking at its features; LoRA's adapters are merged into them.

    preprocess: of the images that it was trained on, where it is not the backbone's own.
    """
    if REGIMES[built.regime].trains == "adapters":
        merge_lora(built.classifier)
    found = built.classifier.backbone(backbone)
    return replace(found, preprocess=preprocess) if preprocess else found
