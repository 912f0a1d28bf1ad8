"""The models of a ViT study: what each has inside, how its outputs become answers, and its own view of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

from visus.errors import DataError, SpecError
from visus.features import extract
from visus.images import ImageSet
from visus.measures.probe import ProbeResult
from visus.memory import halving
from visus.models import Backbone, load_backbone
from visus.models.heads import UNREAD, probabilities
from visus.models.labels import short
from visus.models.meanings import class_targets, described_by, means_label
from visus.models.vit import ViTLayout, vit_layout
from visus.progress import note
from visus.studies.common.labelled_images import valid_images
from visus.studies.common.probing import fit_probe

T = TypeVar("T")
BATCH = 64
Reading = Literal["classifier", "probe", "output"]


@dataclass(frozen=True)
class EvaluatedModel:
    """One model of the study.

    layout: None for a network that is no vision transformer (compared where pixels are). reading: how answers are read off:
    'classifier' (its outputs mean the set's classes, by `targets`),
    'probe' (a linear probe on its pooled feature), 'output' (its own
    classes, which mean none of the set's: agreement only). refused: why it is no vision transformer, in one line.
    """

    backbone: Backbone
    layout: ViTLayout | None
    reading: Reading
    targets: tuple[np.ndarray, ...] | None = None
    probe: ProbeResult | None = None
    refused: str = ""

    @property
    def spec(self) -> str:
        """As the user typed it."""
        return self.backbone.spec

    @property
    def inside(self) -> ViTLayout:
        """The layout of a vision transformer. Raises SpecError for a network that is none."""
        if self.layout is None:
            raise SpecError(self.refused)
        return self.layout

    @property
    def mean_pooled(self) -> bool:
        """A vision transformer without CLS token."""
        return self.layout is not None and self.layout.cls is None

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (logits, or pooled features) [n, k] -> probabilities [n, c] of what the model, or its probe, can answer."""
        if self.probe is not None:
            return probabilities(self.probe.classifier.logits(outputs, 0), "classes")
        return probabilities(outputs, self.backbone.head)

    @property
    def multi_label(self) -> bool:
        """Whether its labels stand alone: an image may have several of them, and none is its one answer."""
        return self.probe is None and self.backbone.head == "labels"

    def right(self, answers: np.ndarray, y: np.ndarray) -> np.ndarray | None:
        """Whether answers (int64 [..., n], positions of the largest probability) mean the labels y [n]; None: they cannot."""
        if self.reading == "probe":
            same: np.ndarray = answers == y
            return same
        if self.targets is None:
            return None
        targets = self.targets
        rows = np.atleast_2d(answers)
        return np.stack([means_label(row, y, targets) for row in rows]).reshape(answers.shape)

    def askable(self, y: np.ndarray) -> np.ndarray:
        """bool [n]: the images whose class some answer means."""
        if self.targets is None:
            return np.ones(len(y), bool)
        has = np.array([len(t) > 0 for t in self.targets])
        found: np.ndarray = has[y]
        return found

    def answer_name(self, position: int, classes: Sequence[str]) -> str:
        """An answer as people read it: a class of the model's own, or of a probe one of the set's."""
        names = self.backbone.labels
        return short(names[position]) if names else classes[position]


@dataclass(frozen=True)
class PreparedImages:
    """Images prepared for one model: uint8 [n, h, w, 3], as its preprocessing makes them."""

    raw: np.ndarray

    def batch(self, model: EvaluatedModel, device: str, at: slice) -> torch.Tensor:
        """The images at a slice, normalised, float32 [b, 3, h, w] on the device."""
        return model.backbone.preprocess.normalize(torch.from_numpy(self.raw[at]).to(device))

    def through(
        self, model: EvaluatedModel, device: str, run: Callable[[slice, torch.Tensor], T], *, size: int = BATCH
    ) -> Iterator[T]:
        """What `run` gives of batches (where they stand, normalised images), in order; in smaller ones where memory is too little.

        `run` should leave nothing of what it gives on a GPU. Raises DataError where one image is too many.
        """
        for _, found in halving(
            len(self.raw), size, lambda at: run(at, self.batch(model, device, at)), what=model.spec
        ):
            yield found


def prepare(model: EvaluatedModel, images: ImageSet) -> PreparedImages:
    """The images as the model sees them. Raises DataError for one that cannot be decoded."""
    return PreparedImages(np.stack([model.backbone.preprocess(images.decode(i)) for i in range(len(images))]))


def model_outputs(model: EvaluatedModel, images: PreparedImages, device: str) -> np.ndarray:
    """float32 [n, k]: logits of whole images, or for a probe the pooled features."""
    return np.concatenate(list(images.through(model, device, lambda _, x: _outputs(model, x))))


def _outputs(model: EvaluatedModel, batch: torch.Tensor) -> np.ndarray:
    backbone = model.backbone
    if model.reading != "probe":
        return backbone.classify(batch).float().cpu().numpy()
    taps = backbone.resolve(["late"])
    return backbone.forward(batch, taps)[taps[0].name].float().cpu().numpy()


def load_models(
    specs: Sequence[str],
    imageset: ImageSet,
    *,
    meanings: Path | None,
    seed: int,
    device: str,
    download: bool,
    answers: bool,
) -> list[EvaluatedModel]:
    """Load the models, and find out how each answers. meanings: a user's file; of the models it touches those whose outputs it describes.

    answers: whether answers are needed at all (a probe takes a pass over the set).
    """
    backbones = [load_backbone(spec, seed=seed, download=download) for spec in specs]
    outputs = {b.spec: b.labels for b in backbones if b.labels is not None and b.head == "classes"}
    given: dict[str, tuple[np.ndarray, ...]] = {}
    if meanings is not None and imageset.labels is not None:
        given = described_by(meanings, imageset.classes, outputs, ids=imageset.wordnet)
        if len(backbones) > 1:
            note(f"{meanings.name} describes the outputs of {', '.join(given)}")
    return [evaluated(b, imageset, given.get(b.spec), seed=seed, device=device, answers=answers) for b in backbones]


def evaluated(
    backbone: Backbone,
    imageset: ImageSet,
    given: tuple[np.ndarray, ...] | None,
    *,
    seed: int,
    device: str,
    answers: bool,
) -> EvaluatedModel:
    """Find out how a model answers. given: which of its outputs mean which class, where the user said so."""
    inside: ViTLayout | None = None
    refused = ""
    try:
        inside = vit_layout(backbone)
    except SpecError as error:
        refused = str(error)
    targets = None
    if backbone.labels is not None and imageset.labels is not None and backbone.head == "classes":
        known = given or class_targets(imageset.classes, backbone.labels, ids=imageset.wordnet)
        targets = tuple(known) if known is not None and any(len(t) for t in known) else None
    if targets is not None:
        return EvaluatedModel(backbone, inside, "classifier", targets, refused=refused)
    if backbone.labels is not None:
        return EvaluatedModel(backbone, inside, "output", refused=refused)
    if answers and imageset.labels is None:
        raise DataError(
            f"{backbone.spec} {backbone.info.get(UNREAD, 'has no classifier')} and {imageset.name} no labels to fit a probe on; give labelled "
            "images, a model that classifies, or --part attention"
        )
    probe = _fitted(backbone, imageset, device=device, seed=seed) if answers else None
    return EvaluatedModel(backbone, inside, "probe", probe=probe, refused=refused)


def _fitted(backbone: Backbone, imageset: ImageSet, *, device: str, seed: int) -> ProbeResult:
    """A linear probe (P3) on the pooled feature of the whole set, by its own split."""
    tap = backbone.aliases["late"]
    features = extract(imageset, backbone, [tap], device=device)
    return fit_probe(features[tap], valid_images(imageset, imageset.split(seed=seed), [features]), device=device)
