"""What alignment comes to, in sentences: whether the gap closed, what it cost, and when the improvement is fiction (P12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from visus.studies.common.shared import percent

if TYPE_CHECKING:
    from visus.studies.clip.alignment.measure import Figures, Fitted
    from visus.studies.common.pairs import Pair

TITLES = {
    "procrustes": "Procrustes",
    "procrustes-raw": "Procrustes, no L2",
    "centring": "centring",
    "ridge": "ridge",
    "whitening": "whitening",
}
TOLD = ("procrustes", "centring", "ridge", "whitening")
NARROW = 0.05  # a distance of centroids below which there is hardly a gap to close


def sentences(found: Sequence[Fitted], seed: int) -> tuple[str, ...]:
    """A sentence for each alignment at the most pairs, and one where figures in-sample rise that fall on other pairs."""
    most = max(f.n for f in found)
    base = next(f for f in found if f.kind == "none" and f.n == most)
    said = [
        _closed(next(f for f in found if f.kind == kind and f.n == most and not f.both), base, seed) for kind in TOLD
    ]
    return (*said, *_fiction(found, seed))


def _closed(f: Fitted, base: Fitted, seed: int) -> str:
    """Whether the gap of other pairs closed, and what it cost."""
    changes = {
        "recall@1 of the text": (base.held.to_text[0], f.held.to_text[0], _pair(f.held.found, base.held.found, seed))
    }
    if f.held.right is not None and base.held.right is not None:
        changes["zero-shot"] = (base.held.accuracy, f.held.accuracy, _pair(f.held.right, base.held.right, seed))
    costs = [what for what, (_, _, p) in changes.items() if p.high < 0]
    gains = [what for what, (_, _, p) in changes.items() if p.low > 0]
    verdict = f"at a cost in {' and '.join(costs)}" if costs else "at no cost that is more than chance"
    if gains:
        verdict += f", {'but' if costs else 'and'} gains {' and '.join(gains)}"
    where = "between images and texts moved into a space of their own" if f.kind == "whitening" else "images moved"
    told = "; ".join(
        f"{what} goes from {percent(a or 0)} to {percent(b or 0)} ({_change(p)})" for what, (a, b, p) in changes.items()
    )
    title = TITLES[f.kind][0].upper() + TITLES[f.kind][1:]
    return (
        f"{title} on {f.n:,} pairs {_width(base.held.distance, f.held.distance)} of {f.held.n:,} other pairs ({base.held.distance:.2f} to "
        f"{f.held.distance:.2f}; {where}) {verdict}: {told}."
    )


def _width(before: float, after: float) -> str:
    """What became of a gap, in words."""
    if before < NARROW:
        return "finds hardly a gap to close" if after < NARROW else "opens a gap that was not there"
    left = after / before
    if left > 1.1:
        return "widens the gap"
    if left > 0.9:
        return "leaves the gap as it is"
    return "closes part of the gap" if left > 0.5 else "closes most of the gap" if left > 0.1 else "closes the gap"


def _fiction(found: Sequence[Fitted], seed: int) -> tuple[str, ...]:
    """Maps of images that lift a figure of the pairs they were fitted on and lower it, by more than chance, on others."""
    from visus.measures.alignment import short_of

    bases = {f.n: f for f in found if f.kind == "none"}
    moved = [f for f in found if f.kind != "none" and not f.both]
    worst: tuple[float, str] = (0.0, "")
    told: set[tuple[str, int]] = set()
    for f in moved:
        base = bases[f.n]
        for what in ("recall@1", "zero-shot accuracy"):
            (inside, held), (inside0, held0) = ((_hits(x.inside, what), _hits(x.held, what)) for x in (f, base))
            if inside is None or inside0 is None or held is None or held0 is None or inside.mean() <= inside0.mean():
                continue
            if _pair(held, held0, seed).high >= 0:
                continue
            told.add((f.kind, f.n))
            few = f", {f.n:,} pairs for {f.d} dimensions" if short_of(f.n, f.d) else ""
            text = (
                f"Fitted on {f.n:,} pairs {TITLES[f.kind]} seems to lift {what} from {percent(inside0.mean())} to {percent(inside.mean())}; on "
                f"other pairs it falls from {percent(held0.mean())} to {percent(held.mean())}: the improvement is fiction{few}"
            )
            worst = max(worst, (float(inside.mean() - inside0.mean() + held0.mean() - held.mean()), text))
    if not told:
        return ()
    return (f"{worst[1]}. So it is, beyond chance, with {len(told)} of {len(moved)} fits that move images alone.",)


def _hits(figures: Figures, what: str) -> np.ndarray | None:
    return figures.found if what == "recall@1" else figures.right


def told_of_control(control: Sequence[Fitted]) -> str:
    """What Procrustes does to a space that knows nothing."""
    base, f = control[0], next(f for f in control if f.kind == "procrustes")
    return (
        f"With random weights Procrustes on {f.n:,} pairs takes the cosine of {f.held.n:,} other pairs from {base.held.cosine:.2f} to "
        f"{f.held.cosine:.2f} and the gap from {base.held.distance:.2f} to {f.held.distance:.2f}, with recall@1 of the text at "
        f"{percent(f.held.to_text[0] or 0)}: neither cosine nor gap says that pairs are understood."
    )


def warnings_of(found: Sequence[Fitted], texts: int, pairs: int, *, groups: int) -> tuple[str, ...]:
    """Numbers of pairs too few for the dimensions, and texts or images too few to tie a map down.

    texts: distinct ones of all pairs. groups: of pairs that share neither an image nor a text.
    """
    from visus.measures.alignment import short_of

    d, said = found[0].d, []
    few = sorted({f.n for f in found if short_of(f.n, d)})
    if few:
        said.append(
            f"Alignments on {', '.join(f'{n:,}' for n in few)} pairs have under three times as many pairs as the space has dimensions ({d}): "
            "believe their held-out columns alone."
        )
    if texts < min(d, pairs):
        said.append(
            f"The {pairs:,} pairs say {texts:,} different texts, in {d} dimensions: in all other directions nothing ties an alignment "
            "down, however many the pairs."
        )
    elif groups < min(d, pairs):
        said.append(
            f"The {pairs:,} pairs make {groups:,} groups that share neither image nor text, in {d} dimensions: "
            "fewer ties than directions to tie down."
        )
    return tuple(said)


def _pair(after: np.ndarray, before: np.ndarray, seed: int) -> Pair:
    from visus.studies.common.pairs import compare_right

    return compare_right(after, before, names=("after", "before"), seed=seed)


def _change(pair: Pair) -> str:
    """'+1.9 points, 95 % interval -0.2 to +3.9: may be chance', of the same pairs."""
    chance = ": may be chance" if pair.low <= 0 <= pair.high else ""
    return f"{100 * pair.difference:+.1f} points, 95 % interval {100 * pair.low:+.1f} to {100 * pair.high:+.1f}{chance}"
