"""Every model on images with fewer and fewer patches: tokens dropped and pixels blanked, by every pattern and map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFilter

from visus.errors import SpecError
from visus.images import ImageSet
from visus.measures.masking import blank_mask, kept_at, patch_order
from visus.models.tokens import forward_kept
from visus.progress import task
from visus.studies.vit.engine import Engine, serves
from visus.studies.vit.evaluated import EvaluatedModel, PreparedImages, model_outputs, prepare
from visus.studies.vit.maps import MAPS, importance
from visus.studies.vit.options import MaskingOptions

FAITHFUL = (*MAPS, "random")
WAYS = {"deletion": "most-attended", "insertion": "least-attended"}
SAME = {
    ("random", "deletion"): "random",
    ("random", "insertion"): "random",
    ("attention", "deletion"): "most-attended",
    ("attention", "insertion"): "least-attended",
}
"""Curves of maps that the patterns measure already."""

How = Literal["drop", "blank"]


@dataclass(frozen=True)
class Curve:
    """Answers at every keep ratio.

    how: 'drop' (tokens) or 'blank' (pixels). answers: int64 [r, n]; chosen: float [r, n], the probability of the answer given to the
    whole image. right: bool [r, m] over the images whose class can be meant (asked: bool [n]), None where no answer means one.
    """

    model: str
    how: How
    pattern: str
    ratios: tuple[float, ...]
    answers: np.ndarray
    chosen: np.ndarray
    right: np.ndarray | None
    asked: np.ndarray

    @property
    def agreement(self) -> np.ndarray:
        """bool [r, n]: the answer is that to the whole image."""
        found: np.ndarray = self.answers == self.answers[0]
        return found

    @property
    def counted(self) -> str:
        """What the curve counts: right answers where there are any, else agreement."""
        return "agreement" if self.right is None else "accuracy"

    @property
    def hits(self) -> np.ndarray:
        """bool [r, m]: what is counted."""
        return self.agreement if self.right is None else self.right


@dataclass(frozen=True)
class Blanking:
    """Whose patches are blanked, for every model: the grid and the orders int64 [n, patches] by pattern of the first vision transformer.
    raw: uint8 [n, h, w, 3], the images as it sees them; paint: what hides their pixels."""

    model: str
    grid: tuple[int, int]
    orders: Mapping[str, np.ndarray]
    raw: np.ndarray
    paint: np.ndarray


@dataclass(frozen=True)
class Curves:
    """Everything that models answered: the curves of patterns, and by (model, map, 'deletion' or 'insertion') those of maps. flat: (model,
    map, on how many images it is the same for every patch). refused: why no tokens are dropped."""

    n: int
    blanking: Blanking
    patterns: tuple[Curve, ...]
    faithful: Mapping[tuple[str, str, str], Curve]
    flat: tuple[tuple[str, str, int], ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class WholeImages:
    """A model on whole images: where every curve begins. y: labels, or None. outputs: float32 [n, k] of whole images. engine: what runs it on
    versions of them, None: PyTorch."""

    model: EvaluatedModel
    images: PreparedImages
    y: np.ndarray | None
    device: str
    outputs: np.ndarray = field(repr=False)
    engine: Engine | None = None

    @classmethod
    def of(cls, model: EvaluatedModel, images: PreparedImages, y: np.ndarray | None, device: str) -> WholeImages:
        whole = cls(model, images, y, device, np.empty(0))
        if serves(images.raw, device):
            droppable = model.layout is not None and undroppable(whole) is None
            patches = model.inside.patches if droppable else 0
            whole = replace(whole, engine=Engine(model.backbone, images.raw, patches))
        return replace(whole, outputs=whole.outputs_of(images))

    def outputs_of(self, images: PreparedImages) -> np.ndarray:
        """float32 [n, k]: the model's outputs of a version of the images."""
        found = None if self.engine is None else self.engine.outputs(images.raw)
        return model_outputs(self.model, images, self.device) if found is None else found

    def outputs_without(self, kept: np.ndarray) -> np.ndarray:
        """float32 [n, k]: its outputs with the tokens of other than the kept patches, int64 [n, m], dropped."""
        found = None if self.engine is None else self.engine.outputs(self.images.raw, kept)
        if found is not None:
            return found
        chosen = torch.from_numpy(kept).to(self.device)

        def look(at: slice, x: torch.Tensor) -> np.ndarray:
            return forward_kept(self.model.backbone, x, chosen[at]).float().cpu().numpy()

        return np.concatenate(list(self.images.through(self.model, self.device, look)))


