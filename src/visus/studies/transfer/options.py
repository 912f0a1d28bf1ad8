"""What a transfer study was asked for. Light: the command line imports it for its help."""

from __future__ import annotations

from dataclasses import dataclass

from visus.studies.common.options import ImageOptions
from visus.studies.transfer.regime_options import RegimeOptions

POOLS, PRECISIONS, PROTOCOLS = ("mean", "cls", "flatten"), ("fp32", "bf16"), ("visus", "dinov2", "clip")


@dataclass(frozen=True)
class FeatureOptions:
    """How features are extracted. taps: names, or None for early, middle and late. pool: how maps and tokens become vectors."""

    taps: tuple[str, ...] | None = None
    pool: str = "mean"
    precision: str = "fp32"
    engine: str = "auto"
    device: str = "auto"
    seed: int = 0
    download: bool = False


@dataclass(frozen=True)
class ProbeOptions:
    """How features are judged. controls: shuffled labels and random weights beside every probe. maps: t-SNE and UMAP of every layer.

    device and seed: of the features, as `settled` fills them in."""

    protocol: str = "visus"
    controls: bool = True
    maps: bool = True
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class TrainingRequest:
    """What was asked of training, in the words of the command line."""

    regime: list[str] | None
    budget: str
    epochs: int
    scratch_epochs: int | None
    lr: str | None
    batch: int
    accumulate: int
    size: int | None
    augment: bool
    views: int
    seeds: int
    devices: int


@dataclass(frozen=True)
class Options:
    """All that was asked. training: regimes, without the probe, and their recipe. ablate_skips: blocks, ranges, 'sweep', or None. devices:
    processes to train with."""

    models: tuple[str, ...]
    images: ImageOptions
    features: FeatureOptions
    probe: ProbeOptions
    training: RegimeOptions
    ablate_skips: str | None = None
    devices: int = 1

    @property
    def seed(self) -> int:
        return self.features.seed
