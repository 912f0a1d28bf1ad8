"""Hand-made measures of the CLIP study's sections: no model, no images."""

from __future__ import annotations

from typing import Any

import numpy as np

from visus.measures.gap_shape import Cone, RawGap
from visus.result import Section
from visus.studies.clip.alignment.judge import SideMeasures
from visus.studies.clip.alignment.measure import AlignmentMeasures, Fiction, Fit
from visus.studies.clip.gap.measure import GapMeasures, ModalityMap, ModalityMaps, ShiftStep, ShiftSweep, SpaceGap
from visus.studies.clip.gap.retrieval import Recall, Retrieval
from visus.studies.clip.search import Hit, Nearest, SearchMeasures
from visus.studies.clip.zero_shot.images import FlippedImage, Pictures, WrongAnswer
from visus.studies.clip.zero_shot.measure import (
    ClassPrecision,
    ClassRecalls,
    Confusion,
    PromptPrecision,
    PromptScore,
    ZeroShotMeasures,
)
from visus.studies.common.comparisons import Comparison
from visus.studies.common.proportion import Proportion

PICTURES = np.zeros((2, 4, 4, 3), np.uint8)
CHANGE = Comparison("after", "before", 0.06, -0.02, 0.16, 5, 2, 0.45)
COST = Comparison("after", "before", -0.2, -0.3, -0.1, 1, 11, 0.01)
GAIN = Comparison("after", "before", 0.2, 0.1, 0.3, 11, 1, 0.01)


def score(prompts: str, accuracy: float, *, top_5: float | None = 0.9) -> PromptScore:
    share = Proportion(accuracy, round(accuracy - 0.05, 2), round(accuracy + 0.05, 2), 200)
    return PromptScore(prompts, prompts, 1, share, round(accuracy - 0.01, 2), top_5, 0.04, 1.25)


def zero_shot_measures(**changed: Any) -> ZeroShotMeasures:
    """Two prompt sets that differ, images that turn on them, and a control."""
    given: dict[str, Any] = {
        "name": "a-clip",
        "n": 200,
        "classes": ("ant", "bee", "cat"),
        "unseen": (),
        "scale": 50.0,
        "scores": (score("plain", 0.6), score("short", 0.5)),
        "control": score("random-weights", 0.3),
        "spread": 0.1,
        "comparisons": (Comparison("plain", "short", 0.1, 0.04, 0.16, 24, 4, 0.001, 0.001),),
        "recalls": (ClassRecalls("bee", (0.9, 0.4), 0.5, 70), ClassRecalls("ant", (0.3, 0.6), 0.3, 60)),
        "flipped": 28,
        "flips": (FlippedImage("1.png", "bee", ("bee", "ant"), 1),),
        "confused": (Confusion("ant", "bee", 30, 0.5),),
        "confusion": np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        "n_wrong": 80,
        "wrong": (WrongAnswer("2.png", "ant", "bee", 0.99, 0.001),),
        "hardest": Pictures(PICTURES[:1], ("ant: said bee 99 %",)),
        "decided": Pictures(PICTURES, ("a", "b"), ("right with plain, wrong with short",) * 2),
    }
    return ZeroShotMeasures(**given | changed)


def several_labels_measures() -> ZeroShotMeasures:
    """One prompt set on images of several labels."""
    classes = (ClassPrecision("ant", 0.8, 12), ClassPrecision("bee", 0.6, 30))
    return ZeroShotMeasures(
        name="a-clip", n=90, classes=("ant", "bee", "cat"), unseen=("cat",), precisions=(PromptPrecision("plain", "plain", 0.7, 0.2, classes),)
    )  # fmt: skip


def space(name: str, distance: float, *, unpaired: float = 0.1) -> SpaceGap:
    separable = Proportion(0.95, 0.9, 0.98, 200)
    return SpaceGap(
        name, distance, 0.6, unpaired, separable, Cone(0.3, 40.4), Cone(0.2, 55.6), RawGap(2.5, 9.0, 8.0), 100
    )


def step(shift: float, distance: float, loss: float, accuracy: float) -> ShiftStep:
    return ShiftStep(
        shift, distance, loss, Proportion(accuracy, round(accuracy - 0.05, 2), round(accuracy + 0.05, 2), 100)
    )


