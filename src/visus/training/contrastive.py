"""Images and texts into one space: the symmetric contrastive loss (InfoNCE) over batches of images with captions."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from visus.memory import halving
from visus.models.dual_new import PAD
from visus.training.captions import encode, keywords, wording
from visus.training.distillation import distillation_head, distillation_loss
from visus.training.objective import Objective, balanced
from visus.training.recipe import Recipe
from visus.training.together import gathered, share
from visus.training.views import Views, dropped

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from tokenizers import Tokenizer

    from visus.training.vectors import Meanings

LARGEST_SCALE = 100.0  # of the logits, as in CLIP
EVALUATED = 256
LISTS = 0.4  # of the wordings are keywords where words have meanings: names alone would be learned by heart


def info_nce(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, same: torch.Tensor | None = None
) -> torch.Tensor:
    """Symmetric InfoNCE in nats (Radford et al. 2021): the mean of both cross-entropies of scale * images @ texts.T.

    images, texts: float [b, d] of unit length, row i of one belongs to row i of the other. scale: inverse temperature. same: bool
    [b, b], pairs off the diagonal that show or say the same thing: they are left out, neither positive nor negative.
    """
    logits = scale * images @ texts.T
    if same is not None:
        others = same & ~torch.eye(len(images), dtype=torch.bool, device=images.device)
        logits = logits.masked_fill(others, float("-inf"))
    y = torch.arange(len(images), device=images.device)
    return (functional.cross_entropy(logits, y) + functional.cross_entropy(logits.T, y)) / 2


class ClipTrainer(nn.Module):
    """A CLIP of transformers as the loop trains it: (images, token ids) -> unit vectors of both and the scale of the logits.

    dims: of a teacher's features, which a head on the image tower predicts; meaning: of word vectors, which one head on the unit vectors
    of images and texts predicts (0: none of them). The heads are no part of the CLIP; `whole` makes the second one part of it.
    """

    def __init__(self, clip: Any, dims: int = 0, meaning: int = 0) -> None:
        super().__init__()
        self.clip = clip
        # Named in checkpoints, which must be read again.
        self.guide = distillation_head(clip.config.vision_config.hidden_size, dims)
        self.meaning = distillation_head(clip.config.projection_dim, meaning)

    def forward(
        self, images: torch.Tensor, ids: torch.Tensor, drop: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """float32 [b, d], float32 [t, d], scalar, [b, dims] or None, [b + t, meaning] or None, of b images and t texts.

        drop: share of patch tokens left out of every image.
        """
        feature, texts = self.feature(images, drop), self.texts(ids)
        images = self.project(feature)
        scale = self.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)
        return (
            images,
            texts,
            scale,
            None if self.guide is None else self.guide(feature),
            None if self.meaning is None else self.meaning(torch.cat([images, texts])),
        )

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float [b, 3, h, w] -> float32 [b, d] of unit length."""
        return self.project(self.feature(images))

    def project(self, feature: torch.Tensor) -> torch.Tensor:
        """The image tower's feature -> float32 [b, d] of unit length."""
        return functional.normalize(self.clip.visual_projection(feature).float(), dim=1)

    def feature(self, images: torch.Tensor, drop: float = 0.0) -> torch.Tensor:
        """The image tower's normed CLS token, [b, c]."""
        vision = self.clip.vision_model
        hidden = vision.embeddings(images)
        if drop:
            hidden = dropped(hidden, drop)
        hidden = vision.encoder(inputs_embeds=vision.pre_layrnorm(hidden)).last_hidden_state
        pooled: torch.Tensor = vision.post_layernorm(hidden[:, 0])
        return pooled

    def texts(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 [b, t] -> float32 [b, d] of unit length. Texts are read from left to right, so what pads the end changes nothing."""
        pooled = self.clip.text_model(input_ids=ids).pooler_output
        return functional.normalize(self.clip.text_projection(pooled).float(), dim=1)

    def whole(self) -> Any:
        """The CLIP that is saved: with a head for meanings, what it makes of a projection stands beside that projection.

        Images and texts are then compared by both: pairs that were learned, and what words mean, which holds for words that no
        caption said. A copy; without such a head the CLIP itself.
        """
        if self.meaning is None:
            return self.clip
        clip, head = deepcopy(self.clip), self.meaning.weight.detach()
        for name in ("visual_projection", "text_projection"):
            rows = getattr(clip, name).weight.detach()
            wider = nn.Linear(
                rows.shape[1], len(rows) + len(head), bias=False, device="meta"
            )  # which draws nothing at random
            wider.weight = nn.Parameter(torch.cat([rows, head @ rows]), requires_grad=False)
            setattr(clip, name, wider)
        for config in (clip.config, clip.config.text_config, clip.config.vision_config):
            config.projection_dim = len(rows) + len(head)
        return clip


@dataclass(frozen=True)
class CaptionedImages:
    """Images with captions in memory.

    images: uint8 [n, h, w, 3]. captions: n tuples of texts, the first of which names what is shown. keys: int64 [n], equal where
    two images show the same thing. balance: int64 [n], what every batch holds equally of (artists), or None. teacher_features: float32 [n, d],
    a teacher's features, or None.
    """

    images: np.ndarray
    captions: Sequence[Sequence[str]]
    keys: np.ndarray
    balance: np.ndarray | None = None
    teacher_features: np.ndarray | None = None


class Contrastive(Objective):
    """InfoNCE over captioned images; validation: which of all names belongs to an image that was not trained on.

    names: the texts that validation chooses from; held: validation images, their keys index into names. meanings: of words, which the
    texts and images learn beside: every batch then holds as many phrases of any words as images, for their meaning alone.
    """

    cuts = False

    def __init__(
        self,
        train: CaptionedImages,
        held: CaptionedImages,
        names: Sequence[str],
        tokenizer: Tokenizer,
        views: Views,
        recipe: Recipe,
        meanings: Meanings | None = None,
    ) -> None:
        self.train, self.held, self.names = train, held, names
        self.tokenizer, self.views, self.recipe, self.meanings = tokenizer, views, recipe, meanings
        self.lists = LISTS if meanings else None
        self.pad = tokenizer.get_vocab()[PAD]
        self._said: tuple[tuple[int, int], Any] | None = None

    @property
    def n(self) -> int:
        """Training images."""
        return len(self.train.keys)

    def batches(self, recipe: Recipe, epoch: int) -> list[np.ndarray]:
        """Rows of every batch: as many of each artist, whatever their numbers; all images of an artist before one comes again."""
        return balanced(self.train.balance, self.n, recipe, epoch)

    def loss(
        self, model: nn.Module, rows: np.ndarray, *, epoch: int, fabric: Fabric, whole: np.ndarray | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """This process's part of InfoNCE over the whole batch, and how many images of its share find their text first."""
        mine, n = share(rows, fabric), len(rows)
        part = len(mine) / n
        ids, said, meant = self._worded(self.recipe.seed, epoch)
        own = mine if self.meanings is None else np.concatenate([mine, self.n + mine])
        tokens = without_padding(torch.from_numpy(ids[own]), self.pad)
        x = self.views.of(self.train.images, mine, seed=self.recipe.seed, epoch=epoch, device=fabric.device)
        images, texts, scale, predicted, understood = model(
            x, tokens.to(fabric.device), self.views.drop.at(epoch, self.recipe.epochs)
        )
        images, texts = gathered(images, n, fabric), gathered(texts[: len(mine)], n, fabric)
        keys, worded = (torch.from_numpy(a[rows]).to(fabric.device) for a in (self.train.keys, said))
        same = (keys[:, None] == keys) | (worded[:, None] == worded)
        # The same number in every process, each adding its part; what stands beside is the mean over its own rows.
        loss = info_nce(images, texts, scale, same)
        if predicted is not None and self.train.teacher_features is not None:
            loss = loss + distillation_loss(
                predicted, torch.from_numpy(self.train.teacher_features[mine]).to(fabric.device)
            )
        if understood is not None and meant is not None:
            targets = torch.from_numpy(np.concatenate([self.shown[mine], meant[own]])).to(fabric.device)
            loss = loss + distillation_loss(understood[: len(mine)], targets[: len(mine)])
            loss = loss + distillation_loss(understood[len(mine) :], targets[len(mine) :])
        with torch.no_grad():
            at = torch.arange(fabric.global_rank, n, fabric.world_size, device=images.device)
            others = same & ~torch.eye(n, dtype=torch.bool, device=same.device)
            hits = ((images[at] @ texts.T).masked_fill(others[at], -2.0).argmax(1) == at).sum()
        return part * loss, hits, len(mine)

    def validate(self, model: nn.Module, fabric: Fabric) -> tuple[float, float]:
        """(cross-entropy in nats, mean reciprocal rank) of choosing a held-out image's name among all names.

        Ranks tell epochs apart where the first place is rare: unseen names. Images and texts are compared by their pairs alone, without
        the meanings that stand beside them in the CLIP that is saved.
        """
        towers: Any = getattr(model, "module", model)
        towers = getattr(towers, "module", towers)  # below Fabric's wrapper, DDP's
        device = fabric.device

        def read(at: slice) -> torch.Tensor:
            found: torch.Tensor = towers.texts(without_padding(self._names[at], self.pad).to(device))
            return found

        def look(at: slice) -> torch.Tensor:
            raw = torch.from_numpy(self.held.images[at]).to(device)
            found: torch.Tensor = towers.images(self.views.preprocess.normalize(raw))
            return found

        texts = torch.cat([x for _, x in halving(len(self._names), EVALUATED, read, what="validation, names")])
        images = [x for _, x in halving(len(self.held.images), EVALUATED, look, what="validation, pictures")]
        logits = towers.clip.logit_scale.exp().clamp(max=LARGEST_SCALE) * torch.cat(images) @ texts.T
        y = torch.from_numpy(self.held.keys).to(device)
        above = (logits > logits.gather(1, y[:, None])).sum(dim=1)
        return float(functional.cross_entropy(logits, y)), float((1 / (1 + above.float())).mean())

    @cached_property
    def shown(self) -> np.ndarray:
        """float32 [n, d]: what every training image means by its name and keywords. Only with meanings."""
        assert self.meanings is not None
        return self.meanings.of([" ".join([c[0], *keywords(c)]) for c in self.train.captions])

    @cached_property
    def _names(self) -> torch.Tensor:
        return torch.from_numpy(encode(self.tokenizer, self.names))

    def _worded(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """`_wordings`, kept while an epoch lasts."""
        if self._said is None or self._said[0] != (seed, epoch):
            self._said = (seed, epoch), self._wordings(seed, epoch)
        found: tuple[np.ndarray, np.ndarray, np.ndarray | None] = self._said[1]
        return found

    def _wordings(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Of an epoch: token ids of every image's wording, and with meanings of as many phrases after them; a number a wording
        (equal texts share it); with meanings what all of these mean."""
        generator = np.random.default_rng([seed, epoch, 1])
        texts = [wording(captions, generator, self.lists) for captions in self.train.captions]
        said = np.unique(texts, return_inverse=True)[1].astype(np.int64)
        if self.meanings is None:
            return encode(self.tokenizer, texts), said, None
        texts += self.meanings.phrases(self.n, generator)
        return encode(self.tokenizer, texts), said, self.meanings.of(texts)


def without_padding(ids: torch.Tensor, pad: int) -> torch.Tensor:
    """Token ids without the columns at the end that are padding in all rows."""
    used = (ids != pad).any(dim=0).nonzero()
    return ids[:, : int(used.max()) + 1]
