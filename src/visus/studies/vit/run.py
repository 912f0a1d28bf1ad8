"""The story of a ViT study: its inputs, its models, the sections that were asked for, and the result they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from visus.device import choose_device
from visus.errors import DataError, SpecError
from visus.formats import percent
from visus.images import ImageSet
from visus.models.vit import reads_tokens
from visus.result import Result, Section
from visus.studies.common.imagesets import load_imageset
from visus.studies.common.section import section
from visus.studies.vit import attention, masking, pooling, predictions
from visus.studies.vit.evaluated import EvaluatedModel, load_models
from visus.studies.vit.inputs import EvaluatedImages, select_images
from visus.studies.vit.options import Options

LONGEST_ANSWER = 25  # words


def run(options: Options) -> Result:
    """Measure the sections that were asked for, in their fixed order."""
    options = replace(options, device=choose_device(options.device))
    device, seed = options.device, options.seed
    imageset = load_imageset(options.images, seed=seed, download=options.download, by_class=True)
    sections, warnings = _possible(options, imageset)
    models = load_models(
        options.specs,
        imageset,
        meanings=options.meanings,
        seed=seed,
        device=device,
        download=options.download,
        answers="predictions" in sections or "masking" in sections,
    )
    transformers = _transformers(models)
    warnings += [f"By its pixels alone: {m.refused}." for m in models if m.refused and reads_tokens(m.backbone)]
    images = select_images(imageset, transformers, options)
    warnings += images.warnings
    made: list[Section] = []
    answer: list[str] = []
    told: Mapping[str, Any] = {}
    if "predictions" in sections:
        predicted = predictions.measure(models, images, device=device, seed=seed)
        made.append(section(predictions, predicted))
        answer += _predictions_answer(predicted)
        told = predictions.predictions(predicted, images.test)
    if "attention" in sections:
        made.append(section(attention, attention.measure(models, images, device=device, seed=seed)))
    if "masking" in sections:
        masked = masking.measure(models, images.test, options.masking, device=device, seed=seed)
        made.append(section(masking, masked))
        answer += _masking_answer(masked, named=not answer)
    if "pooling" in sections:
        pooled = pooling.measure(transformers, imageset, controls=options.controls, device=device, seed=seed)
        made.append(section(pooling, pooled))
    warnings += [
        f"The weights of {m.spec} are a random initialisation: its answers and maps mean nothing."
        for m in models
        if m.backbone.random
    ]
    return Result(
        study="vit",
        title=f"Inside {', '.join(m.spec for m in transformers)}, on {imageset.name}",
        answer=f"{' and '.join(answer)}." if answer else _first_short(made),
        headline=tuple(s.metrics[0].key for s in made if s.metrics),
        sections=tuple(made),
        warnings=tuple(warnings),
        provenance=_provenance(options, imageset, models, images),
        predictions=told,
    )


def _possible(options: Options, imageset: ImageSet) -> tuple[tuple[str, ...], list[str]]:
    """The sections that the images allow, and what is said of those left out. Raises DataError where one was named."""
    if imageset.labels is not None or "pooling" not in options.sections:
        return options.sections, []
    if options.named:
        raise DataError(
            f"{imageset.name} has no labels, which probes need; give labelled images, or leave out --part pooling"
        )
    left = tuple(name for name in options.sections if name != "pooling")
    return left, [f"{imageset.name} has no labels, which probes need: pooling is left out."]


def _transformers(models: Sequence[EvaluatedModel]) -> list[EvaluatedModel]:
    """The vision transformers among the models. Raises SpecError where there is none."""
    found = [m for m in models if m.layout]
    if found:
        return found
    if len(models) == 1:
        raise SpecError(models[0].refused)
    raise SpecError(
        f"{', '.join(m.spec for m in models)}: no vision transformer with one sequence of patches; add one (as --model "
        f"visus:emoji-vit), or study these with visus transfer. Of the first: {models[0].refused}"
    )


def _first_short(made: Sequence[Section]) -> str:
    """Where neither answers nor masking were asked for: the first finding that is short enough for an answer."""
    said = (f.text for s in made for f in s.findings if f.kind != "caution")
    return next((text for text in said if len(text.split()) <= LONGEST_ANSWER), "")


def _predictions_answer(m: predictions.PredictionsMeasures) -> list[str]:
    return [f"{a.model} is right on {percent(a.top1.value)} of images" for a in m.accuracies[:1]]


def _masking_answer(m: masking.MaskingMeasures, *, named: bool) -> list[str]:
    """Of the first vision transformer. named: whether its name must be said."""
    c = m.main_curves()[0]
    what = "right answers" if c.counted == "accuracy" else "answers"
    share = percent(c.ratios[-1] if c.halved is None else c.halved, 0)
    verb = "keeps more than half of its" if c.halved is None else "loses half of its"
    who = f"{c.model} " if named else ""
    return [f"{who}{verb} {what} with {share} of the patches"]


def _provenance(
    options: Options, imageset: ImageSet, models: Sequence[EvaluatedModel], images: EvaluatedImages
) -> dict[str, Any]:
    """Specs, fingerprints and settings."""
    return {
        "models": {m.spec: m.backbone.fingerprint for m in models},
        "answers read from": {m.spec: m.reading for m in models},
        "images": imageset.name,
        "images fingerprint": imageset.fingerprint,
        "preprocessing": {m.spec: repr(m.backbone.preprocess) for m in models},
        "keep ratios": list(options.masking.ratios),
        "masked images": min(len(images.test), options.masking.images),
        "pixels filled with": options.masking.fill,
        "pictures looked at": list(images.shown.ids),
        "device": options.device,
        "seed": options.seed,
    }
