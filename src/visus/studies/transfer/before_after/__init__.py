"""What training changed in the features: the same layers, the same images, other weights, side by side."""

from __future__ import annotations

from visus.studies.transfer.before_after.figures import figures
from visus.studies.transfer.before_after.findings import findings, metrics
from visus.studies.transfer.before_after.measure import BeforeAfterMeasures, FeatureChange, measure_change
from visus.studies.transfer.before_after.tables import tables

KEY, QUESTION = "before-after", "What did training change in the features?"

__all__ = [
    "KEY",
    "QUESTION",
    "BeforeAfterMeasures",
    "FeatureChange",
    "figures",
    "findings",
    "measure_change",
    "metrics",
    "tables",
]
