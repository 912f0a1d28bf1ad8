"""What alignment comes to, in sentences: whether the gap closed, what it cost, and when the improvement is fiction."""

from __future__ import annotations

from visus.formats import percent
from visus.result import Finding
from visus.studies.clip.alignment.judge import ACCURACY, RECALL
from visus.studies.clip.alignment.measure import AlignmentMeasures, Fit
from visus.studies.clip.alignment.tables import TITLES, fit_key
from visus.studies.common.comparisons import Comparison

SPOKEN = ("procrustes", "centring", "ridge", "whitening")
NARROW = 0.05  # a distance of centroids below which there is hardly a gap to close
CURVES = {RECALL: "alignment_recall", ACCURACY: "alignment_accuracy"}
SCORES = {RECALL: "recall@1 of the text", ACCURACY: "zero-shot accuracy"}


def findings(m: AlignmentMeasures) -> tuple[Finding, ...]:
    """For each alignment at the most pairs what became of the gap, and what that gained or cost; then what is fiction, and what to beware of."""
    if not m.fits:
        return (Finding(m.left_out, kind="caution"),)
    found = []
    for kind in SPOKEN:
        f = m.at_most(kind)
        found.append(_closed(m, f))
        found += [_changed(m, f, what, change) for what, change in _changes(f)]
    return (*found, *_fiction(m), *_control(m), *_cautions(m))


def width(before: float, after: float) -> str:
    """What became of a gap, in words."""
    if before < NARROW:
        return "finds hardly a gap to close" if after < NARROW else "opens a gap that was not there"
    left = after / before
    if left > 1.1:
        return "widens the gap"
    if left > 0.9:
        return "leaves the gap as it is"
    return "closes part of the gap" if left > 0.5 else "closes most of the gap" if left > 0.1 else "closes the gap"


def _changes(f: Fit) -> list[tuple[str, Comparison]]:
    return [(what, c) for what, c in ((RECALL, f.recall), (ACCURACY, f.accuracy)) if c is not None]


def _closed(m: AlignmentMeasures, f: Fit) -> Finding:
    """Whether the gap of other pairs closed, and what that cost."""
    base = m.at_most("none")
    costs = [SCORES[what] for what, c in _changes(f) if c.high < 0]
    gains = [SCORES[what] for what, c in _changes(f) if c.low > 0]
    verdict = f"at a cost in {' and '.join(costs)}" if costs else "at no cost that is more than chance"
    if gains:
        verdict += f", {'but' if costs else 'and'} gains {' and '.join(gains)}"
    text = (
        f"{_title(f)} on {f.n:,} pairs {width(base.held.distance, f.held.distance)} on other pairs "
        f"({base.held.distance:.2f} to {f.held.distance:.2f}) {verdict}."
    )
    return Finding(text, (fit_key(m, "none", "gap"), fit_key(m, f.kind, "gap")), ("alignment",))


def _changed(m: AlignmentMeasures, f: Fit, what: str, change: Comparison) -> Finding:
    text = f"{_title(f)} takes {SCORES[what]} to {percent(f.held.score(what))} ({change.text()}"
    text += ": may be chance)." if change.undecided else ")."
    keys = (fit_key(m, f.kind, what), fit_key(m, f.kind, f"{what}-gained"))
    return Finding(text, keys, (CURVES[what], "alignment"), change.kind)


def _title(f: Fit) -> str:
    return TITLES[f.kind][0].upper() + TITLES[f.kind][1:]


def _fiction(m: AlignmentMeasures) -> list[Finding]:
    """Of the largest, and how many there are."""
    if m.worst is None:
        return []
    w = m.worst
    shows = (CURVES[w.what], "alignment")
    few = f", {w.fit.n:,} pairs for {m.d} dimensions" if w.fit.short else ""
    name = TITLES[w.fit.kind]
    return [
        Finding(
            f"Fitted on {w.fit.n:,} pairs {name} seems to lift {w.what} from {percent(w.before)} to {percent(w.after)} of these pairs.",
            shows=shows,
        ),
        Finding(f"On other pairs it falls from {percent(w.held_before)} to {percent(w.held_after)}: the improvement is fiction{few}.", shows=shows),
        Finding(f"So it is, beyond chance, with {m.fictions} of {m.moved} fits that move images alone.", shows=shows),
    ]  # fmt: skip


def _control(m: AlignmentMeasures) -> list[Finding]:
    """What Procrustes does to a space that knows nothing."""
    if not m.control:
        return []
    base, f = m.control[0].held, next(f for f in m.control if f.kind == "procrustes")
    return [
        Finding(
            f"With random weights Procrustes takes the cosine of other pairs to {f.held.cosine:.2f} and the gap from {base.distance:.2f} to "
            f"{f.held.distance:.2f}.",
            shows=("alignment-control",),
        ),
        Finding(
            f"Its recall@1 of the text is {percent(f.held.score(RECALL))}: neither cosine nor gap says that pairs are understood.",
            shows=("alignment-control",),
        ),
    ]


def _cautions(m: AlignmentMeasures) -> list[Finding]:
    """Numbers of pairs too few for the dimensions, and texts or groups too few to tie a map down."""
    texts = []
    few = sorted({f.n for f in m.fits if f.short})
    if few:
        texts.append(
            f"Alignments on {', '.join(f'{n:,}' for n in few)} pairs have under three times as many pairs as the space has dimensions ({m.d}): "
            "believe their held-out columns alone."
        )
    if m.texts < min(m.d, m.pairs):
        texts.append(
            f"The {m.pairs:,} pairs say {m.texts:,} different texts, in {m.d} dimensions: in all other directions nothing ties an alignment "
            "down, however many the pairs."
        )
    elif m.groups < min(m.d, m.pairs):
        texts.append(
            f"The {m.pairs:,} pairs make {m.groups:,} groups that share neither image nor text, in {m.d} dimensions: "
            "fewer ties than directions to tie down."
        )
    return [Finding(text, shows=("alignment",), kind="caution") for text in texts]
