"""What a training from nothing shows: figures on held-out images with intervals, beside chance and the untrained network, and the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.measures import wilson
from visus.measures.repeats import Repeats, repeats
from visus.models.prompts import EMOJI
from visus.studies.common import repeated
from visus.studies.common.schema1 import Figure, Result, Table
from visus.studies.common.shared import interval_text, percent

if TYPE_CHECKING:
    from pathlib import Path

    from visus.images import ImageSet
    from visus.measures.gap import Gap
    from visus.models import Backbone
    from visus.models.dual import DualEncoder
    from visus.training.from_scratch import Plan, Trained
    from visus.training.parts import Parts

PROMPTS: Mapping[str, tuple[str, ...]] = {
    "plain": ("{}",),
    "short": ("a picture of a {}",),
    "variants": EMOJI,
}
RECALLS = (1, 5, 10)


@dataclass(frozen=True)
class Score:
    """One share on held-out images: what was asked, hits among n, what chance gives, and the untrained network's share (or None)."""

    asked: str
    hits: int
    n: int
    chance: float
    untrained: float | None = None

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.hits / self.n


@dataclass(frozen=True)
class Judged:
    """scores: by name. balanced: macro recall by the same name, where classes were asked for. gaps: before and after training."""

    scores: Mapping[str, Score]
    balanced: Mapping[str, float]
    gaps: tuple[Gap, Gap] | None = None
    calibration: float | None = None
    warnings: tuple[str, ...] = ()


def judge_clip(
    imageset: ImageSet,
    parts: Parts,
    trained: DualEncoder,
    untrained: DualEncoder,
    shown: tuple[ImageSet, np.ndarray] | None,
    learned: np.ndarray | None = None,
    *,
    seed: int,
) -> Judged:
    """Retrieval on the test part, zero-shot accuracy on `shown` (a set and positions in it, see `zero_shot_rows`), and the modality gap.

    learned: uint8 [n, 16], hashes of the training and validation pictures, in that order (None: not known). seed: of the training.
    """
    from visus.measures.gap import modality_gap
    from visus.measures.retrieval import ranks
    from visus.studies.clip.texts import text_keys
    from visus.training.captioned import candidates, names_of

    names, keys = names_of(imageset)
    # Names that the tokenizer makes one (cut, lower case) are one to be found, the first of them.
    _, first, code = np.unique(text_keys(trained, names, "captions"), return_index=True, return_inverse=True)
    keys = first[code.reshape(-1)][keys]
    choice = candidates(keys, parts.test, parts.train)
    mine, own = np.searchsorted(choice, keys[parts.test]), np.unique(np.searchsorted(choice, keys[parts.test]))
    found, gaps = [], []
    pixels = np.zeros((len(parts.test), 16), np.uint8)
    for encoder in (trained, untrained):
        pictures = encoder.encode_images(imageset, parts.test, pixels=pixels)
        texts = encoder.encode_texts([names[k] for k in choice])
        found.append(
            (
                ranks(pictures, texts, mine, np.arange(len(choice))),
                ranks(texts[own], pictures, own, mine),
            )
        )
        gaps.append(modality_gap(pictures, texts[mine], keys=mine, seed=seed))
    scores: dict[str, Score] = {}
    for side, (asked, size) in enumerate(
        (
            (f"image to name, among {len(choice):,} names", len(choice)),
            (f"name to image, among {len(parts.test):,} images", len(parts.test)),
        )
    ):
        now, before = found[0][side], found[1][side]
        for k in RECALLS:
            scores[f"recall@{k}, {('image to name', 'name to image')[side]}"] = Score(
                asked, int(np.sum(now < k)), len(now), min(k / size, 1.0), float(np.mean(before < k))
            )
    twice, warnings = _twice(imageset, parts, learned, parts.test, pixels)
    if twice is not None and twice.count and not twice.test.all():
        now, before, left = found[0][0], found[1][0], ~twice.test
        for k in RECALLS:
            scores[f"recall@{k}, image to name, without repeats"] = Score(
                f"without {twice.count:,} test images that are training images too", int(np.sum(now[left] < k)), int(left.sum()),
                min(k / len(choice), 1.0), float(np.mean(before[left] < k)),
            )  # fmt: skip
    balanced: dict[str, float] = {}
    if shown is not None:
        _zero_shot(*shown, trained, untrained, scores, balanced)
    return Judged(scores, balanced, (gaps[1], gaps[0]), warnings=warnings)


