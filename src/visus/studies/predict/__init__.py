"""Predict: what a classifier says about pictures, with its own preprocessing (protocol P8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from visus.images.base import ImageSet
    from visus.studies.common.schema1 import Figure, Result

THUMBNAIL = 96
PRESENT = 0.5  # from which probability on a label that stands alone is there
NOTES = {
    "classes": "Probability: softmax over all classes of the model (of one logit: its sigmoid).",
    "labels": "Probability: sigmoid of each label by itself; a picture may have several or none, and they do not add up to 1.",
}
SHOWN = 60  # pictures in the gallery; the table has all of them


def predict(
    images: list[str],
    *,
    model: str = "visus:effnet-lite0",
    classes: list[str] | None = None,
    top: int = 5,
    device: str = "auto",
    seed: int = 0,
    limit: int | None = None,
    download: bool = False,
) -> Result:
    """Name what is in pictures: the model's top classes with probabilities.

    Arguments:
        images: files, folders or specs of images.
        model: spec of a classifier: timm:NAME, hf:OWNER/NAME, torchvision:NAME@WEIGHTS, visus:NAME or a path; or of a
            model of images and texts.
        classes: text to choose from, repeatable, for a model that compares pictures with texts; default for visus:emoji-clip all emoji.
        top: classes a picture.
        device: auto, cpu, cuda or cuda:N.
        seed: seed of a random initialisation and of --limit's sample.
        limit: use at most this many images, a random sample.
        download: allow downloading what is not on this machine.

    Returns a Result with a row for each picture and rank. Raises VisusError for anything a user can mend: a model without
    classifier, no usable picture.
    """
    from visus.errors import DataError
    from visus.models.classify import classify_images, top_classes
    from visus.models.labels import short
    from visus.models.zero_shot import classifier_for
    from visus.studies.common.inputs import gather
    from visus.studies.common.schema1 import Result, Table
    from visus.studies.common.shared import percent, quarantine_table

    if top < 1:
        raise DataError(f"--top is {top}; ask for at least one class")
    imageset, set_aside = gather(images, limit=limit, seed=seed, download=download)
    backbone = classifier_for(model, classes, seed=seed, download=download)
    said = classify_images(backbone, imageset, device=device)
    set_aside = (*set_aside, *said.quarantine)
    if not len(said.rows):
        raise DataError(
            f"none of {len(set_aside)} pictures could be read; the first, {set_aside[0].id}: {set_aside[0].reason}"
        )
    labels = backbone.labels or ()
    found, probabilities = top_classes(said.probabilities, top)
    names = [imageset.ids[i] for i in said.rows]
    rows = tuple(
        (name, rank, labels[c], float(p), int(c))
        for name, cs, ps in zip(names, found, probabilities, strict=True)
        for rank, (c, p) in enumerate(zip(cs, ps, strict=True), 1)
    )
    tables = {
        "predictions": Table(
            ("image", "rank", "label", "probability", "index"),
            rows,
            title=f"Top {found.shape[1]} {backbone.head} of each picture",
            note=NOTES[backbone.head] + " Index: position in the model's output.",
        )
    }
    if set_aside:
        tables["quarantine"] = quarantine_table(set_aside)
    best = [(name, short(labels[c[0]]), float(p[0])) for name, c, p in zip(names, found, probabilities, strict=True)]
    findings = [f"{name}: {label} ({percent(p)})." for name, label, p in best[:10]]
    if backbone.head == "labels":
        findings = [
            _present(name, [labels[i] for i in c], p) for name, c, p in zip(names, found, probabilities, strict=True)
        ][:10]
    if len(best) > 10:
        findings = [_summary(best, backbone.head), *findings[:3]]
    if set_aside:
        verb = "picture was" if len(set_aside) == 1 else "pictures were"
        findings.append(f"{len(set_aside)} {verb} set aside; the table says why.")
    figures, arrays = _gallery(imageset, said.rows, best)
    random = ("The weights are a random initialisation: the classes mean nothing.",) if backbone.random else ()
    provenance = {
        "model": model,
        "model fingerprint": backbone.fingerprint,
        "images": list(images),
        "preprocessing": repr(backbone.preprocess),
        "device": said.device,
        "seed": seed,
    }
    title = f"What {model} sees in {len(best)} picture{'s' if len(best) != 1 else ''}"
    return Result("predict", title, tuple(findings), tables, figures, arrays, random, provenance)


def _present(name: str, labels: list[str], probabilities: np.ndarray) -> str:
    """'a.png: cat (90 %), indoors (70 %).' of a multi-label head: what is as likely there as not, of the labels asked for."""
    from visus.studies.common.shared import percent

    there = [f"{label} ({percent(float(p))})" for label, p in zip(labels, probabilities, strict=True) if p >= PRESENT]
    none = f"no label reaches {percent(PRESENT)}; nearest {labels[0]} ({percent(float(probabilities[0]))})"
    return f"{name}: {', '.join(there) or none}."


def _summary(best: list[tuple[str, str, float]], head: str) -> str:
    from collections import Counter

    from visus.studies.common.shared import percent

    common = ", ".join(f"{label} ({n})" for label, n in Counter(label for _, label, _ in best).most_common(5))
    mean = sum(p for _, _, p in best) / len(best)
    first = "class" if head == "classes" else "label"
    return f"{len(best):,} pictures; named most often: {common}; mean probability of the first {first} {percent(mean)}."


def _gallery(
    imageset: ImageSet, rows: np.ndarray, best: list[tuple[str, str, float]]
) -> tuple[tuple[Figure, ...], dict[str, np.ndarray]]:
    """The first pictures as thumbnails, with what the model says."""
    from visus.images.thumbnails import thumbnails
    from visus.studies.common.schema1 import Figure
    from visus.studies.common.shared import percent

    shown = rows[:SHOWN]
    captions = [f"{name}: {label} {percent(p)}" for name, label, p in best[:SHOWN]]
    figure = Figure(
        "predictions",
        "gallery",
        "What the model says",
        "Each picture with the most probable class."
        + (f" The first {SHOWN} of {len(rows):,}." if len(rows) > SHOWN else ""),
        {"images": "predicted_pictures", "captions": captions, "groups": None},
    )
    return (figure,), {"predicted_pictures": thumbnails(imageset, shown, THUMBNAIL)}
