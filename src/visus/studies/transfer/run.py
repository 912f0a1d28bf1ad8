"""The transfer study: inputs, features, sections, result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from visus.result import Result
from visus.studies.common.labelled_images import LabelledImages, valid_images
from visus.studies.common.section import section
from visus.studies.transfer import classes, data, layers, maps, trust
from visus.studies.transfer.evaluation import LayerScore, best_of, evaluate_layers
from visus.studies.transfer.inputs import extract_features, load_labelled
from visus.studies.transfer.options import Options
from visus.studies.transfer.training import Evaluated, RunConfig, TrainingSections, train_and_compare
from visus.training.devices import Devices


def run(options: Options) -> Result:
    """Measure the frozen features, then train what was asked for within the time given, and say what came of it."""
    start = time.perf_counter()
    imageset, splits = load_labelled(options.images, seed=options.seed, download=options.features.download)
    controls = options.probe.controls
    models = [extract_features(spec, imageset, options.features, controls=controls) for spec in options.models]
    judging = time.perf_counter()
    images = valid_images(imageset, splits, [m.features for m in models])
    scores, features = evaluate_layers(models, images, options.probe, pool=options.features.pool)

    by_layer = layers.measure(images, scores, features, seed=options.seed)
    trusted = trust.measure(images, models, scores, majority=by_layer.majority, controls=controls)
    mapped = options.probe.maps and len(images.test_y) >= maps.FEWEST
    # One section a line, in the order of the page.
    sections = [
        section(layers, by_layer),
        section(trust, trusted),
        *([section(maps, maps.measure(images, scores, features, seed=options.seed))] if mapped else ()),
        section(classes, classes.measure(images, scores)),
        section(data, data.measure(images, models, repeats=trusted.repeated.count)),
    ]

    trained = TrainingSections()
    if options.training.regimes or options.ablate_skips:
        # What comes after training takes about what came before it: features of one more network, and probes and maps again.
        reserve = 0.8 * (time.perf_counter() - judging) + sum(m.features.cost.get("seconds") or 0.0 for m in models)
        budget = options.training.budget
        deadline = None if budget is None else start + budget
        devices = Devices(options.features.device, options.devices, options.features.precision)
        evaluated = Evaluated(images, tuple(models), scores)
        trained = train_and_compare(evaluated, RunConfig(options, devices, deadline, reserve))
    best = by_layer.chosen
    return Result(
        study="transfer",
        title=_title(options.models, images),
        answer=trained.answer or layers.answer(by_layer),
        headline=(*trained.headline, best.key("probe", "accuracy"), best.key("knn", "accuracy"), "majority/accuracy"),
        sections=(*trained.first, *sections, *trained.then),
        warnings=(*_warnings(options, images), *trained.warnings),
        provenance=_provenance(options, images, {m.spec: m.backbone.fingerprint for m in models}),
        predictions=_predictions(images, scores),
        status="partial" if trained.left_out else "complete",
        reason="Regimes were left out to keep the time given." if trained.left_out else "",
    )


def _title(models: Sequence[str], images: LabelledImages) -> str:
    return f"What {', '.join(models)} {'knows' if len(models) == 1 else 'know'} about {images.imageset.name}"


def _warnings(options: Options, images: LabelledImages) -> list[str]:
    """Of the whole run."""
    n = len(images.test_y)
    if not options.probe.maps or n >= maps.FEWEST:
        return []
    return [f"No maps: t-SNE and UMAP need {maps.FEWEST} test images, and there are {n}."]


def _predictions(images: LabelledImages, scores: Sequence[LayerScore]) -> dict[str, Any]:
    """Of the probe on the layer that validation prefers, a row a test image."""
    probe, ids = best_of(scores).probe, images.ids
    return {
        "id": [ids[i] for i in images.splits.test],
        "split": ["test"] * len(images.test_y),
        "label": [images.classes[i] for i in images.test_y],
        "prediction": [images.classes[i] for i in probe.predictions],
        "confidence": probe.probabilities.max(axis=1),
    }


def _provenance(options: Options, images: LabelledImages, models: dict[str, str]) -> dict[str, Any]:
    """Specs, fingerprints, split sizes and settings."""
    splits = images.splits
    return {
        "images": images.imageset.name,
        "images fingerprint": images.imageset.fingerprint,
        "models": models,
        "split": {
            "train and validation": len(splits.train),
            "validation": [len(val) for _, val in splits.folds],
            "test": len(splits.test),
        },
        "protocol": options.probe.protocol,
        "pool": options.features.pool,
        "seed": options.seed,
    }
