"""The prediction study: images, a classifier, its top classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visus.errors import DataError
from visus.images.gather import gather
from visus.models.classify import classify_images
from visus.models.zero_shot import classifier_for
from visus.result import Result
from visus.studies.common.section import section
from visus.studies.predict import predictions


@dataclass(frozen=True)
class Options:
    """What was asked: files, folders or specs; the model; names for a model of images and texts; how many classes an image."""

    images: Sequence[str]
    model: str
    classes: Sequence[str] | None
    top: int
    device: str
    seed: int
    limit: int | None
    download: bool


def run(options: Options) -> Result:
    """Classify every image that can be read. Raises DataError where there is none."""
    if options.top < 1:
        raise DataError(f"--top is {options.top}; ask for at least one class")
    imageset, aside = gather(options.images, limit=options.limit, seed=options.seed, download=options.download)
    classes = None if options.classes is None else list(options.classes)
    backbone = classifier_for(options.model, classes, seed=options.seed, download=options.download)
    said = classify_images(backbone, imageset, device=options.device)
    aside = (*aside, *said.quarantine)
    if not len(said.rows):
        raise DataError(f"none of {len(aside)} pictures could be read; the first, {aside[0].id}: {aside[0].reason}")
    measured = predictions.measure(imageset, backbone, said, aside, top=options.top)
    n = len(measured.predictions)
    random = ("The weights are a random initialisation: the classes mean nothing.",) if backbone.random else ()
    return Result(
        study="predict",
        title=f"What {options.model} sees in {n} picture{'s' if n != 1 else ''}",
        answer=f"{n:,} picture{'s' if n != 1 else ''} named by {options.model}.",
        headline=("confidence/mean",),
        sections=(section(predictions, measured),),
        warnings=random,
        provenance={
            "model": options.model,
            "model fingerprint": backbone.fingerprint,
            "images": list(options.images),
            "preprocessing": repr(backbone.preprocess),
            "device": said.device,
            "seed": options.seed,
        },
        predictions=_rows(measured),
    )


def _rows(m: predictions.PredictionsMeasures) -> dict[str, Any]:
    """The most probable class of every image."""
    return {
        "id": [p.id for p in m.predictions],
        "prediction": [p.labels[0] for p in m.predictions],
        "confidence": [p.probabilities[0] for p in m.predictions],
    }
