"""Is it worth training further: every regime on the same splits, what it reaches and what it costs (P6)."""

from __future__ import annotations

from visus.studies.transfer.regimes.figures import figures
from visus.studies.transfer.regimes.findings import answer, findings, headline, metrics
from visus.studies.transfer.regimes.measure import RegimesMeasures, measure
from visus.studies.transfer.regimes.tables import tables

KEY, QUESTION = "regimes", "Is it worth training further?"

__all__ = [
    "KEY",
    "QUESTION",
    "RegimesMeasures",
    "answer",
    "figures",
    "findings",
    "headline",
    "measure",
    "metrics",
    "tables",
]
