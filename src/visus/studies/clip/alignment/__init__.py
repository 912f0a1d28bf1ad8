"""Does alignment close the gap, and what does it cost? Fitted on some pairs, judged on those and on others, side by side (P12)."""

from __future__ import annotations

from visus.studies.clip.alignment.figures import figures
from visus.studies.clip.alignment.findings import findings
from visus.studies.clip.alignment.measure import measure
from visus.studies.clip.alignment.tables import metrics, tables

__all__ = ["KEY", "QUESTION", "figures", "findings", "measure", "metrics", "tables"]

KEY = "alignment"
QUESTION = "Does alignment close the gap, and what does it cost?"