def masked_curves(
    models: Sequence[EvaluatedModel], images: ImageSet, options: MaskingOptions, *, device: str, seed: int
) -> Curves:
    """Run every model on the images with fewer and fewer patches, by every pattern; tokens dropped and pixels blanked.

    The pixels that go are the same for every model: those of the first vision transformer's patches, ordered by its attention where a
    pattern asks for it. A model that tokens cannot be dropped from is told and measured by pixels alone.
    """
    patterns, ratios = options.patterns, options.ratios
    leader = next(m for m in models if m.layout)
    transformers = sum(m.layout is not None for m in models)
    dropping = len(patterns) + 2 * len(FAITHFUL)
    curves: list[Curve] = []
    faithful: dict[tuple[str, str, str], Curve] = {}
    flat, refused = [], []
    blanking: Blanking | None = None
    with task("masking patches", transformers * (dropping + 1) + len(models) * len(patterns)) as progress:
        for model in sorted(models, key=lambda m: m is not leader):
            prepared = prepare(model, images)
            paint = painted(prepared.raw, options.fill, model)
            with model.backbone.on(device):
                whole = WholeImages.of(model, prepared, images.labels, device)
                if model.layout is not None:
                    maps = importance(model, prepared, device)
                    flat += [(model.spec, name, int((np.ptp(v, axis=1) == 0).sum())) for name, v in maps.items()]
                    orders = {
                        p: patch_order(p, model.layout.grid, len(images), seed=seed, scores=maps["attention"])
                        for p in patterns
                    }
                    if blanking is None:
                        blanking = Blanking(model.spec, model.layout.grid, orders, prepared.raw, paint)
                    refusal = undroppable(whole)
                    if refusal is None:
                        known = {p: dropped(whole, order, p, ratios) for p, order in orders.items()}
                        curves += known.values()
                        faithful |= _of_maps(whole, maps, known, ratios, seed)
                    else:
                        refused.append(refusal)
                    progress.advance(dropping + 1)
                if blanking is None:  # the leader comes first
                    raise SpecError(leader.refused)
                for pattern, order in blanking.orders.items():
                    curves.append(blanked(whole, order, pattern, ratios, Hiding(blanking.grid, paint)))
                    progress.advance()
    if blanking is None:
        raise SpecError(leader.refused)
    return Curves(len(images), blanking, tuple(curves), faithful, tuple(f for f in flat if f[2]), tuple(refused))


def _of_maps(
    whole: WholeImages, maps: Mapping[str, np.ndarray], known: Mapping[str, Curve], ratios: Sequence[float], seed: int
) -> dict[tuple[str, str, str], Curve]:
    """Deletion and insertion curves of every map, and of a random order, which serves both ways. known: curves by pattern."""
    grid, n, model = whole.model.inside.grid, len(whole.images.raw), whole.model.spec
    found: dict[tuple[str, str, str], Curve] = {}
    for name in FAITHFUL:
        for way, pattern in WAYS.items():
            curve = known.get(SAME.get((name, way), ""))
            if curve is None and name == "random":
                curve = found.get((model, name, "deletion"))
            if curve is None:
                random = name == "random"
                order = patch_order("random" if random else pattern, grid, n, seed=seed, scores=maps.get(name))
                curve = dropped(whole, order, f"{name}, {way}", ratios)
            found[model, name, way] = curve
    return found


def undroppable(whole: WholeImages) -> str | None:
    """Why tokens cannot be dropped from a vision transformer; None: they can."""
    x = whole.images.batch(whole.model, whole.device, slice(0, 1))
    try:
        forward_kept(whole.model.backbone, x, torch.zeros(1, 1, dtype=torch.int64, device=whole.device))
    except SpecError as error:
        return f"No tokens are dropped: {error}."
    return None


def dropped(whole: WholeImages, order: np.ndarray, pattern: str, ratios: Sequence[float]) -> Curve:
    """Answers with the patch tokens of ever fewer patches in the sequence; the first ratio is 1."""
    outputs = [whole.outputs, *(whole.outputs_without(kept_at(order, ratio)) for ratio in ratios[1:])]
    return _curve(whole, "drop", pattern, ratios, outputs)


@dataclass(frozen=True)
class Hiding:
    """The grid of the patches that are hidden, and what hides their pixels: uint8 broadcastable to the images."""

    grid: tuple[int, int]
    paint: np.ndarray


def blanked(whole: WholeImages, order: np.ndarray, pattern: str, ratios: Sequence[float], hiding: Hiding) -> Curve:
    """Answers with the pixels of ever fewer patches left as they were; the first ratio is 1."""
    outputs = [whole.outputs]
    for ratio in ratios[1:]:
        left = PreparedImages(hidden(whole.images.raw, hiding.paint, order, hiding.grid, ratio))
        with torch.inference_mode():
            outputs.append(whole.outputs_of(left))
    return _curve(whole, "blank", pattern, ratios, outputs)


def hidden(raw: np.ndarray, paint: np.ndarray, order: np.ndarray, grid: tuple[int, int], ratio: float) -> np.ndarray:
    """uint8 [n, h, w, 3]: the images with all but the kept patches painted over."""
    stays = blank_mask(kept_at(order, ratio), grid, (raw.shape[1], raw.shape[2]))
    found: np.ndarray = np.where(stays[..., None], raw, paint)
    return found


def painted(raw: np.ndarray, fill: str, model: EvaluatedModel) -> np.ndarray:
    """What hides pixels, uint8 broadcastable to the images: the mean colour of the model's normalisation, black, or the image blurred."""
    if fill == "blur":
        blur = ImageFilter.GaussianBlur(max(raw.shape[1:3]) / 16)
        return np.stack([np.asarray(Image.fromarray(np.round(p).astype(np.uint8)).filter(blur)) for p in raw])
    colour = np.zeros(3) if fill == "black" else 255 * np.array(model.backbone.preprocess.mean)
    return np.round(colour).astype(np.uint8)[None, None, None]


def _curve(whole: WholeImages, how: How, pattern: str, ratios: Sequence[float], outputs: Sequence[np.ndarray]) -> Curve:
    model, y = whole.model, whole.y
    probabilities = np.stack([model.probabilities(o) for o in outputs])
    answers = probabilities.argmax(axis=2)
    first = answers[0]
    chosen = np.take_along_axis(probabilities, np.broadcast_to(first, answers.shape)[..., None], axis=2)[..., 0]
    right, asked = None, np.ones(len(first), bool)
    if y is not None:
        asked = model.askable(y)
        right = model.right(answers[:, asked], y[asked]) if asked.any() else None
    return Curve(model.spec, how, pattern, tuple(ratios), answers, chosen, right, asked)
