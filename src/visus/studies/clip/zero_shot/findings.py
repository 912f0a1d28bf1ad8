"""What zero-shot classification comes to, in sentences."""

from __future__ import annotations

from visus.formats import interval_text, percent
from visus.result import Finding
from visus.studies.clip.zero_shot.measure import ZeroShotMeasures
from visus.studies.clip.zero_shot.tables import difference_key, metric_key

SURE = 0.05  # of Holm's p, under which a difference is called more than chance


def findings(m: ZeroShotMeasures) -> tuple[Finding, ...]:
    """Of the first prompt set, beside random weights, and whether the prompts matter."""
    found = _precisions(m) if m.precisions else _accuracy(m)
    if m.unseen:
        means = "they have no average precision" if m.precisions else "they can be answered but never be right"
        text = f"{len(m.unseen)} of {len(m.classes)} classes have no test image (the first: {m.unseen[0]}); {means}."
        found.append(Finding(text, kind="caution"))
    return tuple(found)


def _accuracy(m: ZeroShotMeasures) -> list[Finding]:
    first, shows = m.scores[0], ("zero_shot", "zero-shot")
    of = [metric_key(m, first.key, what) for what in ("accuracy", "balanced-accuracy", "ece")]
    found = [
        Finding(
            f"Zero-shot with {first.prompts} prompts, {m.name} is right on {percent(first.accuracy.value)} of {first.accuracy.n:,} images "
            f"({interval_text(first.accuracy.low, first.accuracy.high)}).",
            (of[0],),
            shows,
        ),
        Finding(
            f"Averaged over its {len(m.classes)} classes that is {percent(first.balanced)}; the calibration error is {percent(first.ece)}.",
            tuple(of[1:]),
            shows,
        ),
    ]
    if m.control is not None:
        text = f"The same network with random weights is right on {percent(m.control.accuracy.value)}; chance is {percent(m.chance)}."
        found.append(Finding(text, (metric_key(m, m.control.key, "accuracy"),), shows))
    if len(m.scores) > 1:
        found.append(_prompts(m))
    return found


def _prompts(m: ZeroShotMeasures) -> Finding:
    """Whether any two prompt sets differ by more than chance, and the two that differ most."""
    sure = [c for c in m.comparisons if c.p_holm is not None and c.p_holm < SURE]
    if not sure:
        text = (
            f"The prompt sets lie within {100 * m.spread:.1f} points; "
            "no difference between two of them is more than chance (McNemar, Holm)."
        )
        return Finding(text, shows=("prompt-pairs",), kind="undecided")
    top = max(sure, key=lambda c: abs(c.difference))
    better, worse = (top.a, top.b) if top.difference > 0 else (top.b, top.a)
    text = (
        f"Prompts matter here: {better} beats {worse} by {100 * abs(top.difference):.1f} points "
        f"({top.only_a + top.only_b} images flip, more than chance)."
    )
    return Finding(text, (difference_key(m, top),), ("prompt-pairs", "images-by-prompts"))


def _precisions(m: ZeroShotMeasures) -> list[Finding]:
    return [
        Finding(
            f"With {p.prompts} prompts the mean average precision of {m.name} is {percent(p.mean)} over {len(p.classes)} classes "
            f"({m.n:,} images, several labels each; blind answers: {percent(p.blind)}).",
            (metric_key(m, p.key, "mean-average-precision"),),
            ("average-precision",),
        )
        for p in m.precisions
    ]