def _twice(
    imageset: ImageSet, parts: Parts, learned: np.ndarray | None, test: np.ndarray, pixels: np.ndarray
) -> tuple[Repeats | None, tuple[str, ...]]:
    """Which of the test pictures at positions `test` were learned from, and what to say of it; pixels: their hashes, uint8 [n, 16]."""
    if learned is None or not len(learned):
        return None, ()
    rows = np.concatenate([parts.train, parts.validation, test])
    hashes = np.array([h.tobytes().hex() for h in (*learned, *pixels)])
    n, m, place = len(parts.train), len(learned), np.arange(len(rows))
    labels = None if imageset.labels is None else np.asarray(imageset.labels)[rows]
    twice = repeats(hashes, labels, place[:m], place[m:], [(place[:n], place[n:m])])
    return twice, tuple(repeated.warnings(twice, [imageset.ids[i] for i in rows], place[m:]))


def zero_shot_rows(shown: ImageSet, imageset: ImageSet, plan: Plan) -> np.ndarray:
    """Positions in `shown` that zero-shot is judged on: its test part by the training's own seed, less what the training looks at.

    The set may hold the training's pictures under other names and in another split, so that pictures are compared and not names.
    Raises DataError, before anything is trained: no labels, or nothing left.
    """
    from visus.errors import DataError
    from visus.models.dual_new import square
    from visus.progress import caution
    from visus.studies.common.shared import labels_of
    from visus.training.captioned import unseen

    labels_of(shown)
    test = shown.split(seed=plan.recipe.seed).test
    seen = [(imageset, np.concatenate([plan.parts.train, plan.parts.validation]))]
    if plan.beside is not None:
        seen.append((plan.beside, np.arange(len(plan.beside))))
    rows = unseen(shown, test, seen, square(plan.sizes.image))
    if not len(rows):
        raise DataError(
            f"all {len(test):,} test images of {shown.name} are among those that the training looks at; give --zero-shot other images"
        )
    if len(rows) < len(test):
        caution(
            f"zero-shot: {len(test) - len(rows):,} of {len(test):,} test images of {shown.name} are left out, as the training looks at them"
        )
    return rows


def _zero_shot(
    shown: ImageSet,
    test: np.ndarray,
    trained: DualEncoder,
    untrained: DualEncoder,
    scores: dict[str, Score],
    balanced: dict[str, float],
) -> None:
    from visus.measures import balanced_accuracy
    from visus.models.dual_reading import same_classes
    from visus.progress import caution
    from visus.studies.common.shared import labels_of

    y, k = labels_of(shown)[test], len(shown.classes)
    pictures, before = (e.encode_images(shown, test) for e in (trained, untrained))
    for name, prompts in PROMPTS.items():
        if same := same_classes(trained.words, [(c,) for c in shown.classes], prompts):
            caution(
                f"The classes {shown.classes[same[0]]!r} and {shown.classes[same[1]]!r} are one text to the model with {name} prompts: zero-shot "
                "cannot tell them apart."
            )
        said = (pictures @ trained.zero_shot(shown.classes, prompts).T).argmax(1)
        random = (before @ untrained.zero_shot(shown.classes, prompts).T).argmax(1)
        title = f"zero-shot, {name} prompts"
        asked = f"{k} classes, {len(prompts)} prompt{'s' if len(prompts) > 1 else ''}, {prompts[0]!r}"
        scores[title] = Score(asked, int(np.sum(said == y)), len(y), 1 / k, float(np.mean(random == y)))
        balanced[title] = balanced_accuracy(y, said, n_classes=k)


