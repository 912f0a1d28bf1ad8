"""What a training from nothing was asked for. Light: the command line imports it for its help."""

from __future__ import annotations

from dataclasses import dataclass

from visus.errors import DataError
from visus.studies.common.options import check_choice

KINDS = ("vit", "clip")
IMAGES = {"vit": "visus:emoji", "clip": "visus:emoji?task=all"}


@dataclass(frozen=True)
class Data:
    """Which images, and which others are learned beside (names, beside) or tried on (zero_shot)."""

    images: str | None
    names: str | None
    beside: str | None
    zero_shot: str | None
    labels: str | None
    label_column: str | None
    groups: str | None
    limit: int | None


@dataclass(frozen=True)
class Guides:
    """What is learned beside the images: a backbone's features, and word vectors with so many words."""

    teacher: str | None
    vectors: str | None
    words: int


@dataclass(frozen=True)
class Sizes:
    """Of the images in pixels and of the towers."""

    size: int
    patch: int
    width: int
    layers: int
    text_width: int
    text_layers: int


@dataclass(frozen=True)
class Course:
    """How it is trained. drop: share of patches left out; budget: time, as 30m or none."""

    epochs: int
    batch: int
    lr: float
    weight_decay: float
    drop: float
    budget: str
    seed: int


@dataclass(frozen=True)
class Machine:
    """Where it runs."""

    precision: str
    device: str
    devices: int


@dataclass(frozen=True)
class Options:
    """All of it. Raises SpecError and DataError for what does not go together."""

    kind: str
    data: Data
    guides: Guides
    sizes: Sizes
    course: Course
    machine: Machine
    download: bool
    out: str | None

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_choice("precision", self.machine.precision, ("fp32", "bf16"))
        c, s, kind = self.course, self.sizes, self.kind
        if self.out is None:
            raise DataError("a trained model needs a folder; give out=PATH")
        if not 0 <= c.drop <= 0.9:
            raise DataError(f"--drop is {c.drop}; give a share from 0 to 0.9")
        numbers = (
            c.epochs,
            c.batch,
            s.size,
            s.patch,
            s.width,
            s.layers,
            s.text_width,
            s.text_layers,
            self.guides.words,
        )
        if min(numbers) < 1 or c.lr <= 0:
            raise DataError("--epochs, --batch, --lr and all sizes must be above 0")
        if s.size % s.patch:
            raise DataError(f"patches of {s.patch} pixels do not fill {s.size}; give a --patch that divides --size")
        if (s.width % 64 and s.width > 64) or (s.text_width % 64 and s.text_width > 64):
            raise DataError(
                f"--width {s.width} and --text-width {s.text_width} must be multiples of 64, the width of a head"
            )
        if kind == "vit" and (self.guides.vectors or self.data.beside):
            what = "--vectors" if self.guides.vectors else "--beside"
            raise DataError(f"{what} does not go with vit; it is for clip, which reads texts")
        if (kind == "vit" and self.data.zero_shot) or (kind == "clip" and self.data.names):
            what = "--zero-shot" if self.data.zero_shot else "--names"
            raise DataError(f"{what} does not go with {kind}; it is for the other kind")
