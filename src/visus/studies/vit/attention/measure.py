"""Maps over the images to look at, and entropy and distance of every head over many, with a test a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from visus.errors import SpecError
from visus.images import ImageSet
from visus.measures.attention import Specialisation, mean_known, specialisation
from visus.measures.compare import holm
from visus.models.attention import attention, statistics
from visus.models.relevance import grad_cam
from visus.models.tokens import outlier_tokens
from visus.progress import task
from visus.studies.vit.evaluated import EvaluatedModel, PreparedImages, prepare
from visus.studies.vit.inputs import EvaluatedImages
from visus.studies.vit.maps import importance

HEADS_IMAGES = 200  # images over which heads are measured
BATCH = 16
TITLES = {"attention": "last layer", "rollout": "rollout", "gradient-weighted": "gradients"}
GRAD_CAM = "Grad-CAM"


@dataclass(frozen=True)
class ImageMaps:
    """One model on the images to look at. raw: uint8 [n, h, w, 3], as it sees them. maps: float [n, gh, gw] by title. heads: float32
    [layers, heads, gh, gw] of the first image, None of a network that is no vision transformer. mean_pooled: without a CLS token, so that
    its maps are means over the patches' rows. beside: names of the tokens that are no patches."""

    model: str
    raw: np.ndarray
    maps: Mapping[str, np.ndarray]
    heads: np.ndarray | None
    mean_pooled: bool
    beside: tuple[str, ...]


@dataclass(frozen=True)
class LayerHeads:
    """The heads of one layer (from 1): mean entropy in nats, mean attention distance in pixels, that of the nearest and the farthest head;
    the share of the variation within an image that the head explains, of distance and of entropy, with p of a permutation test and Holm's
    over layers. None: not known, or not tested."""

    layer: int
    entropy: float | None
    distance: float | None
    nearest: float | None
    farthest: float | None
    distance_explained: float | None
    p: float | None
    p_holm: float | None
    entropy_explained: float | None
    entropy_p_holm: float | None


@dataclass(frozen=True)
class HeadsMeasures:
    """What the heads of one model do over n images. entropy, distance: means [layers][heads], None where all of a head's attention fell on
    tokens that are no patches. flat_entropy: of a flat map. explained: of distance, a mean over the tested layers. saturated: images on which
    some head looks at no patch, in saturated_layers. outliers: the mean share of patch tokens with an outlying norm behind the last block."""

    model: str
    n: int
    entropy: tuple[tuple[float | None, ...], ...]
    distance: tuple[tuple[float | None, ...], ...]
    flat_entropy: float
    layers: tuple[LayerHeads, ...]
    explained: float | None
    saturated: int
    saturated_layers: tuple[int, ...]
    outliers: float


@dataclass(frozen=True)
class AttentionMeasures:
    """shown: names of the images to look at; looks: of each model that has maps; refused: (model, why) of the others. heads: of each vision
    transformer."""

    shown: tuple[str, ...]
    looks: tuple[ImageMaps, ...]
    refused: tuple[tuple[str, str], ...]
    heads: tuple[HeadsMeasures, ...]


def measure(models: Sequence[EvaluatedModel], images: EvaluatedImages, *, device: str, seed: int) -> AttentionMeasures:
    """Maps of all models over the images to look at (Grad-CAM of one that is no vision transformer); heads over some of the test images."""
    looks, refused = [], []
    for model in models:
        try:
            looks.append(_image_maps(model, images.shown, device))
        except SpecError as error:
            refused.append((model.spec, str(error)))
    some = images.test.limit(HEADS_IMAGES, seed=seed)
    heads = tuple(_heads(m, some, device=device, seed=seed) for m in models if m.layout is not None)
    return AttentionMeasures(images.shown.ids, tuple(looks), tuple(refused), heads)


def beside_patches(names: Sequence[str]) -> str:
    """('cls', 'register 1', 'register 2') -> 'cls, 2 registers'."""
    counted = Counter(name.rpartition(" ")[0] or name for name in names)
    return ", ".join(f"{n} {kind}s" if n > 1 else kind for kind, n in counted.items())


