"""Does alignment close the gap, and what does it cost? Fitted on some pairs, judged on those and on others, side by side (P12)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visus.errors import DataError
from visus.studies.clip.alignment.findings import TITLES, sentences, told_of_control, warnings_of
from visus.studies.common.schema1 import Figure, Table
from visus.studies.common.sections import Part

if TYPE_CHECKING:
    from visus.measures.alignment import Alignment
    from visus.studies.clip.pairs import Subject

AT = (1, 5, 10)
JUDGED = 2000  # pairs on which a side is judged, at most


@dataclass(frozen=True)
class Figures:
    """One side's figures. cosine: mean of pairs. distance: of centroids. to_text, to_image: recall at 1, 5, 10 (None where no more are to
    find among). accuracy: zero-shot or None. n: pairs. asked: different images or texts of them, the fewer. found, right: bool [images], whether
    a text of its own came first, and whether the class was right."""

    cosine: float
    distance: float
    to_text: tuple[float | None, ...]
    to_image: tuple[float | None, ...]
    accuracy: float | None
    n: int
    asked: int
    found: np.ndarray
    right: np.ndarray | None


@dataclass(frozen=True)
class Fitted:
    """An alignment on n pairs (kind 'none': as the model gives them): in-sample and held-out figures, judged on equally many pairs."""

    kind: str
    both: bool
    n: int
    d: int
    inside: Figures
    held: Figures


def sizes_of(text: str | None) -> tuple[int, ...] | None:
    """'50,200,800' -> (50, 200, 800). Raises DataError for anything but whole numbers from 2 up."""
    if text is None:
        return None
    try:
        sizes = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise DataError(f"--pairs is {text!r}; give whole numbers, as 50,200,800") from error
    if sizes[0] < 2:
        raise DataError(f"--pairs has {sizes[0]}; an alignment needs at least 2 pairs")
    return sizes


def judge(s: Subject, rows: np.ndarray, alignment: Alignment | None) -> Figures:
    """Cosine, retrieval both ways and zero-shot accuracy of the pairs at `rows`, after the alignment or without any."""
    from visus.measures.retrieval import partner_ranks
    from visus.measures.rows import unit64

    assert s.texts is not None
    images = alignment.images(s.images[rows]) if alignment else unit64(s.images[rows])
    texts = alignment.texts(s.texts[rows]) if alignment else unit64(s.texts[rows])
    shown, at = np.unique(s.image_keys[rows], return_index=True)
    said, first = np.unique(s.text_keys[rows], return_index=True)
    partners = s.partners[shown][:, said].tocsr()
    to_text = partner_ranks(images[at], texts[first], partners)
    to_image = partner_ranks(texts[first], images[at], partners.T.tocsr())
    right = None
    if s.single and s.weights:
        weights = next(iter(s.weights.values()))
        classes = alignment.texts(weights) if alignment else weights
        assert s.labels is not None
        right = (images[at] @ np.asarray(classes).T).argmax(axis=1) == s.labels[rows][at]
    return Figures(
        float(np.einsum("nd,nd->n", images, texts).mean()),
        float(np.linalg.norm(images.mean(axis=0) - texts.mean(axis=0))),
        _recalls(to_text, len(said)),
        _recalls(to_image, len(shown)),
        None if right is None else float(right.mean()),
        len(rows),
        min(len(shown), len(said)) if not s.named else len(shown),
        to_text < 1,
        right,
    )


def _recalls(ranks: np.ndarray, among: int) -> tuple[float | None, ...]:
    from visus.measures.retrieval import recall_at

    return tuple(recall_at(ranks, k) if k == 1 or k < among else None for k in AT)


def part(s: Subject, *, sizes: Sequence[int] | None, seed: int, untrained: Subject | None = None) -> Part:
    """Every alignment at every number of pairs, a table with in-sample and held-out columns side by side, curves, and what it comes to.

    untrained: the same with random weights, as a control at the most pairs.
    """
    from visus.measures.alignment import KINDS, fit
    from visus.progress import task

    assert s.texts is not None
    n, d = s.images.shape
    groups = s.groups
    if len(np.unique(groups)) < 8:
        return Part(
            warnings=(
                f"{n:,} pairs make {len(np.unique(groups))} groups that share no image or text, too few to fit an alignment "
                "and judge it; it is left out.",
            )
        )
    largest = int(np.bincount(np.unique(groups, return_inverse=True)[1]).max())
    sizes = _sizes(n, sizes, n if 2 * largest <= n else n - largest)
    if not sizes:
        return Part(
            warnings=(
                f"{largest:,} of {n:,} pairs hang together by shared images and texts, and the others are too few to fit an alignment "
                "on; it is left out.",
            )
        )
    found: list[Fitted] = []
    with task("fitting alignments", len(sizes) * (len(KINDS) * 2 + 1)) as progress:
        for size in sizes:
            used, seen, held = sides(n, size, groups, seed=seed)
            found.append(Fitted("none", False, len(used), d, judge(s, seen, None), judge(s, held, None)))
            progress.advance()
            for kind in KINDS:
                for both in (False, True):
                    a = fit(kind, s.images[used], s.texts[used], both=both, seed=seed)
                    found.append(Fitted(kind, both, len(used), d, judge(s, seen, a), judge(s, held, a)))
                    progress.advance()
    tables, said = {"alignment": _table(s, found)}, list(sentences(found, seed))
    if untrained is not None and len(untrained.images) == n:
        used, seen, held = sides(n, sizes[-1], groups, seed=seed)
        control = [Fitted("none", False, len(used), d, judge(untrained, seen, None), judge(untrained, held, None))]
        for kind in KINDS:
            a = fit(kind, untrained.images[used], untrained.texts[used], seed=seed)  # type: ignore[index]
            control.append(Fitted(kind, False, len(used), d, judge(untrained, seen, a), judge(untrained, held, a)))
        tables["alignment control"] = _table(
            untrained, control, title="Alignment of the same network with random weights"
        )
        said.append(told_of_control(control))
    return Part(
        tuple(said),
        tables,
        tuple(_curves(s, found)),
        {},
        warnings_of(found, len(np.unique(s.keys)), n, groups=len(np.unique(groups))),
    )


def sides(n: int, size: int, groups: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions to fit on, and as many of these and of the others to judge on: recall depends on how many there are to find among."""
    from visus.measures.alignment import halves

    used, others = halves(n, size, groups, seed=seed)
    m = min(len(used), len(others), JUDGED)
    rng = np.random.default_rng(seed)
    seen, held = (np.sort(rng.permutation(side)[:m]) for side in (used, others))
    return used, seen, held


