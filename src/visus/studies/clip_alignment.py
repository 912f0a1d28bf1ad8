"""Does alignment close the gap, and what does it cost? Fitted on some pairs, judged on those and on others, side by side (P12)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visus.errors import DataError
from visus.result import Figure, Table
from visus.studies.common import percent
from visus.studies.parts import Part

if TYPE_CHECKING:
    from visus.measures.alignment import Alignment
    from visus.studies.clip_subject import Subject

AT = (1, 5, 10)
JUDGED = 2000  # pairs on which a side is judged, at most
TITLES = {
    "procrustes": "Procrustes",
    "procrustes-raw": "Procrustes, no L2",
    "centring": "centring",
    "ridge": "ridge",
    "whitening": "whitening",
}


@dataclass(frozen=True)
class Figures:
    """One side's figures. cosine: mean of pairs. distance: of centroids. to_text, to_image: recall at 1, 5, 10. accuracy: zero-shot or
    None. n: pairs. found, right: bool [n], whether the own text came first, and whether the class was right."""

    cosine: float
    distance: float
    to_text: tuple[float, ...]
    to_image: tuple[float, ...]
    accuracy: float | None
    n: int
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
    from visus.measures.alignment import unit64
    from visus.measures.retrieval import ranks, recall_at

    assert s.texts is not None
    images = alignment.images(s.images[rows]) if alignment else unit64(s.images[rows])
    texts = alignment.texts(s.texts[rows]) if alignment else unit64(s.texts[rows])
    keys = s.keys[rows]
    distinct, first = np.unique(keys, return_index=True)
    to_text = ranks(images, texts[first], keys, distinct)
    to_image = ranks(texts[first], images, distinct, keys)
    right = None
    if s.single and s.weights:
        weights = next(iter(s.weights.values()))
        classes = alignment.texts(weights) if alignment else weights
        assert s.labels is not None
        right = (images @ np.asarray(classes).T).argmax(axis=1) == s.labels[rows]
    return Figures(
        float(np.einsum("nd,nd->n", images, texts).mean()),
        float(np.linalg.norm(images.mean(axis=0) - texts.mean(axis=0))),
        tuple(recall_at(to_text, k) for k in AT),
        tuple(recall_at(to_image, k) for k in AT),
        None if right is None else float(right.mean()),
        len(rows),
        to_text < 1,
        right,
    )


def part(s: Subject, *, sizes: Sequence[int] | None, seed: int) -> Part:
    """Every alignment at every number of pairs, a table with in-sample and held-out columns side by side, curves, and what it comes to."""
    from visus.measures.alignment import KINDS, fit, halves
    from visus.progress import task

    assert s.texts is not None
    n, d = s.images.shape
    groups = np.arange(n) if s.named else s.keys
    if len(np.unique(groups)) < 8:
        return Part(
            warnings=(
                f"{n} pairs with {len(np.unique(groups))} texts are too few to fit an alignment and judge it; it is left out.",
            )
        )
    sizes = _sizes(n, sizes)
    found: list[Fitted] = []
    with task("fitting alignments", len(sizes) * (len(KINDS) * 2 + 1)) as progress:
        for size in sizes:
            used, others = halves(n, size, groups, seed=seed)
            # The same number on both sides: recall depends on how many there are to find among.
            m = min(len(used), len(others), JUDGED)
            rng = np.random.default_rng(seed)
            seen, held = (np.sort(rng.permutation(side)[:m]) for side in (used, others))
            found.append(Fitted("none", False, len(used), d, judge(s, seen, None), judge(s, held, None)))
            progress.advance()
            for kind in KINDS:
                for both in (False, True):
                    a = fit(kind, s.images[used], s.texts[used], both=both)
                    found.append(Fitted(kind, both, len(used), d, judge(s, seen, a), judge(s, held, a)))
                    progress.advance()
    return Part(
        _sentences(found, seed), {"alignment": _table(s, found)}, tuple(_curves(s, found)), {}, _warnings(found)
    )


def _sizes(n: int, asked: Sequence[int] | None) -> tuple[int, ...]:
    if asked:
        if asked[-1] >= n:
            raise DataError(
                f"--pairs asks for {asked[-1]:,} of {n:,} pairs, and some must be left to judge on; give less"
            )
        return tuple(asked)
    sizes = []
    k = 25
    while k <= n // 2:
        sizes.append(k)
        k *= 2
    return tuple(sizes[-6:]) or (max(n // 2, 2),)


def _table(s: Subject, found: Sequence[Fitted]) -> Table:
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
            )
        )
    return Table(
        (*columns, "judged on"),
        tuple(rows),
        title="Alignment, in-sample and held-out side by side",
        digits=3,
        note="Fitted on so many pairs; in-sample: judged on these, held-out: on equally many others"
        + (" (other images; the texts are the same class names)" if s.named else " (other images with other texts)")
        + f". Recall and zero-shot are shares. Space of {found[0].d} dimensions: under {3 * found[0].d} pairs a map is not to be believed. A "
        "rotation of both sides changes no score. gap: distance of centroids.",
    )


def _cells(f: Figures, named: bool) -> list[float | None]:
    return [f.cosine, f.distance, *f.to_text, *f.to_image, *([f.accuracy] if named else [])]


def _curves(s: Subject, found: Sequence[Fitted]) -> list[Figure]:
    """Recall@1 and zero-shot accuracy, in-sample and held-out, against the number of pairs."""
    figures = []
    views: list[tuple[str, str, Callable[[Figures], float]]] = [
        ("recall@1, image to text, %", "alignment_recall", lambda f: 100 * f.to_text[0])
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
                "Images moved, texts as they are. What rises on the left and falls on the right is memory of the pairs.",
                {"x_label": "pairs fitted on", "y_label": label, "x_log": True, "y_log": False, "panels": panels},
            )
        )
    return figures


def _sentences(found: Sequence[Fitted], seed: int) -> tuple[str, ...]:
    """Whether the gap closed, what that cost, and when the improvement is fiction; of Procrustes at the most and the fewest pairs."""
    from visus.measures.alignment import short_of

    said = []
    most = max(f.n for f in found)
    base = next(f for f in found if f.kind == "none" and f.n == most)
    for kind in ("procrustes", "centring", "ridge"):
        f = next(x for x in found if x.kind == kind and x.n == most and not x.both)
        zero = ""
        if f.held.right is not None and base.held.right is not None:
            zero = f"; zero-shot goes from {percent(base.held.accuracy or 0)} to {percent(f.held.accuracy or 0)} "
            zero += f"({_change(f.held.right, base.held.right, seed)})"
        title = TITLES[kind][0].upper() + TITLES[kind][1:]
        said.append(
            f"{title} on {f.n:,} pairs (images moved) takes the gap of {f.held.n:,} other pairs from {base.held.distance:.2f} to "
            f"{f.held.distance:.2f}; recall@1 of the text goes from {percent(base.held.to_text[0])} to {percent(f.held.to_text[0])} "
            f"({_change(f.held.found, base.held.found, seed)}){zero}."
        )
    fiction = [
        (f, b)
        for f in found
        for b in found
        if f.kind == "procrustes" and not f.both and b.kind == "none" and b.n == f.n
        and f.inside.to_text[0] > b.inside.to_text[0] and f.held.to_text[0] < b.held.to_text[0]
    ]  # fmt: skip
    if fiction:
        f, b = max(fiction, key=lambda p: p[0].inside.to_text[0] - p[0].held.to_text[0])
        few = f", {f.n:,} pairs for {f.d} dimensions" if short_of(f.n, f.d) else ""
        said.append(
            f"Fitted on {f.n:,} pairs Procrustes seems to lift recall@1 from {percent(b.inside.to_text[0])} to "
            f"{percent(f.inside.to_text[0])}; on other pairs it "
            f"falls from {percent(b.held.to_text[0])} to {percent(f.held.to_text[0])}: the improvement is fiction{few}."
        )
    return tuple(said)


def _change(after: np.ndarray, before: np.ndarray, seed: int) -> str:
    """'+1.9 points, 95 % interval -0.2 to 3.9: may be chance', of the same pairs."""
    from visus.studies.pairs import compare_right

    pair = compare_right(after, before, names=("after", "before"), seed=seed)
    chance = ": may be chance" if pair.low <= 0 <= pair.high else ""
    return f"{100 * pair.difference:+.1f} points, 95 % interval {100 * pair.low:+.1f} to {100 * pair.high:+.1f}{chance}"


def _warnings(found: Sequence[Fitted]) -> tuple[str, ...]:
    from visus.measures.alignment import short_of

    few = sorted({f.n for f in found if short_of(f.n, f.d)})
    if not few:
        return ()
    return (
        f"Alignments on {', '.join(f'{n:,}' for n in few)} pairs have under three times as many pairs as the space has dimensions ({found[0].d}): "
        "believe their held-out columns alone.",
    )
