"""What is said of features before and after training: where they moved, what that did, which mistake went."""

from __future__ import annotations

import numpy as np

from visus.formats import percent
from visus.result import Finding, Metric, key_of
from visus.studies.transfer.before_after.measure import BeforeAfterMeasures, FeatureChange, Move

ALIKE = 0.95  # CKA from which a layer is said to have stayed
EQUAL = 0.9995  # CKA that is printed as 1.00 and means the same features


def metrics(m: BeforeAfterMeasures) -> tuple[Metric, ...]:
    found = []
    for c in m.changes:
        for move in c.moves:
            key, p, s = _key(c, move), move.probe, move.silhouette
            found += [
                p.metric(key_of(key, "probe-change"), c.n),
                Metric(key_of(key, "silhouette-change"), s.difference, s.low, s.high, c.n, better="higher"),
                Metric(key_of(key, "cka"), move.cka, n=c.n, label=f"CKA with {c.before}, {move.label}"),
            ]
    return tuple(found)


def _key(c: FeatureChange, move: Move) -> str:
    return key_of(c.model, move.after, move.label.split(" ")[0])


def findings(m: BeforeAfterMeasures) -> tuple[Finding, ...]:
    """Of each model: where the features moved, what that did at the last layer and at the first, which mistake went, cautions."""
    said: list[Finding] = []
    for c in m.changes:
        head = f"{c.model}: " if len(m.changes) > 1 else ""
        said += [Finding(head + f.text, f.metrics, _shown(m, c, f.shows), f.kind) for f in _change(c)]
    return (*said, *(Finding(text, kind="caution") for text in m.cautions))


def _shown(m: BeforeAfterMeasures, c: FeatureChange, shows: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key_of(key, c.model) for key in shows) if len(m.changes) > 1 else shows


def _change(c: FeatureChange) -> list[Finding]:
    moves = c.of(c.after)
    said = [*_where(c, moves), *_last(c, moves[-1])]
    if len(moves) > 1:
        said.append(_first(c, moves[0]))
    return [*said, *_mistake(c), *_cautions(c)]


def _where(c: FeatureChange, moves: list[Move]) -> list[Finding]:
    known = [m for m in moves if np.isfinite(m.cka)]
    if not known:
        return []
    shows = ("before-after-cka",) if len(c.taps) > 1 else ("before-and-after-difference",)
    most, least = min(known, key=lambda m: m.cka), max(known, key=lambda m: m.cka)
    keys = (key_of(_key(c, most), "cka"),)
    if most.cka > EQUAL:
        text = f"{c.after} has the features of {c.before} at every layer that was measured (linear CKA {most.cka:.3f} or more)."
        return [Finding(text, keys, shows)]
    text = f"Between {c.before} and {c.after} the features moved the most at {most.label}: linear CKA {most.cka:.2f}"
    if least is not most:
        text += f", against {least.cka:.2f} at {least.label}, where they moved the least"
    said = [Finding(text + ".", keys, shows)]
    control = next((m for m in c.moves if m.after in c.random and m.tap == most.tap and np.isfinite(m.cka)), None)
    if control is not None and control.after != c.after:
        said.append(
            Finding(f"Random weights have a CKA of {control.cka:.2f} there.", (key_of(_key(c, control), "cka"),), shows)
        )
    return said


def _last(c: FeatureChange, m: Move) -> list[Finding]:
    before, after = c.layers[c.before, m.tap], c.layers[c.after, m.tap]
    goes = f"goes from {percent(before.probe.value)} to {percent(after.probe.value)}"
    probe = f"At {m.label} the linear probe {goes}: {m.probe.text()}{', undecided' if m.probe.undecided else ''}."
    s, sure = m.silhouette, "" if m.silhouette.clear else ", no clear change"
    span = f"{s.difference:+.3f}, 95 % interval {s.low:+.3f} to {s.high:+.3f}{sure}"
    silhouette = f"The silhouette goes from {before.silhouette:.3f} to {after.silhouette:.3f} there ({span})."
    return [
        Finding(probe, (key_of(_key(c, m), "probe-change"),), ("before-after-probe",), m.probe.kind),
        Finding(
            silhouette,
            (key_of(_key(c, m), "silhouette-change"),),
            ("before-and-after-difference",),
            "result" if m.silhouette.clear else "undecided",
        ),
    ]


def _first(c: FeatureChange, m: Move) -> Finding:
    moved = not m.cka >= ALIKE  # a CKA that has no value is no sign of rest
    verdict = {
        (False, False): "stayed as it was",
        (True, False): "moved, but a probe reads from it neither clearly more nor clearly less",
        (False, True): "hardly moved, yet the probe's accuracy did",
        (True, True): "moved too",
    }[moved, not m.probe.undecided]
    value = f"CKA {m.cka:.2f}" if np.isfinite(m.cka) else "CKA without a value"
    text = f"The first of these layers, {m.label}, {verdict}: {value}, probe {m.probe.text()}."
    return Finding(text, (key_of(_key(c, m), "cka"),), ("before-and-after-difference",))


def _mistake(c: FeatureChange) -> list[Finding]:
    """The mistake that fell the most: of the networks' own classifiers where they are known, else of the last layer's probe."""
    shown = next((m for m in c.mistakes if m.judge == "classifier" or m.after == c.after), None)
    fell = [] if shown is None else [x for x in shown.changes if x.change < 0]
    if shown is None or not fell:
        return []
    x = fell[0]
    verb = "stopped" if x.after == 0 else "fell the most"
    firm = "" if x.holm < 0.05 else ", which chance can explain"
    text = (
        f"Taking {c.classes[x.true]} for {c.classes[x.predicted]} {verb}: {x.before} of {x.images} test images with {shown.before}, "
        f"{x.after} with {shown.after} ({shown.judge}; Holm p = {x.holm:.2g}{firm})."
    )
    return [Finding(text, (), ("before-and-after-mistakes",), "result" if x.holm < 0.05 else "undecided")]


def _cautions(c: FeatureChange) -> list[Finding]:
    said = []
    labels = {tap: label for tap, label, _ in c.taps}
    for (state, tap), r in c.layers.items():
        if r.at_edge and not r.known:
            said.append(
                f"{state}, {labels[tap]}: validation chose the λ at the edge of the path ({r.penalty:.1e}); a better one may lie beyond."
            )
    for m in c.moves:
        if not np.isfinite(m.cka):
            said.append(
                f"{m.after}, {m.label}: CKA with {c.before} has no value, since one of the two gives every image the same features."
            )
    return [Finding(text, kind="caution") for text in said]
