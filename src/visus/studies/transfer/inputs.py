"""What a transfer study looks at: labelled images with their split, and the features of every model on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visus.features import Features, extract
from visus.features.prepared import decoded_once
from visus.images import ImageSet, Splits
from visus.measures.reduce import pca_from_train
from visus.models import Backbone, load_backbone
from visus.studies.common.imagesets import load_imageset
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.labels import labels_of
from visus.studies.common.options import ImageOptions
from visus.studies.common.taps import chosen_taps, of_random_control, rows_of
from visus.studies.transfer.options import FeatureOptions


@dataclass(frozen=True)
class ModelFeatures:
    """One model's features of the images, and those of the same architecture with random weights (None: no such control)."""

    backbone: Backbone
    features: Features
    random_control: Features | None
    taps: tuple[str, ...]

    @property
    def spec(self) -> str:
        return self.backbone.spec


def load_labelled(options: ImageOptions, *, seed: int, download: bool) -> tuple[ImageSet, Splits]:
    """The images and their split. Raises DataError where they have no labels."""
    imageset = load_imageset(options, seed=seed, download=download, by_class=True)
    labels_of(imageset)
    return imageset, imageset.split(seed=seed)


def extract_features(spec: str, imageset: ImageSet, options: FeatureOptions, *, controls: bool) -> ModelFeatures:
    """The features of one model at its taps, and of its architecture with random weights where controls are asked for."""
    backbone = load_backbone(spec, seed=options.seed, download=options.download)
    names = chosen_taps(backbone, options.taps)

    def run(network: Backbone) -> Features:
        o = options
        return extract(imageset, network, names, pool=o.pool, precision=o.precision, engine=o.engine, device=o.device)

    with decoded_once():
        features = run(backbone)
        control = of_random_control(backbone, run, seed=options.seed) if controls else None
    return ModelFeatures(backbone, features, control, tuple(names))


def vectors(features: Features, tap: str, images: LabelledImages, *, pool: str, seed: int) -> np.ndarray:
    """float32 [n, d]: one tap's vectors of the valid images; flattened ones are reduced by PCA fitted on training images."""
    x = rows_of(features, tap, images.valid_indices)
    return pca_from_train(x, images.splits.train, seed=seed) if pool == "flatten" else x