def gap_measures(**changed: Any) -> GapMeasures:
    """A gap that does not matter, between images and captions that find each other."""
    steps = (step(-1.0, 1.6, 2.0, 0.5), step(0.0, 0.8, 1.5, 0.6), step(1.0, 0.05, 1.25, 0.58))
    change = Comparison("closed", "as trained", -0.02, -0.06, 0.02, 3, 5, 0.7)
    first = Recall(1, Proportion(0.4, 0.3, 0.5, 100), 0.002, 0.01)
    tenth = Recall(10, Proportion(0.8, 0.7, 0.9, 100), 0.02, 0.05)
    back = Recall(1, Proportion(0.35, 0.3, 0.4, 500), 0.01, None)
    tsne = ModalityMap("tsne", np.zeros((5, 2), np.float32), {"trustworthiness": 0.9})
    umap = ModalityMap("umap", np.ones((5, 2), np.float32))
    given: dict[str, Any] = {
        "space": space("a-clip", 0.8),
        "control": space("random weights", 1.28),
        "retrieval": (
            Retrieval("image to text", (first, tenth), 500, 5.0, 5),
            Retrieval("text to image", (back,), 100, 1.0, 1),
        ),
        "sweep": ShiftSweep("zero-shot accuracy", steps, steps[1], steps[2], change, 50.0, False, 100),
        "maps": ModalityMaps((tsne, umap), np.array([0, 0, 0, 1, 1]), tuple("abcde"), None, 3, 2),
        "split": "test",
        "seed": 0,
    }
    return GapMeasures(**given | changed)


def side(
    *, distance: float = 0.5, recall: float = 0.4, accuracy: float | None = 0.6, cosine: float = 0.3
) -> SideMeasures:
    return SideMeasures(cosine, distance, (recall, 0.7, None), (recall, 0.6, None), accuracy, 50)


def fit(kind: str, n: int, held: SideMeasures, *, both: bool = False, **changed: Any) -> Fit:
    given: dict[str, Any] = {"short": n < 48, "inside": side(recall=0.9), "half_width": 0.13}
    if kind != "none" and not both:
        given |= {"recall": CHANGE, "accuracy": CHANGE}
    return Fit(kind, both, n, held=held, **given | changed)


def fits(n: int, **changed: Fit) -> tuple[Fit, ...]:
    """Every alignment on n pairs, of images alone and of both. changed: some of those of images alone, by kind."""
    found = [fit("none", n, side())]
    for kind in ("procrustes", "procrustes-raw", "centring", "ridge", "whitening"):
        found.append(changed.get(kind, fit(kind, n, side(distance=0.2, recall=0.46, accuracy=0.66))))
        found.append(fit(kind, n, side(), both=True))
    return tuple(found)


def alignment_measures(**changed: Any) -> AlignmentMeasures:
    """Two numbers of pairs in 16 dimensions, the smaller too small; ridge there costs what it seems to gain."""
    ridge = fit("ridge", 25, side(distance=0.6, recall=0.2), recall=COST, accuracy=None)
    none = fit("none", 50, side(distance=1.28, cosine=0.05))
    procrustes = fit("procrustes", 50, side(distance=0.1, recall=0.04, cosine=0.9))
    given: dict[str, Any] = {
        "name": "a-clip",
        "d": 16,
        "zero_shot": True,
        "texts_are_classes": False,
        "pairs": 100,
        "texts": 100,
        "groups": 100,
        "fits": (*fits(25, ridge=ridge), *fits(50)),
        "control": (none, procrustes),
        "worst": Fiction(ridge, "recall@1", 0.4, 0.9, 0.4, 0.2),
        "fictions": 1,
        "moved": 10,
    }
    return AlignmentMeasures(**given | changed)


def search_measures() -> SearchMeasures:
    """Two queries, the second an image, among nine images."""
    hits = (Hit("a dog", 1, "0.png", "dog 0", "dog", 0.3), Hit("a dog", 2, "1.png", "dog 1", "dog", 0.2))
    other = (Hit("cat.png", 1, "7.png", "7.png", None, 0.9),)
    nearest = (Nearest("a dog", hits, 0.1), Nearest("cat.png", other, 0.4))
    return SearchMeasures("a-clip", 9, nearest, np.zeros((3, 4, 4, 3), np.uint8))


def check_findings(made: Section, *, words: int = 35) -> None:
    """No finding but a caution is longer than the rule, and each names numbers, tables and figures that there are."""
    shown = {t.key for t in made.tables} | {f.key for f in made.figures}
    metrics = {m.key for m in made.metrics}
    for finding in made.findings:
        assert finding.kind == "caution" or len(finding.text.split()) <= words, finding.text
        assert set(finding.metrics) <= metrics, finding
        assert set(finding.shows) <= shown, finding
