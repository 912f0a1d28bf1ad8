"""What skip connections do (P7): they are taken away in chosen blocks, or one block at a time, and the head is fitted again."""

from __future__ import annotations

from visus.studies.transfer.skips.figures import figures
from visus.studies.transfer.skips.findings import findings, metrics
from visus.studies.transfer.skips.measure import SkipsMeasures, measure
from visus.studies.transfer.skips.tables import tables

KEY, QUESTION = "skips", "What do the skip connections do?"

__all__ = ["KEY", "QUESTION", "SkipsMeasures", "figures", "findings", "measure", "metrics", "tables"]
