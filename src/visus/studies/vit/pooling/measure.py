"""Linear probes on the ways to make one vector of a ViT's tokens, at the last layer and through depth, each beside its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from visus.features import Features, extract
from visus.features.prepared import decoded_once
from visus.images import ImageSet
from visus.measures.probe import ProbeResult
from visus.measures.probe_null import PermutationNull
from visus.measures.repeats import repeats
from visus.models import Backbone
from visus.models.tapping import CLS_AND_MEAN
from visus.progress import task
from visus.result import key_of
from visus.studies.common import repeated_images
from visus.studies.common.comparisons import Comparison, compare, family
from visus.studies.common.labelled_images import LabelledImages, valid_images
from visus.studies.common.null_cautions import null_cautions
from visus.studies.common.probing import fit_probe, fit_shuffled
from visus.studies.common.proportion import Proportion, of_value
from visus.studies.common.repeated_images import Answers, RepeatedImages
from visus.studies.common.taps import of_random_control, pixels_of, rows_of
from visus.studies.vit.evaluated import EvaluatedModel

DEPTHS = 4
ORDER = ("CLS", "mean", "CLS + mean", "pre-logits")


@dataclass(frozen=True)
class ProbeRow:
    """One probe: at which layer (from 1; 0: behind the pooling head), by which pooling; test accuracy, and that of its controls: the same
    probe on the network with random weights and on permuted labels, mean and 95 % point (None: not run, or no such network)."""

    layer: int
    pooling: str
    width: int
    accuracy: Proportion
    balanced_accuracy: float
    nll: float
    ece: float
    validation: float
    penalty: float
    at_edge: bool
    random: float | None = None
    shuffled: float | None = None
    shuffled_point: float | None = None

    @property
    def where(self) -> str:
        """'layer 6', or 'behind the pooling'."""
        return place(self.layer)


@dataclass(frozen=True)
class ModelPoolings:
    """The probes of one vision transformer, poolings in the order of ORDER, each through depth. preferred: by validation, of those at the
    last layer and behind the pooling head. pairs: of every two poolings, those of the last layer first. cautions: what shuffled labels say
    against the probes."""

    model: str
    probes: tuple[ProbeRow, ...]
    preferred: ProbeRow
    pairs: tuple[Comparison, ...]
    cautions: tuple[str, ...] = ()

    @property
    def last(self) -> tuple[ProbeRow, ...]:
        """The probes at the last layer and behind the pooling head."""
        deepest = max(p.layer for p in self.probes)
        return tuple(p for p in self.probes if p.layer in (0, deepest))

    @property
    def main(self) -> Comparison | None:
        """CLS against the mean at the last layer; None without a CLS token."""
        names = (f"{self.model} · CLS", f"{self.model} · mean")
        return next((c for c in self.pairs if (c.a, c.b) == names), None)

    def key(self, p: ProbeRow, *what: str) -> str:
        """Of a probe's metric: model/layer-6/cls/accuracy."""
        return key_of(self.model, p.where, p.pooling, *what)


@dataclass(frozen=True)
class PoolingMeasures:
    """models: each vision transformer. n: test images. repeated: the same image in training and test, the same split for all models."""

    models: tuple[ModelPoolings, ...]
    n: int
    repeated: RepeatedImages


@dataclass(frozen=True)
class FittedProbe:
    """A probe with its controls."""

    layer: int
    pooling: str
    width: int
    probe: ProbeResult
    shuffled: PermutationNull | None
    random: float | None


@dataclass(frozen=True)
class _Probed:
    """One model's probes on its images, and hashes of these images' pixels."""

    model: str
    images: LabelledImages
    pixels: np.ndarray
    probes: tuple[FittedProbe, ...]


def measure(
    models: Sequence[EvaluatedModel], imageset: ImageSet, *, controls: bool, device: str, seed: int
) -> PoolingMeasures:
    """Probe every vision transformer. controls: beside every probe the same one on shuffled labels and on random weights."""
    found = [_probe(m, imageset, controls=controls, device=device, seed=seed) for m in models]
    first = found[0]
    images, splits = first.images, first.images.splits
    same = repeats(first.pixels, images.y, splits.train, splits.test, splits.folds)
    rows = repeated_images.Rows(images.ids, splits.test, images.y, images.classes)
    answers = [
        Answers((f.model, place(p.layer), p.pooling), p.probe.predictions == f.images.test_y)
        for f in found
        for p in f.probes
    ]
    poolings = [model_poolings(f.model, f.probes, f.images.test_y, seed=seed) for f in found]
    pairs = iter(family([pair for p in poolings for pair in p.pairs]))
    corrected = tuple(replace(p, pairs=tuple(next(pairs) for _ in p.pairs)) for p in poolings)
    return PoolingMeasures(corrected, len(images.test_y), repeated_images.measure(same, rows, answers))


def place(layer: int) -> str:
    """'layer 6', or 'behind the pooling' where it is 0."""
    return f"layer {layer}" if layer else "behind the pooling"


