"""CLS or mean? Linear probes on the ways to make one vector of a ViT's tokens, at the last layer and through depth (P3, P9)."""

from visus.studies.vit.pooling.figures import figures
from visus.studies.vit.pooling.findings import findings
from visus.studies.vit.pooling.measure import PoolingMeasures, measure
from visus.studies.vit.pooling.tables import metrics, tables

KEY, QUESTION = "pooling", "Which pooling holds most, CLS or the mean of the patches?"

__all__ = ["KEY", "QUESTION", "PoolingMeasures", "figures", "findings", "measure", "metrics", "tables"]
