"""How good are a VAE's samples? Fréchet distance, precision and recall in a named feature space, and whether they are copies (P11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visus.errors import DataError
from visus.measures.priors import PRIORS, draw_latents
from visus.progress import Silent, reporting, task
from visus.studies.common.shared import percent

if TYPE_CHECKING:
    from visus.measures.frechet import Frechet
    from visus.measures.manifold import Memorisation, PrecisionRecall
    from visus.models.vae import Vae
    from visus.studies.vae.subject import Subject
    from visus.training.devices import Devices

CLASSIFIER = "classifier"
FALLBACK = "visus:effnet-lite0"
REAL = 5000  # test pictures that samples are compared with, at most
COPIES = 1000  # samples, and unseen pictures, that are compared with training pictures, at most
TRAINED, NUMBERS = 50_000, 2**27  # training pictures among which copies are looked for, and numbers in them, at most


@dataclass(frozen=True)
class FeatureSpace:
    """Where samples are judged: a feature space by name, a sentence about it, the test pictures' features, and what as many training
    pictures score there, which no sample should beat."""

    name: str
    about: str
    features: Callable[[np.ndarray], np.ndarray]
    real: np.ndarray
    floor: Scores


@dataclass(frozen=True)
class Scores:
    """Of one set of pictures against the test pictures."""

    frechet: Frechet
    sharing: PrecisionRecall


@dataclass(frozen=True)
class Sampled:
    """Pictures decoded from one prior: all of them, uint8 [n, h, w, c], with their scores, and whether they are copies."""

    prior: str
    pictures: np.ndarray
    scores: Scores
    copies: Memorisation


def scored(real: np.ndarray, fake: np.ndarray) -> Scores:
    """Fréchet distance, precision and recall of features, float [n, d] and [m, d]."""
    from visus.measures.frechet import frechet_distance
    from visus.measures.manifold import precision_recall

    with reporting(Silent()):
        return Scores(frechet_distance(real, fake), precision_recall(real, fake))


def space_for(
    subject: Subject, text: str, *, samples: int, devices: Devices, seed: int, download: bool
) -> FeatureSpace:
    """The feature space that a user asked for: 'auto', 'classifier', or a backbone's spec. Raises DataError, SpecError."""
    labels = subject.labels
    if text == "auto":
        text = CLASSIFIER if labels is not None else FALLBACK
    real = subject.test[:: max(len(subject.test) // REAL, 1)][:REAL]
    if text == CLASSIFIER:
        if labels is None:
            raise DataError(f"{subject.name} has no labels to train a classifier on; name a backbone with --features")
        from visus.training.small_cnn import small_classifier

        small = small_classifier(
            subject.train, labels["train"], subject.validation, labels["validation"],
            classes=len(subject.classes), devices=devices, seed=seed,
        )  # fmt: skip
        name = "small classifier"
        about = (
            f"the 128 features of a small convolutional classifier that this study trained on the same training pictures "
            f"({percent(small.validation)} right on {len(subject.validation):,} validation pictures)"
        )

        def features(pictures: np.ndarray) -> np.ndarray:
            return small.features(pictures, device=devices.kind)
    else:
        from visus.models import load_backbone

        backbone = load_backbone(text, seed=seed, download=download)
        name, about = text, f"the last layer of {text}"

        def features(pictures: np.ndarray) -> np.ndarray:
            return _through(backbone, pictures, devices.kind)

    seen = features(real)
    rng = np.random.default_rng(seed)
    others = subject.train[rng.permutation(len(subject.train))[:samples]]
    return FeatureSpace(name, about, features, seen, scored(seen, features(others)))


def _through(backbone: object, pictures: np.ndarray, device: str) -> np.ndarray:
    """float32 [n, d]: a backbone's late features of pictures in memory."""
    from visus.features import extract
    from visus.images.arrays import MemorySource
    from visus.images.base import ImageSet
    from visus.models.base import Backbone
    from visus.studies.vae.subject import shown

    assert isinstance(backbone, Backbone)
    n = len(pictures)
    imageset = ImageSet("samples", MemorySource(shown(pictures)), np.arange(n), tuple(f"{i:06d}" for i in range(n)))
    late = backbone.aliases["late"]
    return np.asarray(extract(imageset, backbone, [late], device=device)[late])


def sample(
    vae: Vae, subject: Subject, space: FeatureSpace, posterior_samples: np.ndarray, *, n: int, device: str, seed: int
) -> Mapping[str, Sampled]:
    """n pictures from every prior, scored against the test pictures and searched for copies of training pictures."""
    from visus.features.latents import decoded_latents
    from visus.measures.manifold import memorisation

    found: dict[str, Sampled] = {}
    train, held = _flat(subject.train[: searched(subject)]), _flat(subject.test[:COPIES])
    with task("drawing and judging samples", len(PRIORS)) as progress:
        for k, prior in enumerate(PRIORS):
            z = draw_latents(prior, n, posterior_samples, seed=seed + k)
            pictures = decoded_latents(vae, z, device=device)
            scores = scored(space.real, space.features(pictures))
            with reporting(Silent()):
                copies = memorisation(_flat(pictures[:COPIES]), train, held)
            found[prior] = Sampled(prior, pictures, scores, copies)
            progress.advance()
    return found


def searched(subject: Subject) -> int:
    """How many training pictures are searched for copies."""
    return min(len(subject.train), TRAINED, max(NUMBERS // int(np.prod(subject.shape)), 1))


def _flat(pictures: np.ndarray) -> np.ndarray:
    """float32 [n, pixels] in [0, 1]."""
    return pictures.reshape(len(pictures), -1).astype(np.float32) / 255
