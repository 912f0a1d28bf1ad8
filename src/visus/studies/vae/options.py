"""What a VAE study was asked for, in the words of the command line. Light: the command line imports it for its help."""

from __future__ import annotations

from dataclasses import dataclass

from visus.studies.common.options import ImageOptions


@dataclass(frozen=True)
class ShapedImages(ImageOptions):
    """Which images, and in which shape they are taken. size: as '32' or '28x20', None for their own."""

    size: str | None = None
    channels: int | None = None
    download: bool = False


@dataclass(frozen=True)
class VaeOptions:
    """Which VAEs: one that exists, named runs or a sweep; and what a new one is made of. fix: train the first again where it has dead
    dimensions."""

    checkpoint: str | None = None
    compare: str | None = None
    sweep: str | None = None
    fix: bool = False
    latent: int = 20
    decoder: str = "gaussian"
    variance: float = 0.5


@dataclass(frozen=True)
class TrainingOptions:
    """How they are trained. warmup, batch: None where the study chooses. budget: as '5m' or 'none', for all trainings together."""

    beta: float = 1.0
    warmup: int | None = None
    free_bits: float = 0.05
    epochs: int = 30
    batch: int | None = None
    lr: float = 2e-3
    seeds: int = 1
    budget: str = "none"
    precision: str = "auto"
    devices: int = 1


@dataclass(frozen=True)
class EvaluationOptions:
    """How each VAE is measured. features: where samples are judged. samples: images from every prior. importance: samples of z an image.
    shown: images in a row of the page."""

    features: str = "auto"
    samples: int = 1000
    importance: int = 64
    shown: int = 10
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Options:
    """All that was asked."""

    images: ShapedImages
    vaes: VaeOptions
    training: TrainingOptions
    evaluation: EvaluationOptions
