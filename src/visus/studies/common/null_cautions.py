"""What the control of shuffled labels says against probes (P15)."""

from __future__ import annotations

from collections.abc import Sequence

from visus.formats import percent
from visus.measures.probe_null import PermutationNull


def null_cautions(probes: Sequence[tuple[str, PermutationNull | None, float]], most_by_luck: float) -> list[str]:
    """What the shuffled-label control says against probes. probes: what each is called, its null, its test accuracy; most_by_luck: the share
    of the largest class of the test images."""
    known = [(what, null, accuracy) for what, null, accuracy in probes if null is not None]
    weak = [(what, null, accuracy) for what, null, accuracy in known if not null.exceeded_by(accuracy)]
    # Labels that were permuted know nothing of a test image: that not one permutation of many stays below luck means a leak.
    leaks = [(what, float(null.accuracy.min())) for what, null, _ in known if null.accuracy.min() > most_by_luck]
    said = []
    if weak:
        what, null, accuracy = weak[0]
        more = f" and {len(weak) - 1} more of {len(known)} probes" if len(weak) > 1 else ""
        said.append(
            f"{what}{more}: the probe's {percent(accuracy)} do not exceed the 95 % point on shuffled labels, "
            f"{percent(null.point)}; whether these features know the classes is undecided."
        )
    if leaks:
        what, least = leaks[0]
        more = f" and {len(leaks) - 1} more of {len(known)} probes" if len(leaks) > 1 else ""
        said.append(
            f"{what}{more}: every probe on shuffled labels is better than chance, the worst with {percent(least)}; look for a leak."
        )
    return said
