"""Training from nothing: images, a plan, the training, its judgement on held-out images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from visus.device import choose_device
from visus.errors import DataError
from visus.images import ImageSet, load_images
from visus.models import load_backbone
from visus.models.dual_new import ClipConfig
from visus.models.dual_open import load_dual
from visus.paths import expanded
from visus.result import Result
from visus.studies.common.imagesets import load_imageset
from visus.studies.common.options import ImageOptions
from visus.studies.common.section import section
from visus.studies.train import course, gap, held_out
from visus.studies.train.judging import Judged, judge_clip, judge_vit, zero_shot_rows
from visus.studies.train.options import IMAGES, Options
from visus.training.budget import seconds_of
from visus.training.devices import Devices
from visus.training.from_scratch import Plan, Trained, train_clip, train_vit
from visus.training.parts import Parts, parts_of
from visus.training.recipe import Recipe
from visus.training.vectors import read_vectors

FEWEST_PAIRS = 4  # of which the modality gap takes two to fit a line and two to judge it


def run(options: Options) -> Result:
    """Train, judge once on held-out images, and say what came of it."""
    imageset = load_training_images(options)
    parts = parts_of(imageset, seed=options.course.seed)
    if options.kind == "clip" and len(parts.test) < FEWEST_PAIRS:
        raise DataError(
            f"{imageset.name} leaves {len(parts.test)} images to test on, and the gap between images and texts needs {FEWEST_PAIRS}; "
            f"give {5 * FEWEST_PAIRS} images or more"
        )
    plan = plan_of(options, parts)
    return _clip(imageset, plan, options) if options.kind == "clip" else _vit(imageset, plan, options)


def load_training_images(options: Options) -> ImageSet:
    """The images to learn from: labelled for a ViT, with captions for a CLIP."""
    data, kind = options.data, options.kind
    asked = ImageOptions(data.images or IMAGES[kind], data.labels, data.label_column, data.groups, data.limit)
    classes = "needed" if kind == "vit" else "wanted"
    imageset = load_imageset(asked, seed=options.course.seed, download=options.download, classes=classes, by_class=True)
    if kind == "clip" and imageset.labels is not None and len(np.unique(imageset.labels)) < 2:
        # Captions are learned, and one folder for all is no class.
        imageset = replace(imageset, labels=None, classes=())
    return imageset


def plan_of(options: Options, parts: Parts) -> Plan:
    """What the training rooms need to know."""
    s, c, g, m = options.sizes, options.course, options.guides, options.machine
    return Plan(
        parts,
        ClipConfig(s.size, s.patch, s.width, s.layers, s.text_width, s.text_layers, space=s.width),
        Recipe(
            c.lr,
            epochs=c.epochs,
            batch=c.batch,
            weight_decay=c.weight_decay,
            warmup=0.05,
            patience=0,
            seed=c.seed,
            optimizer="muon",
        ),
        Path(str(options.out)),
        c.drop,
        load_backbone(g.teacher, seed=c.seed, download=options.download) if g.teacher else None,
        read_vectors(expanded(g.vectors)) if g.vectors else None,
        g.words,
        _captioned(options.data.beside, options),
        Devices(choose_device(m.device), m.devices, m.precision),
        seconds_of(c.budget),
    )


def _captioned(spec: str | None, options: Options) -> ImageSet | None:
    return load_images(spec, classes="wanted", download=options.download) if spec else None


def _clip(imageset: ImageSet, plan: Plan, options: Options) -> Result:
    spec = options.data.zero_shot
    shown = load_images(spec, download=options.download) if spec else None
    tried = None if shown is None else (shown, zero_shot_rows(shown, imageset, plan))
    done, tokenizer = train_clip(imageset, plan)
    place = plan.devices.kind  # judged where it was trained
    trained = load_dual(str(plan.folder), place=place)
    untrained = load_dual(f"{plan.folder}?weights=none", seed=plan.recipe.seed, place=place)
    judged = judge_clip(imageset, plan.parts, (trained, untrained), tried, done.pixels, seed=plan.recipe.seed)
    said = [captions[0] for captions in imageset.captions or ()]
    alone = len(set(said)) == len(said)
    provenance = _provenance(imageset, plan, vocabulary=tokenizer.get_vocab_size())
    return _result(imageset, done, judged, plan, {**provenance, "kind": "clip"}, alone=alone)


def _vit(imageset: ImageSet, plan: Plan, options: Options) -> Result:
    named = _captioned(options.data.names, options)
    done = train_vit(imageset, plan, named)
    trained = load_backbone(str(plan.folder))
    judged = judge_vit(imageset, plan.parts, trained, done.pixels, device=plan.devices.kind)
    provenance = _provenance(imageset, plan, names=named.name if named else None)
    return _result(imageset, done, judged, plan, {**provenance, "kind": "vit"})


def _result(
    imageset: ImageSet,
    done: Trained,
    judged: Judged,
    plan: Plan,
    provenance: Mapping[str, object],
    *,
    alone: bool = False,
) -> Result:
    kind = str(provenance["kind"])
    told = held_out.measure(judged, kind=kind, alone=alone)
    sections = [section(held_out, told)]
    if judged.gaps:
        sections.append(section(gap, gap.measure(*judged.gaps)))
    sections.append(section(course, course.measure(done, kind=kind, folder=plan.folder)))
    return Result(
        study="train",
        title=f"A {'CLIP' if kind == 'clip' else 'ViT'} trained on {imageset.name}",
        answer=held_out.answer(told),
        headline=held_out.headline(told),
        sections=tuple(sections),
        provenance=provenance,
        status="partial" if done.fit.stopped == "budget" else "complete",
        reason="The time given was used up before the last epoch." if done.fit.stopped == "budget" else "",
    )


def _provenance(imageset: ImageSet, plan: Plan, **more: object) -> Mapping[str, object]:
    machines = plan.devices
    return {
        "images": imageset.name,
        "images fingerprint": imageset.fingerprint,
        **plan.describe(),
        "device": f"{machines.count} x {machines.kind}, {machines.precision}",
        **more,
    }
