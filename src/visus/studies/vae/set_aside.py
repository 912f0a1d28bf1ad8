"""Which images were left out: files that could not be decoded."""

from __future__ import annotations

from dataclasses import dataclass

from visus.figures import AnyFigure
from visus.images import Quarantined
from visus.result import Finding, Metric, Table
from visus.studies.common.quarantine import quarantine_table
from visus.studies.vae.inputs import ImageArrays

KEY, QUESTION = "set-aside", "Which images were left out?"


@dataclass(frozen=True)
class SetAsideMeasures:
    """files: with their reasons."""

    files: tuple[Quarantined, ...]


def measure(images: ImageArrays) -> SetAsideMeasures:
    """What decoding said."""
    return SetAsideMeasures(images.quarantine)


def metrics(m: SetAsideMeasures) -> tuple[Metric, ...]:
    return ()


def tables(m: SetAsideMeasures) -> tuple[Table, ...]:
    return (quarantine_table(m.files),)


def figures(m: SetAsideMeasures) -> tuple[AnyFigure, ...]:
    return ()


def findings(m: SetAsideMeasures) -> tuple[Finding, ...]:
    text = f"{len(m.files)} pictures could not be decoded and are left out."
    return (Finding(text, shows=("quarantine",), kind="caution"),)
