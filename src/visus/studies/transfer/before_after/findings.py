"""What is said of features before and after training: findings made from numbers, warnings."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

import numpy as np

from visus.studies.common.shared import percent

if TYPE_CHECKING:
    from visus.studies.transfer.before_after.subject import Course, Move

ALIKE = 0.95  # CKA from which a layer is said to have stayed
EQUAL = 0.9995  # CKA that is printed as 1.00 and means the same features


def findings(c: Course) -> tuple[str, ...]:
    """Two to four sentences: where the features moved, what that did at the last layer and at the first, which mistake went."""
    moves = c.of(c.after)
    said = [_where(c, moves), _last(c, moves[-1])]
    if len(moves) > 1:
        said.append(_first(moves[0]))
    said += _mistake(c)
    return tuple(s for s in said if s)


def _where(c: Course, moves: list[Move]) -> str:
    known = [m for m in moves if np.isfinite(m.cka)]
    if not known:
        return ""
    most, least = min(known, key=lambda m: m.cka), max(known, key=lambda m: m.cka)
    if most.cka > EQUAL:
        return f"{c.after} has the features of {c.before} at every layer that was measured (linear CKA {most.cka:.3f} or more)."
    text = f"Between {c.before} and {c.after} the features moved the most at {most.label}: linear CKA {most.cka:.2f} on the same test images"
    if least is not most:
        text += f", against {least.cka:.2f} at {least.label}, where they moved the least"
    control = next((m for m in c.moves if m.after in c.random and m.tap == most.tap and np.isfinite(m.cka)), None)
    if control is not None and control.after != c.after:
        text += f"; random weights have {control.cka:.2f} there"
    return text + "."


def _last(c: Course, m: Move) -> str:
    before, after = c.scores[c.before, m.tap.name], c.scores[c.after, m.tap.name]
    chance = ", which chance can explain" if m.probe.low <= 0 <= m.probe.high else ""
    still = "" if m.silhouette.clear else ", no clear change"
    return (
        f"At {m.label} the linear probe goes from {percent(before.probe.top1)} to {percent(after.probe.top1)} ({_points(m)}, "
        f"McNemar p = {m.probe.p:.2g}{chance}), the silhouette from {before.silhouette:.3f} to {after.silhouette:.3f} "
        f"({m.silhouette.difference:+.3f}, 95 % interval {m.silhouette.low:+.3f} to {m.silhouette.high:+.3f}{still})."
    )


def _first(m: Move) -> str:
    moved = not m.cka >= ALIKE  # a CKA that has no value is no sign of rest
    better = not m.probe.low <= 0 <= m.probe.high
    verdict = {
        (False, False): "stayed as it was",
        (True, False): "moved, but a probe reads from it neither clearly more nor clearly less",
        (False, True): "hardly moved, yet the probe's accuracy did",
        (True, True): "moved too",
    }[moved, better]
    value = f"CKA {m.cka:.2f}" if np.isfinite(m.cka) else "CKA without a value"
    return f"The first of these layers, {m.label}, {verdict}: {value}, probe {_points(m)}."


def _points(m: Move) -> str:
    return (
        f"{100 * m.probe.difference:+.1f} points, 95 % interval {100 * m.probe.low:+.1f} to {100 * m.probe.high:+.1f}"
    )


def _mistake(c: Course) -> list[str]:
    """The mistake that fell the most: of the networks' own classifiers where they are known, else of the last layer's probe."""
    shown = next((m for m in c.mistakes if m.judge == "classifier" or m.after == c.after), None)
    if shown is None:
        return []
    fell = [x for x in shown.changes if x.change < 0]
    if not fell:
        return []
    names, x = c.images.classes, fell[0]
    verb = "stopped" if x.after == 0 else "fell the most"
    firm = "" if x.holm < 0.05 else ", which chance can explain"
    return [
        f"Taking {names[x.true]} for {names[x.predicted]} {verb}: {x.before} of {x.images} test images with {shown.before}, "
        f"{x.after} with {shown.after} ({shown.judge}; Holm p = {x.holm:.2g}{firm})."
    ]


def warnings(c: Course, *, known: Container[tuple[str, str]]) -> tuple[str, ...]:
    """What a reader must know first. known: scores made elsewhere, whose warnings are given there."""
    said = []
    for (state, tap), s in c.scores.items():
        if s.probe.at_edge and (state, tap) not in known:
            said.append(
                f"{state}, {c.labels[tap]}: validation chose the λ at the edge of the path ({s.probe.lambda_:.1e}); a better one may lie beyond."
            )
    for m in c.moves:
        if not np.isfinite(m.cka):
            said.append(
                f"{m.after}, {m.label}: CKA with {c.before} has no value, since one of the two gives every image the same features."
            )
    return tuple(said)
