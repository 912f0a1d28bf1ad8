"""What the study was asked for. Light: the command line imports it for its help."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """As the arguments of `colours`."""

    images: str
    labels: str | None = None
    label_column: str | None = None
    groups: str | None = None
    device: str = "auto"
    seed: int = 0
    limit: int | None = None
    download: bool = False