def _image_maps(model: EvaluatedModel, images: ImageSet, device: str) -> ImageMaps:
    prepared = prepare(model, images)
    with model.backbone.on(device):
        if model.layout is None:
            found = prepared.through(
                model, device, lambda _, x: grad_cam(model.backbone, x, None).cpu().numpy(), size=BATCH
            )
            return ImageMaps(model.spec, prepared.raw, {GRAD_CAM: np.concatenate(list(found))}, None, False, ())
        scores = importance(model, prepared, device)
        maps = {TITLES[name]: values.reshape(-1, *model.layout.grid) for name, values in scores.items()}
        heads = _every_head(model, prepared, device)
    return ImageMaps(model.spec, prepared.raw, maps, heads, model.mean_pooled, model.layout.extra)


def _every_head(model: EvaluatedModel, images: PreparedImages, device: str) -> np.ndarray:
    """float32 [layers, heads, gh, gw]: every head's CLS row of the first image."""
    x = images.batch(model, device, slice(0, 1))
    found = attention(model.backbone, x, layers=range(len(model.inside.blocks))).maps
    return np.stack([found[k][0].cpu().numpy().reshape(-1, *model.inside.grid) for k in sorted(found)])


def _heads(model: EvaluatedModel, images: ImageSet, *, device: str, seed: int) -> HeadsMeasures:
    prepared = prepare(model, images)

    def look(_: slice, x: torch.Tensor) -> tuple[np.ndarray, ...]:
        found = *statistics(model.backbone, x), outlier_tokens(model.backbone, x).float().mean(dim=1)
        return tuple(f.cpu().numpy() for f in found)

    parts = []
    with model.backbone.on(device), task("measuring heads", len(images)) as progress:
        for part in prepared.through(model, device, look, size=BATCH):
            parts.append(part)
            progress.advance(len(part[0]))
    entropy, distance, outliers = (np.concatenate(column) for column in zip(*parts, strict=True))
    return heads_measures(model.spec, entropy, distance, outliers=outliers, patches=model.inside.patches, seed=seed)


def heads_measures(
    model: str, entropy: np.ndarray, distance: np.ndarray, *, outliers: np.ndarray, patches: int, seed: int
) -> HeadsMeasures:
    """entropy, distance: float [n, layers, heads], NaN where all of a head's attention fell on tokens that are no patches; outliers: [n]."""
    count = distance.shape[1]
    far = [_tested(distance[:, layer], seed) for layer in range(count)]
    wide = [_tested(entropy[:, layer], seed) for layer in range(count)]
    far_p, wide_p = _corrected(far), _corrected(wide)
    layers = []
    for k in range(count):
        per_head = mean_known(distance[:, k])
        known = per_head[np.isfinite(per_head)]
        tested, spread = far[k], wide[k]
        layers.append(
            LayerHeads(
                k + 1,
                _number(mean_known(entropy[:, k].reshape(-1))),
                float(known.mean()) if len(known) else None,
                float(known.min()) if len(known) else None,
                float(known.max()) if len(known) else None,
                distance_explained=None if tested is None else tested.statistic,
                p=None if tested is None else tested.p,
                p_holm=far_p[k],
                entropy_explained=None if spread is None else spread.statistic,
                entropy_p_holm=wide_p[k],
            )
        )
    done = [t.statistic for t in far if t is not None]
    lost = np.isnan(entropy)
    return HeadsMeasures(
        model=model,
        n=len(distance),
        entropy=_matrix(mean_known(entropy)),
        distance=_matrix(mean_known(distance)),
        flat_entropy=float(np.log(patches)),
        layers=tuple(layers),
        explained=float(np.mean(done)) if done else None,
        saturated=int(lost.any(axis=(1, 2)).sum()),
        saturated_layers=tuple(map(int, np.flatnonzero(lost.any(axis=(0, 2))) + 1)),
        outliers=float(outliers.mean()),
    )


def _tested(values: np.ndarray, seed: int) -> Specialisation | None:
    """The test of a layer, of the images on which every head has a value, float [n, heads]; None: fewer than two."""
    known = values[np.isfinite(values).all(axis=1)]
    return specialisation(known, seed=seed) if len(known) > 1 else None


def _corrected(tests: Sequence[Specialisation | None]) -> list[float | None]:
    """Holm's p of every layer, None of one that was not tested."""
    corrected = iter(holm(np.array([t.p for t in tests if t is not None])))
    return [None if t is None else float(next(corrected)) for t in tests]


def _number(value: float | np.ndarray) -> float | None:
    return float(value) if np.isfinite(value) else None


def _matrix(means: np.ndarray) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(_number(v) for v in row) for row in means)
