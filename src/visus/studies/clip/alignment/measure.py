"""Every alignment fitted on growing numbers of pairs, judged on these and on others; what it gains and costs there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.measures.alignment import KINDS, fit, short_of
from visus.progress import task
from visus.studies.clip.alignment.judge import ACCURACY, RECALL, Judged, SideMeasures, Sides, judge, sides
from visus.studies.clip.pairs import PairedEmbeddings
from visus.studies.common.comparisons import Comparison, compare

FEWEST_GROUPS = 8
SMALLEST, SIZES = 25, 6  # pairs that the first alignment is fitted on, and how many doublings at most


@dataclass(frozen=True)
class Fit:
    """An alignment on n pairs (kind 'none': the space as it is), judged on equally many of these and of others. both: moves both sides.
    short: n is too small for the dimensions. half_width: of an interval on the other pairs, at most.
    recall, accuracy: of the other pairs, compared with the space as it is (None for that itself, and where both sides are moved alike)."""

    kind: str
    both: bool
    n: int
    short: bool
    inside: SideMeasures
    held: SideMeasures
    half_width: float
    recall: Comparison | None = None
    accuracy: Comparison | None = None


@dataclass(frozen=True)
class Fiction:
    """A figure that an alignment lifts on the pairs it was fitted on, and lowers, by more than chance, on others. what: RECALL or
    ACCURACY; before, after: on its own pairs; held_before, held_after: on others."""

    fit: Fit
    what: str
    before: float
    after: float
    held_before: float
    held_after: float

    @property
    def size(self) -> float:
        """What it seems to gain and what it loses, together."""
        return self.after - self.before + self.held_before - self.held_after


@dataclass(frozen=True, kw_only=True)
class AlignmentMeasures:
    """name: of the space, d: its dimensions. zero_shot: whether there are classes. pairs, texts, groups: how many pairs, different texts, and groups
    of pairs that share neither image nor text. fits: by size, the space as it is first; control: the same of random weights at the most pairs.
    fictions: alignments that move images alone and whose improvement is memory of their pairs, of moved ones; worst: the largest of them.
    left_out: why nothing was fitted, or ''."""

    name: str
    d: int
    zero_shot: bool
    texts_are_classes: bool
    pairs: int
    texts: int
    groups: int
    fits: tuple[Fit, ...] = ()
    control: tuple[Fit, ...] = ()
    worst: Fiction | None = None
    fictions: int = 0
    moved: int = 0
    left_out: str = ""

    def at_most(self, kind: str) -> Fit:
        """The alignment that moves images alone, on the most pairs; 'none': the space as it is, judged on the same."""
        most = max(f.n for f in self.fits)
        return next(f for f in self.fits if f.kind == kind and f.n == most and not f.both)


def measure(
    pairs: PairedEmbeddings, *, sizes: Sequence[int] | None, seed: int, control: PairedEmbeddings | None = None
) -> AlignmentMeasures:
    """sizes: how many pairs to fit on (None: up to half of them, doubling). control: the same with random weights.

    Raises DataError for sizes that leave no pairs to judge on.
    """
    n, groups = len(pairs), pairs.groups
    counts = np.bincount(np.unique(groups, return_inverse=True)[1])
    largest = int(counts.max())
    free = n if 2 * largest <= n else n - largest
    left_out = ""
    chosen: tuple[int, ...] = ()
    if len(counts) < FEWEST_GROUPS:
        left_out = f"{n:,} pairs make {len(counts)} groups that share no image or text, too few to fit an alignment and judge it; it is left out."
    else:
        chosen = fit_sizes(n, sizes, free)
        if not chosen:
            left_out = (
                f"{largest:,} of {n:,} pairs hang together by shared images and texts, and the others are too few to fit an alignment "
                "on; it is left out."
            )
    fits: list[Fit] = []
    with task("fitting alignments", len(chosen) * (len(KINDS) * 2 + 1)) as progress:
        for size in chosen:
            fits += _fit_all(pairs, sides(n, size, groups, seed=seed), seed=seed, done=progress.advance)
    beside: list[Fit] = []
    if chosen and control is not None and len(control) == n:
        beside = _fit_all(control, sides(n, chosen[-1], groups, seed=seed), seed=seed, alone=True)
    fictions = _fictions(fits)
    return AlignmentMeasures(
        name=pairs.name,
        d=pairs.images.shape[1],
        zero_shot=pairs.classifier is not None,
        texts_are_classes=pairs.texts_are_classes,
        pairs=n,
        texts=len(np.unique(pairs.text_keys)),
        groups=len(counts),
        fits=tuple(fits),
        control=tuple(beside),
        worst=max(fictions, key=lambda f: f.size, default=None),
        fictions=len({(f.fit.kind, f.fit.n) for f in fictions}),
        moved=sum(f.kind != "none" and not f.both for f in fits),
        left_out=left_out,
    )


def fit_sizes(n: int, asked: Sequence[int] | None, free: int) -> tuple[int, ...]:
    """Numbers of pairs to fit on. free: pairs that may be fitted on, all but those of a group of more than half."""
    if asked:
        if free < n and asked[-1] > free:
            raise DataError(
                f"--pairs asks for {asked[-1]:,}, but {n - free:,} of {n:,} pairs hang together by shared images and texts; give at most {free:,}"
            )
        if asked[-1] >= n:
            raise DataError(
                f"--pairs asks for {asked[-1]:,} of {n:,} pairs, and some must be left to judge on; give less"
            )
        return tuple(asked)
    sizes = []
    k, most = SMALLEST, min(n // 2, free)
    while k <= most:
        sizes.append(k)
        k *= 2
    return tuple(sizes[-SIZES:]) or ((max(most, 2),) if free >= 2 else ())


def _fit_all(
    pairs: PairedEmbeddings,
    on: Sides,
    *,
    seed: int,
    alone: bool = False,
    done: Callable[[], object] = lambda: None,
) -> list[Fit]:
    """The space as it is, every alignment of images alone, compared with it, and of both sides. alone: no both, no comparison. done: after each."""
    d = pairs.images.shape[1]
    base = judge(pairs, on.inside, None), judge(pairs, on.held, None)
    fits = [_fit("none", False, on, d, base)]
    done()
    for kind in KINDS:
        for both in (False,) if alone else (False, True):
            alignment = fit(kind, pairs.images[on.used], pairs.texts[on.used], both=both, seed=seed)
            judged = judge(pairs, on.inside, alignment), judge(pairs, on.held, alignment)
            compared = (None, None) if alone or both else _compare(judged[1], base[1], seed)
            fits.append(_fit(kind, both, on, d, judged, *compared))
            done()
    return fits


def _fit(
    kind: str,
    both: bool,
    on: Sides,
    d: int,
    judged: tuple[Judged, Judged],
    recall: Comparison | None = None,
    accuracy: Comparison | None = None,
) -> Fit:
    inside, held = judged
    n = len(on.used)
    return Fit(kind, both, n, short_of(n, d), inside.side, held.side, held.half_width, recall, accuracy)


def _compare(after: Judged, before: Judged, seed: int) -> tuple[Comparison, Comparison | None]:
    """Recall@1 of the text and zero-shot accuracy of the same other pairs."""
    names = ("after", "before")
    recall = compare(after.found, before.found, names=names, seed=seed)
    if after.right is None or before.right is None:
        return recall, None
    return recall, compare(after.right, before.right, names=names, seed=seed)


def _fictions(fits: Sequence[Fit]) -> list[Fiction]:
    """Of the alignments that move images alone."""
    bases = {f.n: f for f in fits if f.kind == "none"}
    found = []
    for f in fits:
        for what, change in ((RECALL, f.recall), (ACCURACY, f.accuracy)):
            if change is None or change.high >= 0:
                continue
            before, after, held_before, held_after = (
                side.score(what) for side in (bases[f.n].inside, f.inside, bases[f.n].held, f.held)
            )
            if after > before:
                found.append(Fiction(f, what, before, after, held_before, held_after))
    return found
