"""The CLIP study from its options to its result: inputs, sections, answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from visus.device import choose_device
from visus.errors import DataError
from visus.formats import percent
from visus.images import ImageSet
from visus.models.dual import DualEncoder
from visus.models.dual_open import load_dual
from visus.paths import expanded
from visus.result import Result, Section
from visus.studies.clip import alignment, gap, search, zero_shot
from visus.studies.clip.alignment.findings import width
from visus.studies.clip.embeddings.read import from_file
from visus.studies.clip.encoding import Prompting, from_model
from visus.studies.clip.options import ClipOptions
from visus.studies.clip.pairs import PairedEmbeddings
from visus.studies.clip.zero_shot.measure import ZeroShotMeasures
from visus.studies.common.imagesets import load_imageset
from visus.studies.common.section import section

FEWEST_PAIRS = 4  # of which a line that tells images from texts is fitted on two and judged on two
HEADLINE = {
    "zero-shot": ("",),
    "gap": ("/gap/centroid-distance", "/gap/separable", "/retrieval/image-to-text/recall@1"),
    "alignment": ("/alignment/procrustes/gap",),
}


@dataclass(frozen=True)
class Inputs:
    """What is looked at; control: the same with random weights, or None. source: of the provenance, where it comes from."""

    pairs: PairedEmbeddings
    control: PairedEmbeddings | None
    source: Mapping[str, Any]


def run(options: ClipOptions) -> Result:
    """Zero-shot, gap and alignment of a model on a set or of a file, or a search of the set."""
    device = choose_device(options.device)
    if options.embeddings:
        inputs = Inputs(from_file(expanded(options.embeddings)), None, {"embeddings": options.embeddings})
    else:
        classes = "wanted" if options.queries else "needed"
        imageset = load_imageset(options.images, seed=options.seed, download=options.download, classes=classes)
        encoder = load_dual(options.model, seed=options.seed, download=options.download)
        if options.queries:
            return _search(encoder, imageset, options, device)
        inputs = _embed(encoder, imageset, options, device)
    _check_enough(inputs.pairs, options)
    return _result(inputs, options, device)


def _embed(encoder: DualEncoder, imageset: ImageSet, o: ClipOptions, device: str) -> Inputs:
    """The model's own embeddings, and those of the same network with random weights."""
    prompting = Prompting(o.prompt_sets, expanded(o.synonyms) if o.synonyms else None)
    pairs = from_model(encoder, imageset, prompting, device=device, seed=o.seed)
    control = None
    if o.control and not encoder.random:
        untrained = load_dual(
            o.model + ("&" if "?" in o.model else "?") + "weights=none", seed=o.seed, download=o.download
        )
        first = replace(prompting, sets=prompting.sets[:1])
        control = from_model(untrained, imageset, first, device=device, seed=o.seed)
        if len(control) == len(pairs):  # what is one image is a matter of the images, not of a network
            control = replace(
                control,
                image_keys=pairs.image_keys,
                text_keys=pairs.text_keys,
                texts_are_classes=pairs.texts_are_classes,
            )
    source = {
        "model": encoder.spec,
        "images": imageset.name,
        "images fingerprint": imageset.fingerprint,
        "preprocessing": repr(encoder.preprocess),
    }
    return Inputs(pairs, control, source)


def _check_enough(pairs: PairedEmbeddings, o: ClipOptions) -> None:
    judged = len(pairs if pairs.rows is None else np.unique(pairs.rows))
    if judged < FEWEST_PAIRS and (o.asks_for("gap") or o.asks_for("alignment")):
        raise DataError(
            f"{pairs.name}: {judged} images to judge it on, and the gap and alignments need {FEWEST_PAIRS} pairs at least; "
            f"give more images (a fifth of them is for testing), or ask for --part zero-shot alone"
        )


