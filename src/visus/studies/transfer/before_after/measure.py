"""Features before and after training: the same layers, the same images, other weights, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visus.errors import DataError

if TYPE_CHECKING:
    from visus.images import ImageSet, Splits
    from visus.models import Backbone
    from visus.models.tap import Tap
    from visus.studies.common.schema1 import Figure, Table
    from visus.studies.transfer.before_after.subject import Mistakes, Move
    from visus.studies.transfer.layers.scores import LayerScore

Vectors = dict[tuple[str, str], np.ndarray]
Scores = dict[tuple[str, str], "LayerScore"]


@dataclass(frozen=True)
class BeforeAfter:
    """A part of a study's Result, with names that begin with 'before and after' (arrays and figures: 'before-after').

    scores: (state, tap name) -> everything measured there, those that were known already included.
    """

    findings: tuple[str, ...]
    tables: Mapping[str, Table]
    figures: tuple[Figure, ...]
    arrays: Mapping[str, np.ndarray]
    warnings: tuple[str, ...]
    scores: Mapping[tuple[str, str], LayerScore]


def before_after(
    imageset: ImageSet,
    states: Mapping[str, Backbone],
    *,
    splits: Splits,
    y: np.ndarray,
    kept: np.ndarray,
    taps: Sequence[str] = ("early", "middle", "late"),
    pool: str = "mean",
    protocol: str = "visus",
    precision: str = "fp32",
    engine: str = "auto",
    device: str = "cpu",
    maps: bool = True,
    seed: int = 0,
    known: Mapping[tuple[str, str], LayerScore] | None = None,
    test_predictions: Mapping[str, np.ndarray] | None = None,
) -> BeforeAfter:
    """Compare the features of one architecture under several sets of weights, layer by layer, on the same test images.

    states: name -> network, two or more; all are compared with the first, such as {'pretrained': ..., 'fine-tuned': ...,
    'random': ...}. A network that has Backbone.random is taken for a control and no mistakes are set against it.
    kept: int64 [n], positions in the ImageSet; y: int64 [n], their labels; splits: in the numbering of kept (as `common_ground`
    gives them). taps: names or aliases of the first network. pool, protocol, precision, engine, device: as `transfer`.
    known: (state, tap name) -> a score made elsewhere with the same settings, which is then not computed again.
    test_predictions: name -> int64 [n_test], what the classifiers themselves answered on the test images, the earlier one first.

    Features come from the store where it has them; their fingerprints are taken anew, so that weights trained in place are
    never mistaken for those before. Raises DataError when there are fewer than two networks, when two are one object,
    when their taps differ in name, kind or shape, or when a picture of `kept` could not be decoded; SpecError for unknown taps.
    """
    from visus.studies.common.shared import tap_label
    from visus.studies.transfer.before_after import figures as pictures
    from visus.studies.transfer.before_after import findings as words
    from visus.studies.transfer.before_after.subject import Course
    from visus.studies.transfer.before_after.tables import tables

    chosen = _same_taps(states, taps)
    if len(test_predictions or {}) == 1:
        raise DataError("test_predictions holds one classifier; give those of an earlier and a later one, or none")
    if len(y) != len(kept):
        raise DataError(f"{len(y)} labels for {len(kept)} images; give the label of every kept image")
    first = next(iter(states.values()))
    labels = {tap.name: tap_label(first, tap.name) for tap in chosen}
    scores, vectors = _scored(
        imageset,
        states,
        chosen,
        splits=splits,
        y=y,
        kept=kept,
        labels=labels,
        pool=pool,
        protocol=protocol,
        precision=precision,
        engine=engine,
        device=device,
        seed=seed,
        known=known or {},
    )
    names, test_y = tuple(states), y[splits.test]
    random = frozenset(name for name, network in states.items() if network.random)
    late = {n: scores[n, chosen[-1].name].probe.predictions for n in names if n == names[0] or n not in random}
    course = Course(
        images=imageset,
        positions=kept[splits.test],
        test_y=test_y,
        states=names,
        random=random,
        taps=chosen,
        labels=labels,
        scores=scores,
        vectors=vectors,
        moves=_moves(names, chosen, labels, scores, vectors, test_y, seed=seed),
        mistakes=(
            *_mistakes("classifier", test_predictions or {}, test_y, n_classes=len(imageset.classes)),
            *_mistakes(f"probe, {labels[chosen[-1].name]}", late, test_y, n_classes=len(imageset.classes)),
        ),
    )
    figures, arrays = pictures.draw(course, maps=maps, seed=seed)
    return BeforeAfter(
        findings=words.findings(course),
        tables=tables(course),
        figures=figures,
        arrays=arrays,
        warnings=words.warnings(course, known=known or {}),
        scores=scores,
    )


def _same_taps(states: Mapping[str, Backbone], names: Sequence[str]) -> tuple[Tap, ...]:
    """The taps of the first network, in order of depth; every other must have the same ones."""
    if len(states) < 2:
        raise DataError(f"{len(states)} networks to compare; give one before and at least one after")
    (before, first), *others = states.items()
    chosen = first.resolve(names)
    seen = {id(first.module): before}
    for name, network in others:
        if id(network.module) in seen:
            raise DataError(
                f"{seen[id(network.module)]!r} and {name!r} are one network object; copy it before training, so that both remain"
            )
        seen[id(network.module)] = name
        own = {tap.name: tap for tap in network.taps}
        for tap in chosen:
            if tap.name not in own:
                raise DataError(f"{name!r} has no tap {tap.name}, which {before!r} has; compare one architecture")
            other = own[tap.name]
            if (tap.kind, tap.shape) != (other.kind, other.shape):
                raise DataError(
                    f"tap {tap.name} is {tap.kind} {list(tap.shape)} in {before!r} but {other.kind} {list(other.shape)} in {name!r}; "
                    "compare one architecture at one image size"
                )
    return chosen


def _scored(
    imageset: ImageSet,
    states: Mapping[str, Backbone],
    taps: Sequence[Tap],
    *,
    splits: Splits,
    y: np.ndarray,
    kept: np.ndarray,
    labels: Mapping[str, str],
    pool: str,
    protocol: str,
    precision: str,
    engine: str,
    device: str,
    seed: int,
    known: Mapping[tuple[str, str], LayerScore],
) -> tuple[Scores, Vectors]:
    """The score of every layer of every network, and its vectors for the test images (of the others no more is needed)."""
    from visus.features import extract
    from visus.measures.reduce import pca_from_train
    from visus.progress import task
    from visus.studies.common.shared import rows_of
    from visus.studies.transfer.layers.scores import score_layer

    scores: Scores = {}
    vectors: Vectors = {}
    with task("before and after", len(states) * len(taps)) as progress:
        for name, network in states.items():
            found = extract(
                imageset,
                network,
                [tap.name for tap in taps],
                pool=pool,
                precision=precision,
                engine=engine,
                device=device,
            )
            if missing := len(np.setdiff1d(kept, found.rows)):
                raise DataError(
                    f"{name!r}: {missing} of the images to compare could not be decoded; leave them out of all networks"
                )
            for tap in taps:
                x = rows_of(found, tap.name, kept)
                if pool == "flatten":
                    x = pca_from_train(x, splits.train, seed=seed)
                key = (name, tap.name)
                if key in known:
                    scores[key] = _checked(known[key], len(splits.test), key)
                else:
                    scores[key] = score_layer(
                        x,
                        y,
                        splits,
                        model=name,
                        tap=tap.name,
                        label=labels[tap.name],
                        n_classes=len(imageset.classes),
                        random_x=None,
                        controls=False,
                        protocol=protocol,
                        device=device,
                        seed=seed,
                    )
                vectors[key] = np.asarray(x[splits.test])
                progress.advance()
    return scores, vectors


def _checked(score: LayerScore, n: int, key: tuple[str, str]) -> LayerScore:
    if len(score.probe.predictions) != n:
        raise DataError(
            f"the known score of {key[0]!r}, {key[1]}, has {len(score.probe.predictions)} test images, this split has {n}; use one split"
        )
    return score


def _moves(
    names: Sequence[str],
    taps: Sequence[Tap],
    labels: Mapping[str, str],
    scores: Scores,
    vectors: Vectors,
    test_y: np.ndarray,
    *,
    seed: int,
) -> tuple[Move, ...]:
    from visus.measures.cka import unbiased_cka
    from visus.measures.compare import holm, paired_bootstrap
    from visus.measures.separability import silhouette_cosine
    from visus.studies.common.pairs import compare_right
    from visus.studies.transfer.before_after.subject import Move

    before, *others = names
    apart = {key: silhouette_cosine(x, test_y).samples for key, x in vectors.items()}
    keys = [(after, tap) for after in others for tap in taps]
    right = {key: score.probe.predictions == test_y for key, score in scores.items()}
    probes = [
        compare_right(right[after, tap.name], right[before, tap.name], names=(after, before), seed=seed)
        for after, tap in keys
    ]
    corrected = holm(np.array([p.p for p in probes]))
    return tuple(
        Move(
            after=after,
            tap=tap,
            label=labels[tap.name],
            probe=probe,
            holm=float(p),
            silhouette=paired_bootstrap(apart[after, tap.name], apart[before, tap.name], seed=seed),
            cka=unbiased_cka(vectors[before, tap.name], vectors[after, tap.name]),
        )
        for (after, tap), probe, p in zip(keys, probes, corrected, strict=True)
    )


def _mistakes(
    judge: str, predictions: Mapping[str, np.ndarray], test_y: np.ndarray, *, n_classes: int
) -> list[Mistakes]:
    from visus.measures.confusion_change import confusion_changes
    from visus.studies.transfer.before_after.subject import Mistakes

    """Which mistakes of the first set of predictions the others make more or less often."""
    if not predictions:
        return []
    (before, early), *others = predictions.items()
    return [
        Mistakes(judge, before, after, tuple(confusion_changes(test_y, early, late, n_classes=n_classes)))
        for after, late in others
    ]
