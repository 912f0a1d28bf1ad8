"""How well do class names work as a classifier, with which prompts? (P12, P1)"""

from __future__ import annotations

from visus.studies.clip.zero_shot.figures import figures
from visus.studies.clip.zero_shot.findings import findings
from visus.studies.clip.zero_shot.measure import measure
from visus.studies.clip.zero_shot.tables import metrics, tables

__all__ = ["KEY", "QUESTION", "figures", "findings", "measure", "metrics", "tables"]

KEY = "zero-shot"
QUESTION = "How well do class names work as a classifier?"
