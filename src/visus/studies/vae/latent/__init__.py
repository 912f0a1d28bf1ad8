"""What does the latent code carry, has the posterior collapsed, and what would bring dead dimensions back (P11)?"""

from __future__ import annotations

from visus.studies.vae.latent.figures import figures
from visus.studies.vae.latent.findings import findings
from visus.studies.vae.latent.measure import DimensionRow, LatentMeasures, LatentRow, Walk, measure
from visus.studies.vae.latent.tables import metrics, tables

KEY, QUESTION = "latent", "Has the posterior collapsed, and what does each latent dimension carry?"

__all__ = [
    "KEY",
    "QUESTION",
    "DimensionRow",
    "LatentMeasures",
    "LatentRow",
    "Walk",
    "figures",
    "findings",
    "measure",
    "metrics",
    "tables",
]
