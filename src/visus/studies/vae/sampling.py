"""Images drawn from a VAE: from every prior, scored against test images, and searched for copies of training images (P11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from visus.features.latents import decoded_latents
from visus.measures.manifold import Memorisation, memorisation
from visus.measures.priors import PRIORS, draw_latents
from visus.models.vae import Vae
from visus.progress import Silent, reporting, task
from visus.studies.vae.feature_space import FeatureSpace, Scores
from visus.studies.vae.inputs import ImageArrays
from visus.studies.vae.options import EvaluationOptions

COPIES = 1000  # samples, and unseen images, that are compared with training images, at most
TRAINED, NUMBERS = 50_000, 2**27  # training images among which copies are looked for, and numbers in them, at most


@dataclass(frozen=True)
class Sampled:
    """Images decoded from one prior: all of them, uint8 [n, h, w, c], with their scores, and whether they are copies."""

    prior: str
    images: np.ndarray
    scores: Scores
    copies: Memorisation


def sample(
    vae: Vae, images: ImageArrays, space: FeatureSpace, codes: np.ndarray, options: EvaluationOptions
) -> Mapping[str, Sampled]:
    """Images from every prior, scored and searched for copies. codes: float [m, latent], one z a training image, for the aggregate posterior."""
    found: dict[str, Sampled] = {}
    train, held = _flat(images.train[: searched(images)]), _flat(images.test[:COPIES])
    with task("drawing and judging samples", len(PRIORS)) as progress:
        for k, prior in enumerate(PRIORS):
            z = draw_latents(prior, options.samples, codes, seed=options.seed + k)
            drawn = decoded_latents(vae, z, device=options.device)
            scores = space.scores(drawn)
            with reporting(Silent()):
                copies = memorisation(_flat(drawn[:COPIES]), train, held)
            found[prior] = Sampled(prior, drawn, scores, copies)
            progress.advance()
    return found


def searched(images: ImageArrays) -> int:
    """How many training images are searched for copies."""
    return min(len(images.train), TRAINED, max(NUMBERS // int(np.prod(images.shape)), 1))


def _flat(images: np.ndarray) -> np.ndarray:
    """float32 [n, pixels] in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255
