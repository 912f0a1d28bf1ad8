"""What was measured in a transfer study: every score, and the comparisons that its tables and findings share."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

from visus.studies.common.pairs import Pair, compare_right

if TYPE_CHECKING:
    from visus.images import ImageSet, Splits
    from visus.measures.confusion import ConfusedPair
    from visus.measures.repeats import Repeats
    from visus.models import Backbone
    from visus.studies.transfer.layers.scores import LayerScore

CONFUSED_SHOWN = 8


@dataclass(frozen=True)
class Subject:
    """All that was measured: the kept pictures (positions in the ImageSet), their labels, the split among them, every score, and which
    images stand on both sides of the split."""

    images: ImageSet
    splits: Splits
    kept: np.ndarray
    y: np.ndarray
    backbones: tuple[Backbone, ...]
    scores: tuple[LayerScore, ...]
    repeats: Repeats | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the kept pictures."""
        return tuple(self.images.ids[i] for i in self.kept)

    @property
    def test_y(self) -> np.ndarray:
        found: np.ndarray = self.y[self.splits.test]
        return found

    def of(self, spec: str) -> list[LayerScore]:
        """The scores of one model, in order of depth."""
        return [s for s in self.scores if s.model == spec]

    def best_layer(self, spec: str) -> LayerScore:
        """The layer that validation prefers (test has no say in it)."""
        return max(self.of(spec), key=lambda s: s.validation)

    @property
    def best(self) -> LayerScore:
        """The model and layer that validation prefers."""
        return max(self.scores, key=lambda s: s.validation)

    @property
    def majority(self) -> float:
        """Test accuracy of always answering the most frequent training class."""
        counts = np.bincount(self.y[self.splits.train], minlength=len(self.images.classes))
        return float(np.mean(self.test_y == counts.argmax()))

    @property
    def most_by_luck(self) -> float:
        """The most that answers made without looking can reach: the share of the largest class of the test images."""
        return float(np.bincount(self.test_y).max() / len(self.test_y))


def compare(a: LayerScore, b: LayerScore, y: np.ndarray, *, names: tuple[str, str], seed: int) -> Pair:
    return compare_right(a.probe.predictions == y, b.probe.predictions == y, names=names, seed=seed)


def model_pairs(s: Subject, *, seed: int) -> list[Pair]:
    """Every pair of models, each at its best layer by validation."""
    best = [s.best_layer(b.spec) for b in s.backbones]
    return [
        compare(a, b, s.test_y, names=(f"{a.model} · {a.label}", f"{b.model} · {b.label}"), seed=seed)
        for a, b in combinations(best, 2)
    ]


def layer_pairs(s: Subject, *, seed: int) -> list[Pair]:
    """Each layer of a model against the one before it."""
    found = []
    for b in s.backbones:
        layers = s.of(b.spec)
        for before, after in pairwise(layers):
            names = (f"{b.spec} · {after.label}", f"{b.spec} · {before.label}")
            found.append(compare(after, before, s.test_y, names=names, seed=seed))
    return found


def confused(s: Subject, examples: int = 4) -> list[ConfusedPair]:
    """The most confused pairs of classes of the best layer, with positions of example test images, surest first."""
    from visus.measures.confusion import confused_pairs

    probe = s.best.probe
    sure = probe.probabilities.max(axis=1)
    return confused_pairs(
        s.test_y,
        probe.predictions,
        n_classes=len(s.images.classes),
        top=CONFUSED_SHOWN,
        examples=examples,
        score=sure,
    )