def _sizes(n: int, asked: Sequence[int] | None, free: int) -> tuple[int, ...]:
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
    k, most = 25, min(n // 2, free)
    while k <= most:
        sizes.append(k)
        k *= 2
    return tuple(sizes[-6:]) or ((max(most, 2),) if free >= 2 else ())


def _table(
    s: Subject, found: Sequence[Fitted], *, title: str = "Alignment, in-sample and held-out side by side"
) -> Table:
    from visus.measures import wilson

    named = found[0].inside.accuracy is not None
    columns = ["alignment", "moves", "fitted on"]
    for what in (
        "cosine",
        "gap",
        "image to text @1",
        "@5",
        "@10",
        "text to image @1",
        "@5 ",
        "@10 ",
        *(("zero-shot",) if named else ()),
    ):
        columns += [f"{what}, in-sample", f"{what}, held-out"]
    rows = []
    for f in found:
        cells: list[object] = []
        for a, b in zip(_cells(f.inside, named), _cells(f.held, named), strict=True):
            cells += [a, b]
        rows.append(
            (
                TITLES.get(f.kind, f.kind),
                "" if f.kind == "none" else "both" if f.both else "images",
                f.n,
                *cells,
                f.held.n,
                0.5 * (wilson(f.held.asked / 2, f.held.asked)[1] - wilson(f.held.asked / 2, f.held.asked)[0]),
            )
        )
    return Table(
        (*columns, "judged on", "± at most"),
        tuple(rows),
        title=title,
        digits=3,
        note="Fitted on so many pairs; in-sample: judged on these, held-out: on equally many others"
        + (" (other images; the texts are the same class names)" if s.named else " (other images with other texts)")
        + f". Recall and zero-shot are shares. ± at most: half of the 95 % Wilson interval of a share of one half. Space of {found[0].d} "
        f"dimensions: of maps fitted on under {3 * found[0].d} pairs believe the held-out columns alone. A rotation of both sides changes no score. "
        "gap: distance of centroids. A dash: no more to find among than are counted.",
    )


def _cells(f: Figures, named: bool) -> list[float | None]:
    return [f.cosine, f.distance, *f.to_text, *f.to_image, *([f.accuracy] if named else [])]


def _curves(s: Subject, found: Sequence[Fitted]) -> list[Figure]:
    """Recall@1 and zero-shot accuracy, in-sample and held-out, against the number of pairs."""
    from visus.measures.alignment import short_of

    figures = []
    d = found[0].d
    short = [f.n for f in found if short_of(f.n, d)]
    few = f"; up to {max(short):,} pairs are too few for {d} dimensions (under {3 * d:,})" if short else ""
    views: list[tuple[str, str, Callable[[Figures], float]]] = [
        ("recall@1, image to text, %", "alignment_recall", lambda f: 100 * (f.to_text[0] or 0.0))
    ]
    if found[0].inside.accuracy is not None:
        views.append(("zero-shot accuracy, %", "alignment_accuracy", lambda f: 100 * (f.accuracy or 0.0)))
    for label, name, value in views:
        panels = []
        for title, side in (("in-sample", "inside"), ("held-out", "held")):
            series = []
            for kind in ("none", *TITLES):
                own = [f for f in found if f.kind == kind and not f.both]
                series.append(
                    {
                        "name": TITLES.get(kind, "as it is"),
                        "x": [float(f.n) for f in own],
                        "y": [value(getattr(f, side)) for f in own],
                    }
                )
            panels.append({"title": title, "series": series, "marks": []})
        figures.append(
            Figure(
                name,
                "curves",
                f"What alignment does: {label.removesuffix(', %')}",
                f"Images moved, texts as they are. What rises on the left and falls on the right is memory of the pairs{few}. "
                "Read it beside 'as it is' at the same number: each number is judged on as many pairs, and among more a text is harder to find.",
                {"x_label": "pairs fitted on", "y_label": label, "x_log": True, "y_log": False, "panels": panels},
            )
        )
    return figures