def _probe(model: EvaluatedModel, imageset: ImageSet, *, controls: bool, device: str, seed: int) -> _Probed:
    """Without a CLS token only mean and pre-logits are there. Prefix tokens are never averaged in."""
    backbone, blocks = model.backbone, model.inside.blocks
    chosen = sorted({max(round(len(blocks) * k / DEPTHS), 1) for k in range(1, DEPTHS + 1)})
    layers = {k: blocks[k - 1] for k in chosen}

    names = [*_names(backbone, layers).values(), backbone.aliases["late"]]
    with_cls = not model.mean_pooled

    def extracted(b: Backbone) -> Features:
        return extract(imageset, b, names, pool=CLS_AND_MEAN if with_cls else "mean", device=device)

    with decoded_once():
        found = extracted(backbone)
        control = of_random_control(backbone, extracted, seed=seed) if controls else None
    images = valid_images(imageset, imageset.split(seed=seed), [found, *([control] if control else [])])

    def pooled(features: Features) -> dict[tuple[int, str], np.ndarray]:
        return _vectors(features, backbone, layers, images.valid_indices, with_cls=with_cls)

    vectors, of_control = pooled(found), pooled(control) if control else {}
    probes = []
    with task(f"probing poolings of {model.spec}", len(vectors)) as progress:
        for (layer, pooling), x in vectors.items():
            probe = fit_probe(x, images, device=device)
            shuffled = fit_shuffled(x, images, probe, device=device, seed=seed) if controls else None
            random = fit_probe(of_control[layer, pooling], images, device=device).top1 if of_control else None
            probes.append(FittedProbe(layer, pooling, x.shape[1], probe, shuffled, random))
            progress.advance()
    return _Probed(model.spec, images, pixels_of(found, images.valid_indices), tuple(probes))


def _names(backbone: Backbone, layers: Mapping[int, str]) -> dict[int, str]:
    by_path = {tap.module: tap.name for tap in backbone.taps}
    return {layer: by_path[path] for layer, path in layers.items()}


def _vectors(
    features: Features, backbone: Backbone, layers: Mapping[int, str], valid: np.ndarray, *, with_cls: bool
) -> dict[tuple[int, str], np.ndarray]:
    """float32 [n, d] by (layer, pooling), of the images at positions `valid`. with_cls: the features hold the CLS token, then the mean."""
    vectors: dict[tuple[int, str], np.ndarray] = {}
    for layer, name in _names(backbone, layers).items():
        both = rows_of(features, name, valid)
        width = both.shape[1] // 2 if with_cls else 0
        if with_cls:
            vectors[layer, "CLS"] = np.ascontiguousarray(both[:, :width])
            vectors[layer, "CLS + mean"] = both
        vectors[layer, "mean"] = np.ascontiguousarray(both[:, width:])
    vectors[0, "pre-logits"] = rows_of(features, backbone.aliases["late"], valid)
    return vectors


def model_poolings(model: str, probes: Sequence[FittedProbe], y: np.ndarray, *, seed: int) -> ModelPoolings:
    """What is told of one model's probes. y: int64 labels of the test images."""
    ordered = sorted(probes, key=lambda p: ORDER.index(p.pooling))
    deepest = max(p.layer for p in probes)

    def pairs(where: str, layers: Sequence[int]) -> list[Comparison]:
        right = {p.pooling: p.probe.predictions == y for p in ordered if p.layer in layers}
        return [
            compare(right[a], right[b], names=(f"{where} · {a}", f"{where} · {b}"), seed=seed)
            for a, b in combinations(right, 2)
        ]

    compared = pairs(model, (0, deepest))
    for layer in sorted({p.layer for p in probes} - {0, deepest}, reverse=True):
        compared += pairs(f"{model}, layer {layer}", (layer,))
    by_luck = float(np.bincount(y).max()) / len(y)  # the most that answers made without looking can reach
    nulls = [(f"{model}, {place(p.layer)}, {p.pooling}", p.shuffled, p.probe.top1) for p in probes]
    best = max((p for p in probes if p.layer in (0, deepest)), key=lambda p: p.probe.validation_accuracy)
    return ModelPoolings(
        model,
        tuple(_row(p, len(y)) for p in ordered),
        _row(best, len(y)),
        tuple(compared),
        tuple(null_cautions(nulls, by_luck)),
    )


def _row(p: FittedProbe, n: int) -> ProbeRow:
    probe = p.probe
    return ProbeRow(
        layer=p.layer,
        pooling=p.pooling,
        width=p.width,
        accuracy=of_value(probe.top1, n),
        balanced_accuracy=probe.balanced_accuracy,
        nll=probe.nll,
        ece=probe.ece,
        validation=probe.validation_accuracy,
        penalty=probe.lambda_,
        at_edge=probe.at_edge,
        random=p.random,
        shuffled=None if p.shuffled is None else p.shuffled.mean,
        shuffled_point=None if p.shuffled is None else p.shuffled.point,
    )
