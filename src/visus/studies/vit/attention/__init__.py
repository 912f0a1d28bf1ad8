"""Where does it look? Maps of attention over chosen images, and what the heads do over many (P9)."""

from visus.studies.vit.attention.figures import figures
from visus.studies.vit.attention.findings import findings
from visus.studies.vit.attention.measure import AttentionMeasures, measure
from visus.studies.vit.attention.tables import metrics, tables

KEY, QUESTION = "attention", "Where does it look, and do its heads do different things?"

__all__ = ["KEY", "QUESTION", "AttentionMeasures", "figures", "findings", "measure", "metrics", "tables"]
