"""DualEncoder: images and texts into one space; of CLIP, SigLIP and their kin, from transformers and open_clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from visus.device import choose_device
from visus.errors import DataError
from visus.images.base import ImageSet
from visus.images.digest import pixel_digest
from visus.memory import free_cached, halving
from visus.models.dual_text import Words
from visus.models.preprocess import Preprocess
from visus.progress import task

BATCH = 256
CHUNK = 16 * BATCH  # texts that are read at once, sorted by length, and encoded in batches


@dataclass
class DualEncoder:
    """Images and texts into one space.

    spec: as the user typed it. module: the library's own model, in eval mode, gradients off. preprocess: of its image tower.
    words: how texts become token ids. image: (module, normalised float [b, 3, h, w]) -> [b, d]. text: (module, int64 [b, t]) -> [b, d]; both
    use the module that they are given and hold none of their own, so that a copy of it, on another device, is what runs.
    random: True when the weights are a random initialisation. info: where it comes from. place: the device that encodes where none is named.
    """

    spec: str
    module: Any
    preprocess: Preprocess
    words: Words
    image: Callable[[Any, torch.Tensor], torch.Tensor]
    text: Callable[[Any, torch.Tensor], torch.Tensor]
    random: bool = False
    info: Mapping[str, object] = field(default_factory=dict)
    place: str = "cpu"

    @property
    def logit_scale(self) -> float:
        """The inverse temperature that turns cosines into logits."""
        return float(self.module.logit_scale.detach().exp())

    @property
    def logit_bias(self) -> float:
        """What is added to logits: 0.0, but of encoders that were trained with a sigmoid."""
        bias = getattr(self.module, "logit_bias", None)
        return 0.0 if bias is None else float(bias.detach())

    @property
    def sigmoid(self) -> bool:
        """Whether it was trained on every pair by itself (SigLIP): the sigmoid of a logit is its probability of being a pair."""
        return getattr(self.module, "logit_bias", None) is not None

    @property
    def context(self) -> int:
        """Tokens of a text that are read, special ones among them."""
        return self.words.context

    @property
    def tokenizer(self) -> Any:
        """Of the `tokenizers` library, or open_clip's SimpleTokenizer."""
        return self.words.tokenizer

    def image_embedding(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalised float [b, 3, h, w] -> [b, d], not scaled to unit length; differentiable in the batch."""
        return self.image(self.module, batch)

    def text_embedding(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 [b, t], as `words.batch` makes them -> [b, d], not scaled to unit length; differentiable in the weights."""
        return self.text(self.module, ids)

    def encode_images(
        self,
        imageset: ImageSet,
        rows: np.ndarray | None = None,
        *,
        unit: bool = True,
        device: str | None = None,
        pixels: np.ndarray | None = None,
    ) -> np.ndarray:
        """float32 [n, d]: the pictures at positions `rows` (all), scaled to unit length unless told otherwise.

        device: 'cpu', 'cuda', 'cuda:N' or 'auto' (None: the encoder's place). pixels: uint8 [n, 16], takes the hashes of the decoded pictures.
        Raises DataError for a picture that cannot be read, SpecError for an unknown device.
        """
        rows = np.arange(len(imageset)) if rows is None else rows
        found = []
        with (
            task("encoding images", len(rows)) as progress,
            self._on(device or self.place) as place,
            torch.inference_mode(),
        ):

            def run(at: slice) -> np.ndarray:
                pictures = [imageset.decode(int(i)) for i in rows[at]]
                if pixels is not None:
                    pixels[at] = np.stack([np.frombuffer(pixel_digest(p), np.uint8) for p in pictures])
                raw = np.stack([self.preprocess(p) for p in pictures])
                x = self.image(self.module, self.preprocess.normalize(torch.from_numpy(raw).to(place))).float()
                vectors: np.ndarray = (functional.normalize(x, dim=1) if unit else x).cpu().numpy()
                return vectors

            for _, vectors in halving(len(rows), BATCH, run, what="encoding images"):
                found.append(vectors)
                progress.advance(len(vectors))
        if not found:
            raise DataError("no picture is left to encode; give at least one")
        return np.concatenate(found)

    def encode_texts(self, texts: Sequence[str], *, unit: bool = True, device: str | None = None) -> np.ndarray:
        """float32 [n, d], scaled to unit length unless told otherwise.

        Texts longer than the context are cut, the end token kept; `cut` says which. Raises DataError for an empty list or text.
        """
        found: np.ndarray | None = None
        for at, x in self._embedded(texts, len(texts), device):
            if found is None:
                found = np.empty((len(texts), x.shape[1]), np.float32)
            found[at] = functional.normalize(x, dim=1) if unit else x
        if found is None:
            raise DataError("no text was given to encode; write at least one word")
        return found

    def cut(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """(position, number of tokens) of every text that is longer than the context."""
        return [
            (start + i, len(ids))
            for start in range(0, len(texts), CHUNK)
            for i, ids in enumerate(self.words.whole(texts[start : start + CHUNK]))
            if len(ids) > self.context
        ]

    def zero_shot(
        self, classes: Sequence[str] | Sequence[tuple[str, ...]], prompts: Sequence[str], *, device: str | None = None
    ) -> np.ndarray:
        """float32 [k, d]: a row for each class, the normalised mean over the prompts' unit vectors ('{}' stands for the class).

        classes: names, or the wordings of each, which are averaged over like prompts. One batch of texts is held at a time.
        Raises DataError for no class, no prompt, or a class without a wording. Source: Radford et al. 2021, section 3.1.4.
        """
        meant = [(c,) if isinstance(c, str) else tuple(c) for c in classes]
        counts = np.array([len(words) * len(prompts) for words in meant])
        if not len(counts) or not counts.all():
            raise DataError("zero-shot prediction needs classes, a wording of each, and at least one prompt")
        owner = torch.from_numpy(np.repeat(np.arange(len(meant)), counts))
        texts = (p.replace("{}", word) for words in meant for word in words for p in prompts)
        sums = torch.zeros(0)
        for at, x in self._embedded(texts, len(owner), device):
            if not len(sums):
                sums = torch.zeros(len(meant), x.shape[1], dtype=torch.float64)
            sums.index_add_(0, owner[at], functional.normalize(x, dim=1).double())
        found: np.ndarray = functional.normalize(sums, dim=1).float().numpy()
        return found

    def _embedded(
        self, texts: Iterable[str], total: int, device: str | None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Positions int64 [b] and embeddings float32 [b, d] on the CPU, batch by batch, texts of like length together."""
        rest, start = iter(texts), 0
        with task("encoding texts", total) as progress, self._on(device or self.place) as place:
            while chunk := list(islice(rest, CHUNK)):
                rows = self.words.rows(chunk)
                order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
                for first in range(0, len(order), BATCH):
                    at = order[first : first + BATCH]

                    def run(part: slice, at: list[int] = at, rows: Any = rows) -> torch.Tensor:
                        with torch.inference_mode():
                            ids = self.words.batch([rows[i] for i in at[part]]).to(place)
                            return self.text(self.module, ids).float().cpu()

                    for part, x in halving(len(at), BATCH, run, what="encoding texts"):
                        yield torch.tensor(at[part]) + start, x
                        progress.advance(len(x))
                start += len(chunk)

    @contextmanager
    def _on(self, device: str) -> Iterator[str]:
        """Move the module to `device` ('auto': CUDA where there is one) for the duration of the block."""
        place = choose_device(device)
        self.module.to(place)
        try:
            yield place
        finally:
            self.module.to("cpu")
            free_cached()
