"""What the gap comes to, in sentences: how wide it is, whether it matters, and how well pairs find each other."""

from __future__ import annotations

from visus.formats import format_cell, interval_text, percent
from visus.result import Finding
from visus.studies.clip.gap.measure import GapMeasures
from visus.studies.clip.gap.retrieval import Retrieval
from visus.studies.clip.gap.tables import closed_key, recall_key, space_key


def findings(m: GapMeasures) -> tuple[Finding, ...]:
    """Of the space beside its control, of closing the gap, and of retrieval both ways."""
    return (*_space(m), *_closing(m), *(_retrieval(m, one) for one in m.retrieval))


def _space(m: GapMeasures) -> list[Finding]:
    x = m.space
    beside = "" if m.control is None else f" (with random weights {m.control.centroid_distance:.2f})"
    distances = tuple(space_key(m, space, "centroid-distance") for space in m.spaces)
    cosines = tuple(space_key(m, x, what) for what in ("paired", "unpaired"))
    separable = interval_text(x.separable.low, x.separable.high)
    return [
        Finding(f"Images and texts of {x.name} lie {x.centroid_distance:.2f} apart{beside}.", distances, ("gap",)),
        Finding(
            f"A pair's cosine is {x.paired:.2f}, that of images with other texts {format_cell(x.unpaired, 2)}.", cosines, ("gap",)
        ),
        Finding(
            f"A line tells images from texts with {percent(x.separable.value)} accuracy ({separable}).",
            (space_key(m, x, "separable"),),
            ("gap", *(f"modality_{one.method}" for one in m.maps.maps)),
        ),
        Finding(f"Images stand in a cone of {x.images.angle:.0f}°, texts in one of {x.texts.angle:.0f}°.", shows=("gap",)),
    ]  # fmt: skip


def _closing(m: GapMeasures) -> list[Finding]:
    sweep, change = m.sweep, m.sweep.change
    verdict = "closing it helps here" if change.low > 0 else "closing it costs accuracy here"
    if change.undecided:
        verdict = "no sign that the gap itself costs accuracy"
    return [
        Finding(
            f"Closing the gap changes {sweep.score} by {change.text()}: {verdict}.",
            (closed_key(m, "change"),),
            ("gap_shift", "gap-shift"),
            change.kind,
        ),
        Finding(
            f"The centroids then lie {sweep.closed.centroid_distance:.2f} apart, and the contrastive loss goes from {sweep.trained.loss:.2f} to "
            f"{sweep.closed.loss:.2f} nats.",
            (closed_key(m, "loss"),),
            ("gap_loss", "gap-shift"),
        ),
    ]


def _retrieval(m: GapMeasures, one: Retrieval) -> Finding:
    """The first ten only where there are more."""
    query, own = one.way.split(" to ")
    own = f"their own {own} comes" if one.most_partners == 1 else f"one of their own {own}s comes"
    first, last = one.recalls[0], one.recalls[-1]
    text = f"For {percent(first.recall.value)} of {query}s {own} first among {one.candidates:,}"
    keys = [recall_key(m, one.way, first.k)]
    if last.k == 10:
        text += f", and for {percent(last.recall.value)} among the first ten"
        keys.append(recall_key(m, one.way, last.k))
    return Finding(f"{text}.", tuple(keys), ("retrieval",))