def _result(inputs: Inputs, o: ClipOptions, device: str) -> Result:
    pairs, control = inputs.pairs, inputs.control
    sections: list[Section] = []
    answer: list[str] = []
    predictions: Mapping[str, np.ndarray] = {}
    warnings, reason = _warnings(pairs), ""
    if o.asks_for("zero-shot") and pairs.classifiers:
        z = zero_shot.measure(pairs, seed=o.seed, control=control)
        sections.append(section(zero_shot, z))
        predictions = z.predictions
        answer.append(_zero_shot_clause(z))
    elif o.asks_for("zero-shot"):
        left_out = f"{pairs.name}: no labels of two classes or more, so zero-shot classification is left out."
        warnings.append(left_out)
        reason = left_out if o.parts else ""
    if o.asks_for("gap"):
        g = gap.measure(pairs, seed=o.seed, control=control)
        sections.append(section(gap, g))
        answer.append(f"images and texts lie {g.space.centroid_distance:.2f} apart")
    if o.asks_for("alignment"):
        a = alignment.measure(pairs, sizes=o.fit_sizes, seed=o.seed, control=control)
        sections.append(section(alignment, a))
        if a.fits:
            before, after = (a.at_most(kind).held.distance for kind in ("none", "procrustes"))
            answer.append(f"Procrustes {width(before, after)}")
    where = f" on {inputs.source['images']}" if "images" in inputs.source else ""
    return Result(
        study="clip",
        title=f"{pairs.name}{where}: images and texts in one space",
        answer=_sentence(answer, pairs.name),
        headline=_headline(sections),
        sections=tuple(sections),
        warnings=warnings,
        provenance={
            **inputs.source,
            **pairs.provenance,
            "pairs": len(pairs),
            "scale": pairs.scale,
            "bias": pairs.bias,
            "device": device,
            "seed": o.seed,
        },
        predictions=predictions,
        status="partial" if reason else "complete",
        reason=reason,
    )


def _zero_shot_clause(z: ZeroShotMeasures) -> str:
    if z.precisions:
        return f"{z.name} has a mean average precision of {percent(z.precisions[0].mean)}"
    return f"{z.name} names {percent(z.scores[0].accuracy.value)} of images rightly"


def _warnings(pairs: PairedEmbeddings) -> list[str]:
    """Of the whole run."""
    warnings = list(pairs.warnings)
    if pairs.random:
        warnings.append(f"The weights of {pairs.name} are a random initialisation: its answers mean nothing.")
    if pairs.quarantine:
        first = pairs.quarantine[0]
        warnings.append(f"{len(pairs.quarantine)} set aside (the first: {first.id}, {first.reason}).")
    return warnings


def _sentence(clauses: list[str], name: str) -> str:
    """The clauses as one sentence; a name keeps its first letter."""
    text = "; ".join(clauses)
    return f"{text if text.startswith(name) else text[0].upper() + text[1:]}." if text else ""


def _headline(sections: list[Section]) -> tuple[str, ...]:
    """Of each section the first metric whose key ends as HEADLINE says, where there is one."""
    found = []
    for one in sections:
        keys = [metric.key for metric in one.metrics]
        found += [next((key for key in keys if key.endswith(end)), None) for end in HEADLINE[one.key]]
    return tuple(key for key in found if key is not None)


def _search(encoder: DualEncoder, imageset: ImageSet, o: ClipOptions, device: str) -> Result:
    """The nearest images to every query, and nothing else."""
    m = search.measure(encoder, imageset, o.queries, shown=o.shown, device=device, download=o.download)
    warnings = list(m.warnings)
    if encoder.random:
        warnings.insert(0, f"The weights of {encoder.spec} are a random initialisation: what is near means nothing.")
    if m.quarantine:
        warnings.append(f"{len(m.quarantine)} files could not be decoded and are not searched.")
    best = m.nearest[0]
    return Result(
        study="clip",
        title=f"{imageset.name} searched with {encoder.spec}",
        answer=f"Nearest to {best.query!r} lies {best.hits[0].text}, with a cosine of {best.hits[0].cosine:.2f}.",
        headline=tuple(metric.key for metric in search.metrics(m))[:5],
        sections=(section(search, m),),
        warnings=warnings,
        provenance={
            "model": encoder.spec,
            "images": imageset.name,
            "images fingerprint": imageset.fingerprint,
            "queries": list(o.queries),
            "device": device,
            "seed": o.seed,
        },
    )
