"""How far apart do images and texts lie, and does the distance matter? (P12, P5)"""

from __future__ import annotations

from visus.studies.clip.gap.figures import figures
from visus.studies.clip.gap.findings import findings
from visus.studies.clip.gap.measure import measure
from visus.studies.clip.gap.tables import metrics, tables

__all__ = ["KEY", "QUESTION", "figures", "findings", "measure", "metrics", "tables"]

KEY = "gap"
QUESTION = "How far apart do images and texts lie, and does the distance matter?"
