"""The extraction: images through a backbone once, its layers kept as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visus.features import extract
from visus.models import load_backbone
from visus.outputs import mark
from visus.result import Result
from visus.studies.common.imagesets import load_imageset
from visus.studies.common.options import ImageOptions
from visus.studies.common.section import section
from visus.studies.common.taps import chosen_taps
from visus.studies.extract import features


@dataclass(frozen=True)
class Forward:
    """How they go through the model. batch: images, or None to find it."""

    taps: Sequence[str] | None
    pool: str
    precision: str
    engine: str
    device: str
    batch: int | None


@dataclass(frozen=True)
class Options:
    """All that was asked. out: the folder of the features and the page, or None for the cache."""

    model: str
    images: ImageOptions
    forward: Forward
    seed: int
    download: bool
    out: str | None


def run(options: Options) -> Result:
    """Extract, and say where the features are."""
    asked, how = options.images, options.forward
    imageset = load_imageset(asked, seed=options.seed, download=options.download, classes="wanted")
    backbone = load_backbone(options.model, seed=options.seed, download=options.download)
    store = Path(options.out) / "features" if options.out else None
    if options.out:
        mark(Path(options.out), ["features/"])
    found = extract(
        imageset, backbone, chosen_taps(backbone, how.taps), pool=how.pool, precision=how.precision, engine=how.engine,
        device=how.device, batch=how.batch, store=store, labelled=True,
    )  # fmt: skip
    measured = features.measure(imageset, backbone, found)
    return Result(
        study="extract",
        title=f"Features of {asked.spec} under {options.model}",
        answer=f"{len(found):,} images, {len(measured.layers)} layers, as Parquet.",
        headline=tuple(m.key for m in features.metrics(measured)),
        sections=(section(features, measured),),
        provenance={
            "model": options.model,
            "model fingerprint": backbone.fingerprint,
            "images": asked.spec,
            "images fingerprint": imageset.fingerprint,
            "seed": options.seed,
            "cost": dict(found.cost),
        },
    )