def judge_vit(
    imageset: ImageSet, parts: Parts, backbone: Backbone, learned: np.ndarray | None = None, *, device: str = "cpu"
) -> Judged:
    """Accuracy, macro recall and calibration on the test part; and, where some of it was learned from, the accuracy without these.

    learned: uint8 [n, 16], hashes of the training and validation pictures, in that order.
    """
    from visus.measures import balanced_accuracy, ece
    from visus.models.classify import classify_images

    said = classify_images(backbone, imageset.subset(parts.test), device=device)
    y = np.asarray(imageset.labels)[parts.test][said.rows]
    guess = said.probabilities.argmax(1)
    k = len(imageset.classes)
    common = float(np.bincount(y, minlength=k).max() / len(y))
    asked = f"{k} classes; the commonest alone gives the chance"
    scores = {"accuracy": Score(asked, int(np.sum(guess == y)), len(y), common)}
    twice, warnings = _twice(imageset, parts, learned, parts.test[said.rows], said.pixels)
    if twice is not None and twice.count:
        left = ~twice.test
        if left.any():
            scores["accuracy without repeats"] = Score(
                f"without {twice.count:,} test images that are training images too",
                int(np.sum(guess[left] == y[left])), int(left.sum()), float(np.bincount(y[left], minlength=k).max() / left.sum()),
            )  # fmt: skip
    balanced = {"accuracy": balanced_accuracy(y, guess, n_classes=k)}
    return Judged(scores, balanced, None, ece(said.probabilities, y), warnings)


def clip_result(
    imageset: ImageSet, done: Trained, judged: Judged, folder: Path, settings: Mapping[str, object]
) -> Result:
    """The page of a CLIP's training."""
    findings = [_finding(name, score) for name, score in judged.scores.items() if name in _TOLD]
    tables = {"held-out": _table(judged)}
    if judged.gaps:
        before, after = judged.gaps
        findings.append(
            f"The modality gap (distance of the centroids of images and texts) went from {before.centroid_distance:.2f} at the start to "
            f"{after.centroid_distance:.2f}; a line tells images from texts with {percent(after.separable)} accuracy."
        )
        tables["gap"] = Table(
            ("when", "centroid distance", "cosine of pairs", "cosine of others", "separable, %"),
            tuple(
                (when, g.centroid_distance, g.paired, g.unpaired, 100 * g.separable)
                for when, g in (("untrained", before), ("trained", after))
            ),
            title="The gap between images and texts",
            note=f"{after.n:,} test images with their names, unit vectors. Separable: accuracy of a linear classifier on held-out pairs.",
        )
    said = [captions[0] for captions in imageset.captions or ()]
    alone = (
        (
            "No caption has a second picture: no held-out name was seen in training, so retrieval is as hard as it can be.",
        )
        if len(set(said)) == len(said)
        else ()
    )
    return _result(
        "clip",
        imageset,
        done,
        findings,
        tables,
        folder,
        settings,
        "share first, or reciprocal rank, %",
        (*judged.warnings, *alone),
    )


_TOLD = ("recall@10, image to name", "zero-shot, plain prompts", "zero-shot, variants prompts")


def vit_result(
    imageset: ImageSet, done: Trained, judged: Judged, folder: Path, settings: Mapping[str, object]
) -> Result:
    """The page of a ViT's training."""
    findings = [_finding("accuracy", judged.scores["accuracy"])]
    findings[0] += (
        f" Macro recall {percent(judged.balanced['accuracy'])}, calibration error (15 bins) {percent(judged.calibration or 0.0)}."
    )
    if without := judged.scores.get("accuracy without repeats"):
        findings.append(_finding(f"accuracy {without.asked}", without))
    return _result(
        "vit", imageset, done, findings, {"held-out": _table(judged)}, folder, settings, "accuracy, %", judged.warnings
    )


