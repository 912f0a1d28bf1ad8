"""Where samples are judged: a named feature space, and what real images score in it (P11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.features import extract
from visus.formats import percent
from visus.images import ImageSet
from visus.images.arrays import MemorySource
from visus.measures.frechet import Frechet, frechet_distance
from visus.measures.manifold import PrecisionRecall, precision_recall
from visus.models import load_backbone
from visus.models.base import Backbone
from visus.progress import Silent, reporting
from visus.studies.vae.inputs import ImageArrays, as_rgb
from visus.studies.vae.options import EvaluationOptions
from visus.training.devices import Devices
from visus.training.small_cnn import small_classifier

CLASSIFIER = "classifier"
FALLBACK = "visus:effnet-lite0"
REAL = 5000  # test images that samples are compared with, at most

Extractor = Callable[[np.ndarray], np.ndarray]  # uint8 [n, h, w, c] -> float [n, d]


@dataclass(frozen=True)
class Scores:
    """Of one set of images against the test images."""

    frechet: Frechet
    sharing: PrecisionRecall


@dataclass(frozen=True)
class FeatureSpace:
    """Where samples are judged: a feature space by name, a sentence about it, the test images' features, and what as many training
    images score there, which no sample should beat."""

    name: str
    about: str
    features: Extractor
    real: np.ndarray
    floor: Scores

    def scores(self, images: np.ndarray) -> Scores:
        """Of images, uint8 [n, h, w, c], against the test images."""
        return scored(self.real, self.features(images))


def scored(real: np.ndarray, fake: np.ndarray) -> Scores:
    """Fréchet distance, precision and recall of features, float [n, d] and [m, d]."""
    with reporting(Silent()):
        return Scores(frechet_distance(real, fake), precision_recall(real, fake))


def feature_space(images: ImageArrays, options: EvaluationOptions, *, devices: Devices, download: bool) -> FeatureSpace:
    """The feature space that a user asked for: 'auto', 'classifier', or a backbone's spec. Raises DataError, SpecError."""
    spec = options.features
    if spec == "auto":
        spec = CLASSIFIER if images.labels is not None else FALLBACK
    real = images.test[:: max(len(images.test) // REAL, 1)][:REAL]
    if spec == CLASSIFIER:
        name, about, features = _of_classifier(images, devices, options.seed)
    else:
        backbone = load_backbone(spec, seed=options.seed, download=download)
        name, about = spec, f"the last layer of {spec}"

        def features(pictures: np.ndarray) -> np.ndarray:
            return _through(backbone, pictures, devices.kind)

    test = features(real)
    rng = np.random.default_rng(options.seed)
    others = images.train[rng.permutation(len(images.train))[: options.samples]]
    return FeatureSpace(name, about, features, test, scored(test, features(others)))


def _of_classifier(images: ImageArrays, devices: Devices, seed: int) -> tuple[str, str, Extractor]:
    """Name, sentence and features of a classifier that is trained on the same images."""
    labels = images.labels
    if labels is None:
        raise DataError(f"{images.name} has no labels to train a classifier on; name a backbone with --features")
    small = small_classifier(
        images.train, labels["train"], images.validation, labels["validation"],
        classes=len(images.classes), devices=devices, seed=seed,
    )  # fmt: skip
    about = (
        f"the 128 features of a small convolutional classifier that this study trained on the same training pictures "
        f"({percent(small.validation)} right on {len(images.validation):,} validation pictures)"
    )
    return "small classifier", about, lambda pictures: small.features(pictures, device=devices.kind)


def _through(backbone: Backbone, pictures: np.ndarray, device: str) -> np.ndarray:
    """float32 [n, d]: a backbone's late features of images in memory."""
    n = len(pictures)
    imageset = ImageSet("samples", MemorySource(as_rgb(pictures)), np.arange(n), tuple(f"{i:06d}" for i in range(n)))
    late = backbone.aliases["late"]
    return np.asarray(extract(imageset, backbone, [late], device=device)[late])
