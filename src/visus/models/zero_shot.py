"""A dual encoder as a classifier: its classes are texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from visus.errors import DataError
from visus.images import load_images
from visus.models.base import Backbone
from visus.models.dual import DualEncoder
from visus.models.dual_open import is_dual, load_dual
from visus.models.dual_reading import same_classes, warn_of_spelled
from visus.models.registry import load_backbone

PROMPTS = ("{}", "a picture of a {}")


class ZeroShot(nn.Module):
    """Normalised pictures -> logits: the scale times the cosines of their embeddings with those of the classes, plus the bias."""

    weights: torch.Tensor

    def __init__(self, encoder: DualEncoder, weights: torch.Tensor) -> None:
        super().__init__()
        self.clip = encoder.module
        self.embed, self.scale, self.bias = encoder.image_embedding, encoder.logit_scale, encoder.logit_bias
        self.register_buffer("weights", weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float [b, 3, h, w] -> float [b, k]."""
        unit = functional.normalize(self.embed(x), dim=1)
        logits: torch.Tensor = self.scale * unit @ self.weights.T + self.bias
        return logits


def zero_shot_classifier(encoder: DualEncoder, classes: Sequence[str], prompts: Sequence[str] = PROMPTS) -> Backbone:
    """The encoder as a Backbone that tells `classes` apart by what it knows of their names (Radford et al. 2021).

    Every class is the normalised mean of its prompts' embeddings. It has no taps. Raises DataError for fewer than two classes, and two that
    the tokenizer makes one.
    """
    if len(set(classes)) < 2:
        raise DataError(f"{len(set(classes))} class was given; zero-shot prediction chooses among two at least")
    same = same_classes(encoder.words, [(c,) for c in classes], prompts)
    if same is not None:
        cut = f", cut to the {encoder.context} tokens that it reads" if encoder.cut(same[2:]) else ""
        raise DataError(
            f"the classes {classes[same[0]]!r} and {classes[same[1]]!r} are one text to {encoder.spec}{cut}; give each words of its own"
        )
    warn_of_spelled(encoder.words, classes, "classes")
    weights = torch.from_numpy(encoder.zero_shot(classes, prompts))
    return Backbone(
        encoder.spec, ZeroShot(encoder, weights).eval(), (), {}, encoder.preprocess, tuple(classes), encoder.random
    )


def classifier_for(model: str, classes: Sequence[str] | None, *, seed: int, download: bool) -> Backbone:
    """A model by its spec as a classifier: its own classes, or, of a dual encoder, `classes` (visus:emoji-clip: all names of emoji).

    Raises DataError: classes for a model that reads no texts, none for one that needs them.
    """
    # Of a repository that is not on this machine nothing is known yet: load_dual says what is wrong with it.
    if not is_dual(model, download=download) and not (classes and model.startswith("hf:")):
        if classes:
            raise DataError(f"{model} has classes of its own and reads no texts; leave out --classes")
        return load_backbone(model, seed=seed, download=download)
    if not classes and model.startswith("visus:"):
        images = load_images("visus:emoji?task=all")
        classes = sorted({texts[0] for texts in images.captions or ()})
        return zero_shot_classifier(load_dual(model, seed=seed, download=download), classes, PROMPTS[:1])
    if not classes:
        raise DataError(
            f"{model} compares pictures with texts; name the classes to choose from: --classes cat --classes dog"
        )
    return zero_shot_classifier(load_dual(model, seed=seed, download=download), classes)
