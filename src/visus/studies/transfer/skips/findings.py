"""What is said of networks without their skip connections."""

from __future__ import annotations

import numpy as np

from visus.result import Finding, Metric, key_of
from visus.studies.transfer.skips.measure import SkipsMeasures, Sweep, WithoutChosen
from visus.studies.transfer.skips.tables import prefixed


def metrics(m: SkipsMeasures) -> tuple[Metric, ...]:
    found = []
    for c in m.chosen:
        found += [r.accuracy.metric(_key(c.model, r.name), label=f"{r.name}, {c.model}") for r in c.rows]
    for s in m.swept:
        for b in s.blocks:
            d, label = b.damage, f"damage without the skip of {b.block}"
            key = key_of(s.model, "skips", b.block, "damage")
            found.append(Metric(key, d.difference, d.low, d.high, s.n, "points", "lower", label=label))
    return tuple(found)


def _key(model: str, network: str) -> str:
    return key_of(model, "skips", network, "accuracy")


def findings(m: SkipsMeasures) -> tuple[Finding, ...]:
    said: list[Finding] = []
    for c in m.chosen:
        said += [*_removed(m, c), *_flow(m, c)]
    for s in m.swept:
        said += _swept(m, s)
    return tuple(said)


def _removed(m: SkipsMeasures, c: WithoutChosen) -> list[Finding]:
    intact, *others = c.rows
    shows = (prefixed(m, c.model, "skips-removed"), prefixed(m, c.model, "skips-compared"))
    said = []
    for r, pair in zip(others, c.comparisons, strict=True):
        how = " with BatchNorm statistics estimated anew" if "recalibrated" in r.name else ""
        text = f"Without the skips of {c.skips} in {c.model}{how} a newly fitted head gets {r.accuracy.text()}."
        said.append(Finding(text, (_key(c.model, r.name),), shows))
        sure = ": undecided" if pair.undecided else ""
        text = f"Against the intact network that is {pair.text()}{sure}."
        said.append(Finding(text, (_key(c.model, r.name), _key(c.model, intact.name)), shows, pair.kind))
    return said


def _flow(m: SkipsMeasures, c: WithoutChosen) -> list[Finding]:
    """How much of the gradient still reaches the first stage."""
    intact, *others = c.rows
    first = next(iter(intact.gradients))
    if not intact.gradients[first] > 0:
        return []
    shows = (prefixed(m, c.model, "gradients"), prefixed(m, c.model, "skips-gradients"))
    return [
        Finding(
            f"The loss's gradient at the first stage ({first}) is {_times(r.gradients[first] / intact.gradients[first])} times as large for "
            f"the network {r.name} as for the intact one.",
            (),
            shows,
        )
        for r in others
    ]


def _times(ratio: float) -> str:
    """Two digits: '0.031', '2.8', '240'."""
    return f"{ratio:.2g}" if ratio < 99.5 else f"{float(f'{ratio:.2g}'):,.0f}"


def _swept(m: SkipsMeasures, s: Sweep) -> list[Finding]:
    shows = (prefixed(m, s.model, "skip-sweep"), prefixed(m, s.model, "skips-sweep"))
    worst = max(s.blocks, key=lambda b: b.damage.difference)
    clear = sum(b.damage.low > 0 for b in s.blocks)
    key = key_of(s.model, "skips", worst.block, "damage")
    said = [
        Finding(
            f"Of {len(s.blocks)} residual blocks of {s.model}, {clear} do clear damage when their skip is missing; the worst is "
            f"{worst.block}: {worst.damage.text()}.",
            (key,),
            shows,
        )
    ]
    again = [b.recalibrated_damage.difference for b in s.blocks if b.recalibrated_damage is not None]
    if again:
        before = 100 * np.mean([b.damage.difference for b in s.blocks])
        text = f"Estimating BatchNorm's statistics anew takes the mean damage of one missing skip from {before:.1f}"
        said.append(Finding(f"{text} to {100 * np.mean(again):.1f} points.", (), shows))
    return said
