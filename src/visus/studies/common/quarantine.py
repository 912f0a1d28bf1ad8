"""The images set aside, by name, with the reason."""

from __future__ import annotations

from collections.abc import Iterable

from visus.images.base import Quarantined
from visus.result import Column, Table


def quarantine_table(quarantine: Iterable[Quarantined]) -> Table:
    """One row a file that could not be used."""
    rows = [(q.id, q.reason) for q in quarantine]
    title = f"Set aside: {len(rows)} pictures that could not be used"
    return Table(key="quarantine", title=title, columns=(Column("file", "file"), Column("reason", "reason")), rows=rows)
