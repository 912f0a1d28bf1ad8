"""What training a model in several ways came to: one score a regime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.measures.probe import ProbeResult
from visus.studies.transfer.evaluation import LayerScore
from visus.training.records import Epoch, Run, Trial
from visus.training.regimes import REGIMES

__all__ = ["Epoch", "RegimeScore", "Regimes", "Run", "Trial"]


@dataclass(frozen=True)
class RegimeScore:
    """One regime of one model: its runs (one a seed), what it trained and what that cost.

    regime: 'probe', 'head', 'last-block', 'lora', 'full' or 'scratch'. trainable, parameters: numbers of scalars. flops: all of
    training, forward and backward, what a frozen front computes counted once (NaN: unknown). seconds: all of it, trials and runs.
    peak_memory: bytes. batch: pictures an optimizer step, in `accumulate` passes. size: (height, width) in pixels. augmented: ''
    (not at all), 'k cached views' or 'every epoch'. note: what a time budget cut, '' for nothing. probe: the convex fit, for
    'probe' alone, whose only run has no epochs.
    """

    model: str
    regime: str
    runs: tuple[Run, ...]
    trainable: int
    parameters: int
    flops: float
    seconds: float
    peak_memory: int
    batch: int
    accumulate: int
    size: tuple[int, int]
    augmented: str
    note: str = ""
    probe: ProbeResult | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise DataError(
                f"{self.model}, {self.regime}: a score needs at least one run; train it with one seed or more"
            )

    @staticmethod
    def from_probe(
        score: LayerScore,
        *,
        flops: float,
        seconds: float,
        size: tuple[int, int],
        parameters: int,
    ) -> RegimeScore:
        """The convex linear probe of a layer as a regime: trained on all rows at once, on features computed once, not augmented.

        score: of `studies.layers.score_layer`. flops: what the features and the fit took; parameters: of the network and the
        classifier. trainable is the classifier's weights and biases, (width + 1) x classes.
        """
        p = score.probe
        classes = p.logits.shape[1]
        run = Run(0, float("nan"), (), -1, np.asarray(p.logits, np.float32), (), seconds)
        return RegimeScore(
            model=score.model, regime="probe", runs=(run,), trainable=(score.width + 1) * classes, parameters=parameters,
            flops=flops, seconds=seconds, peak_memory=0, batch=0, accumulate=1, size=size, augmented="", probe=p,
        )  # fmt: skip

    @property
    def words(self) -> str:
        """The regime as people read it."""
        return REGIMES[self.regime].label

    @property
    def validation(self) -> float:
        """Validation accuracy of the weights that were kept, mean over runs: what regimes are chosen by, never test."""
        if self.probe is not None:
            return float(self.probe.validation_accuracy)
        return float(np.mean([run.validation for run in self.runs]))

    @property
    def predictions(self) -> np.ndarray:
        """int64 [runs, n_test]: the predicted class of every test image by every run."""
        if self.probe is not None:
            return np.asarray(self.probe.predictions, np.int64)[None]
        return np.stack([run.logits.argmax(axis=1) for run in self.runs]).astype(np.int64)

    def right(self, y: np.ndarray) -> np.ndarray:
        """bool [runs, n_test]: which test images each run gets right. y: int64 [n_test]."""
        found: np.ndarray = self.predictions == y
        return found


@dataclass(frozen=True)
class Regimes:
    """All that was trained on one set of images. test_y: int64 [n_test], in the order of every run's logits.

    fitted: how many images an epoch goes through (None: unknown, and no images/s are shown). Raises DataError when logits
    do not fit the labels and classes, or a model has a regime twice.
    """

    images: str
    classes: tuple[str, ...]
    test_y: np.ndarray
    scores: tuple[RegimeScore, ...]
    fitted: int | None = None

    def __post_init__(self) -> None:
        if not self.scores:
            raise DataError("no regime was trained; choose at least one, or give more time")
        wanted = (len(self.test_y), len(self.classes))
        for score in self.scores:
            for run in score.runs:
                if run.logits.shape != wanted:
                    raise DataError(
                        f"{score.model}, {score.regime}: logits of shape {run.logits.shape} for {wanted[0]} test images "
                        f"of {wanted[1]} classes; predict every test image once"
                    )
        keys = [(s.model, s.regime) for s in self.scores]
        for key in keys:
            if keys.count(key) > 1:
                raise DataError(f"{key[0]} has two scores of {key[1]!r}; give several seeds as runs of one score")

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s.model for s in self.scores))

    @property
    def seeds(self) -> int:
        """The most runs that a regime has."""
        return max(len(s.runs) for s in self.scores)

    def of(self, model: str) -> dict[str, RegimeScore]:
        """The scores of one model by regime."""
        return {s.regime: s for s in self.scores if s.model == model}

    def best(self, model: str) -> RegimeScore:
        """The regime that validation prefers (test has no say in it); of equals the one with fewer operations."""
        return max(self.of(model).values(), key=lambda s: (s.validation, -cost(s)))

    def name(self, score: RegimeScore) -> str:
        """'last block', or 'model · last block' where there are several models."""
        return score.words if len(self.models) == 1 else f"{score.model} · {score.words}"


def cost(score: RegimeScore) -> float:
    """Training operations; infinite where unknown, so that such a regime is never the cheaper one."""
    return score.flops if score.flops == score.flops else float("inf")


def chosen(trial: Trial, run: Run) -> bool:
    """Whether this is the learning rate that the run was trained with."""
    return bool(np.isclose(trial.lr, run.lr, rtol=1e-9, atol=0))


def operations(flops: float) -> str:
    """3.1e12 -> '3.1 TFLOP'; '–' where unknown."""
    if not np.isfinite(flops):
        return "–"
    for size, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        # 999.96e9 would read 1000.0 GFLOP.
        if flops >= 0.9995 * size:
            value = flops / size
            return f"{value:.0f} {prefix}FLOP" if value >= 99.95 else f"{value:.1f} {prefix}FLOP"
    return f"{flops:.0f} FLOP"


def duration(seconds: float) -> str:
    """3.21 -> '3.2 s', 754 -> '12.6 min', 9000 -> '2.5 h'."""
    if not np.isfinite(seconds):
        return "–"
    if seconds < 119.95:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def rate(lr: float) -> str:
    """0.00031623 -> '0.00032'."""
    return f"{lr:.2g}"


def short(regime: str) -> str:
    """A regime beside its marker: 'last-block' -> 'last block'."""
    return "LoRA" if regime == "lora" else regime.replace("-", " ")
