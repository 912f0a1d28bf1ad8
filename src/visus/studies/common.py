"""What studies share: which taps, which pictures were set aside, short names for long specs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from visus.result import Table

if TYPE_CHECKING:
    from visus.images.base import Quarantined
    from visus.models.base import Backbone

DEFAULT_TAPS = ("early", "middle", "late")


def chosen_taps(backbone: Backbone, taps: Sequence[str] | None) -> list[str]:
    """The names of the taps that a user asked for, in order of depth; None gives early, middle, late; 'all' gives every point.

    A name may hold several, separated by commas. Raises SpecError for an unknown one.
    """
    names = [part.strip() for name in taps or DEFAULT_TAPS for part in name.split(",") if part.strip()]
    if "all" in names:
        return [tap.name for tap in backbone.taps]
    return [tap.name for tap in backbone.resolve(names)]


def quarantine_table(quarantine: Iterable[Quarantined]) -> Table:
    """The pictures set aside, by name, with the reason."""
    rows = tuple((q.id, q.reason) for q in quarantine)
    return Table(("file", "reason"), rows, title=f"Set aside: {len(rows)} pictures that could not be used")


def tap_label(backbone: Backbone, tap: str) -> str:
    """A tap as people read it: 'middle (blocks.3)' when an alias points at it, else its name."""
    alias = next((a for a, name in backbone.aliases.items() if name == tap), None)
    return f"{alias} ({tap})" if alias else tap


def percent(value: float, digits: int = 1) -> str:
    """0.8312 -> '83.1 %'."""
    return f"{100 * value:.{digits}f} %"


def interval_text(low: float, high: float) -> str:
    """'95 % interval 81.0 to 85.2 %'."""
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
