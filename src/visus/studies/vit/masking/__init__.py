"""How many patches can it lose? Curves of answers against the share of patches kept, and what they say of maps (P10)."""

from visus.studies.vit.masking.figures import figures
from visus.studies.vit.masking.findings import findings
from visus.studies.vit.masking.measure import MaskingMeasures, measure
from visus.studies.vit.masking.tables import metrics, tables

KEY, QUESTION = "masking", "How many patches can it lose, and which maps are faithful to what it uses?"

__all__ = ["KEY", "QUESTION", "MaskingMeasures", "figures", "findings", "measure", "metrics", "tables"]
