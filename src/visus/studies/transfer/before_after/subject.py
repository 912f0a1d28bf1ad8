"""What was measured before and after training: layers of every network, how far they moved, which mistakes changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from visus.images import ImageSet
    from visus.measures.compare import PairedDifference
    from visus.measures.confusion_change import ConfusionChange
    from visus.models.tap import Tap
    from visus.studies.common.pairs import Pair
    from visus.studies.transfer.layers.scores import LayerScore


@dataclass(frozen=True)
class Move:
    """One layer of one network against the same layer of the first: after minus before on the same test images.

    probe: accuracy of the linear probe. holm: its McNemar p corrected for all moves. silhouette: mean over images.
    cka: unbiased linear CKA of the two, NaN where either is constant.
    """

    after: str
    tap: Tap
    label: str
    probe: Pair
    holm: float
    silhouette: PairedDifference
    cka: float


@dataclass(frozen=True)
class Mistakes:
    """How the mistakes of one judge (a probe or the networks' own classifiers) changed, those that fell the most first."""

    judge: str
    before: str
    after: str
    changes: tuple[ConfusionChange, ...]


@dataclass(frozen=True)
class Course:
    """All that was measured. Arrays over test images are in the order of the split's test rows.

    positions: int64 [n_test], the test images in the ImageSet. states: names, the one that all are compared with first.
    random: those of them with random weights. labels: tap name -> as people read it. vectors: (state, tap name) ->
    float32 [n_test, d].
    """

    images: ImageSet
    positions: np.ndarray
    test_y: np.ndarray
    states: tuple[str, ...]
    random: frozenset[str]
    taps: tuple[Tap, ...]
    labels: Mapping[str, str]
    scores: Mapping[tuple[str, str], LayerScore]
    vectors: Mapping[tuple[str, str], np.ndarray]
    moves: tuple[Move, ...]
    mistakes: tuple[Mistakes, ...]

    @property
    def before(self) -> str:
        return self.states[0]

    @property
    def after(self) -> str:
        """The network that findings speak of: the first trained one after the first, else the first of all others."""
        return next((s for s in self.states[1:] if s not in self.random), self.states[1])

    def of(self, state: str) -> list[Move]:
        """The moves of one network, in order of depth."""
        return [m for m in self.moves if m.after == state]
