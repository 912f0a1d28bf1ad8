"""What a ViT study looks at: each model with its pictures prepared, and how its outputs become answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from visus.errors import DataError, SpecError
from visus.memory import halving

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from visus.images import ImageSet
    from visus.measures.probe import ProbeResult
    from visus.models import Backbone
    from visus.models.vit import ViTLayout

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
    def flat(self) -> bool:
        """A vision transformer without CLS token."""
        return self.layout is not None and self.layout.cls is None

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (logits, or pooled features) [n, k] -> probabilities [n, c] of what the model, or its probe, can answer."""
        from visus.models.heads import probabilities

        if self.probe is not None:
            return probabilities(self.probe.classifier.logits(outputs, 0), "classes")
        return probabilities(outputs, self.backbone.head)

    @property
    def several(self) -> bool:
        """Whether its labels stand alone: a picture may have several of them, and none is its one answer."""
        return self.probe is None and self.backbone.head == "labels"

    def right(self, answers: np.ndarray, y: np.ndarray) -> np.ndarray | None:
        """Whether answers (int64 [..., n], positions of the largest probability) mean the labels y; None: they cannot."""
        from visus.models.meanings import means_label

        if self.reading == "probe":
            same: np.ndarray = answers == y
            return same
        if self.targets is None:
            return None
        targets = self.targets
        flat = np.atleast_2d(answers)
        return np.stack([means_label(row, y, targets) for row in flat]).reshape(answers.shape)

    def askable(self, y: np.ndarray) -> np.ndarray:
        """bool [n]: the pictures whose class some answer means."""
        if self.targets is None:
            return np.ones(len(y), bool)
        has = np.array([len(t) > 0 for t in self.targets])
        found: np.ndarray = has[y]
        return found

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the answers: the model's own classes; None for a probe, which answers in the set's."""
        return self.backbone.labels


@dataclass(frozen=True)
class Shown:
    """Pictures prepared for one model: uint8 [n, h, w, 3], as its preprocessing makes them."""

    raw: np.ndarray

    def batch(self, viewer: EvaluatedModel, device: str, at: slice) -> torch.Tensor:
        """The pictures at a slice, normalised, float32 [b, 3, h, w] on the device."""
        import torch

        return viewer.backbone.preprocess.normalize(torch.from_numpy(self.raw[at]).to(device))

    def through(
        self, viewer: EvaluatedModel, device: str, run: Callable[[slice, torch.Tensor], T], *, size: int = BATCH
    ) -> Iterator[T]:
        """What `run` gives of batches (where they stand, normalised pictures), in order; in smaller ones where memory is too little.

        `run` should leave nothing of what it gives on a GPU. Raises DataError where one picture is too many.
        """
        for _, found in halving(
            len(self.raw), size, lambda at: run(at, self.batch(viewer, device, at)), what=viewer.spec
        ):
            yield found


def prepared(viewer: EvaluatedModel, imageset: ImageSet, rows: np.ndarray) -> Shown:
    """The pictures at positions `rows`, as the model sees them. Raises DataError for one that cannot be decoded."""
    return Shown(np.stack([viewer.backbone.preprocess(imageset.decode(int(i))) for i in rows]))


@dataclass(frozen=True)
class Surveyed:
    """Pictures that decode: their positions int64 [n], names, and height and width in pixels int64 [n, 2]; warnings: of the others."""

    rows: np.ndarray
    names: tuple[str, ...]
    sizes: np.ndarray
    warnings: list[str]


def survey(imageset: ImageSet, rows: np.ndarray) -> Surveyed:
    """Decode the pictures at positions `rows` once. Raises DataError where none decodes."""
    from visus.progress import task

    good, sizes, bad = [], [], []
    with task("checking images", len(rows)) as progress:
        for i in rows:
            try:
                picture = imageset.decode(int(i))
                good.append(int(i))
                sizes.append((picture.height, picture.width))
            except DataError as error:
                bad.append((imageset.ids[int(i)], str(error)))
            progress.advance()
    if not good:
        raise DataError(
            f"no picture to look at in {imageset.name} can be read ({bad[0][0]}: {bad[0][1]}); mend the files"
            if bad
            else f"{imageset.name} has no pictures to look at; give more"
        )
    warnings = [f"{name} cannot be read and is left out: {reason}." for name, reason in bad]
    return Surveyed(np.array(good, np.int64), tuple(imageset.ids[i] for i in good), np.array(sizes, np.int64), warnings)


def smaller_than_a_patch(viewers: Sequence[EvaluatedModel], surveyed: Surveyed) -> list[str]:
    """A sentence for every vision transformer one of whose patches is larger than some picture is before it is resized."""
    found = []
    for viewer in viewers:
        if viewer.layout is None:
            continue
        down, across = viewer.layout.patch
        tiny = np.flatnonzero((surveyed.sizes < (down, across)).any(axis=1))
        if len(tiny):
            height, width = surveyed.sizes[tiny[0]]
            others = f", and {len(tiny) - 1:,} more" if len(tiny) > 1 else ""
            found.append(
                f"{surveyed.names[tiny[0]]} ({height} x {width} pixels{others}) is smaller than a patch of {viewer.spec} "
                f"({down} x {across}): enlarged, its maps would show nothing that is in it."
            )
    return found


def views(
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
    from visus.models import load_backbone
    from visus.models.meanings import described_by
    from visus.progress import note

    backbones = [load_backbone(spec, seed=seed, download=download) for spec in specs]
    outputs = {b.spec: b.labels for b in backbones if b.labels is not None and b.head == "classes"}
    given: dict[str, tuple[np.ndarray, ...]] = {}
    if meanings is not None and imageset.labels is not None:
        given = described_by(meanings, imageset.classes, outputs, ids=imageset.wordnet)
        if len(backbones) > 1:
            note(f"{meanings.name} describes the outputs of {', '.join(given)}")
    return [view(b, imageset, given=given.get(b.spec), seed=seed, device=device, answers=answers) for b in backbones]


def view(
    backbone: Backbone,
    imageset: ImageSet,
    *,
    given: tuple[np.ndarray, ...] | None,
    seed: int,
    device: str,
    answers: bool,
) -> EvaluatedModel:
    """Find out how a model answers. given: which of its outputs mean which class, where the user said so."""
    from visus.models.heads import UNREAD
    from visus.models.meanings import class_targets
    from visus.models.vit import vit_layout

    spec = backbone.spec
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
            f"{spec} {backbone.info.get(UNREAD, 'has no classifier')} and {imageset.name} no labels to fit a probe on; give labelled "
            "images, a model that classifies, or --part attention"
        )
    probe = fitted(backbone, imageset, device=device, seed=seed) if answers else None
    return EvaluatedModel(backbone, inside, "probe", probe=probe, refused=refused)


def fitted(backbone: Backbone, imageset: ImageSet, *, device: str, seed: int) -> ProbeResult:
    """A linear probe (P3) on the pooled feature of the whole set, by its own split."""
    from visus.features import extract
    from visus.measures.probe import linear_probe
    from visus.studies.common.shared import labels_of
    from visus.studies.common.valid import valid_indices

    y = labels_of(imageset)
    tap = backbone.aliases["late"]
    features = extract(imageset, backbone, [tap], device=device)
    kept, moved = valid_indices(imageset.split(seed=seed), [features], len(imageset))
    return linear_probe(
        features[tap],
        y[kept],
        folds=moved.folds,
        train=moved.train,
        test=moved.test,
        n_classes=len(imageset.classes),
        device=device,
    )