def _finding(name: str, score: Score) -> str:
    low, high = wilson(score.hits, score.n)
    return f"{name[0].upper()}{name[1:]}: {percent(score.value)} ({interval_text(low, high)}, n = {score.n:,}; chance {percent(score.chance)})."


def _table(judged: Judged) -> Table:
    rows = []
    for name, s in judged.scores.items():
        low, high = wilson(s.hits, s.n)
        balanced = judged.balanced.get(name)
        rows.append(
            (
                name, 100 * s.value, 100 * low, 100 * high, None if balanced is None else 100 * balanced, 100 * s.chance,
                None if s.untrained is None else 100 * s.untrained, s.n, s.asked,
            )
        )  # fmt: skip
    return Table(
        ("measure", "%", "low", "high", "macro recall, %", "chance, %", "untrained, %", "n", "what is asked"),
        tuple(rows),
        title="On held-out images",
        note="95 % Wilson intervals. These images were looked at once, with the weights that validation chose.",
        digits=1,
    )


def _result(
    kind: str,
    imageset: ImageSet,
    done: Trained,
    findings: Sequence[str],
    tables: Mapping[str, Table],
    folder: Path,
    settings: Mapping[str, object],
    judged: str,
    warnings: Sequence[str] = (),
) -> Result:
    epochs = done.fit.epochs
    best = epochs[done.fit.best]
    x = [float(e.number) for e in epochs]

    def panel(train: list[float], held: list[float]) -> dict[str, Any]:
        series = [{"name": "training", "x": x, "y": train}, {"name": "validation", "x": x, "y": held}]
        return {
            "title": "",
            "series": series,
            "marks": [{"label": "kept", "x": x[done.fit.best], "y": held[done.fit.best]}],
        }

    figures = (
        Figure(
            "loss", "curves", "How the loss falls",
            "Nats an image by epoch. Training: the batches as they were trained on, augmented. The ring: the epoch that validation chose.",
            {"x_label": "epoch", "y_label": "loss, nats",
             "panels": [panel([e.train_loss for e in epochs], [e.val_loss for e in epochs])]},
        ),
        Figure(
            "learning", "curves", "How it learns",
            "By epoch. Training: how often a batch's own text comes first, among few. Validation: the mean reciprocal rank of the right "
            "name among all names. The two lines answer different questions."
            if kind == "clip" else "Accuracy by epoch; the training accuracy is of augmented images.",
            {"x_label": "epoch", "y_label": judged,
             "panels": [panel([100 * e.train_accuracy for e in epochs], [100 * e.val_accuracy for e in epochs])]},
        ),
    )  # fmt: skip
    seconds = done.fit.seconds
    said = [
        *findings,
        f"{len(epochs)} epochs over {done.images:,} images took {seconds / 60:.1f} minutes; epoch {best.number} was kept "
        f"({done.parameters / 1e6:.1f} M parameters). The model is in {folder}, and loads by that path.",
    ]
    warnings = [*warnings]
    if done.fit.stopped == "budget":
        warnings.append("The time given was used up before the last epoch; the learning rate had come down with it.")
    if done.fit.best == len(epochs) - 1 and len(epochs) > 1:
        warnings.append("The last epoch was the best: longer training may bring more.")
    tables = {
        **tables,
        "epochs": Table(
            ("epoch", "training loss", "validation loss", "training, %", "validation, %", "learning rate", "seconds"),
            tuple(
                (
                    e.number,
                    e.train_loss,
                    e.val_loss,
                    100 * e.train_accuracy,
                    100 * e.val_accuracy,
                    f"{e.lr:.1e}",
                    e.seconds,
                )
                for e in epochs
            ),
            title="Epoch by epoch",
        ),
    }
    return Result(
        "train", f"A {kind.upper() if kind == 'clip' else 'ViT'} trained on {imageset.name}", tuple(said), tables, figures, {},
        tuple(warnings), {**settings, "kind": kind},
    )  # fmt: skip
