"""Backbone: what looks. A model that turns images into features at named taps, with its own preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from visus.errors import DataError
from visus.spec import unknown

if TYPE_CHECKING:
    import torch
    from PIL import Image

ALIASES = ("early", "middle", "late")
TapKind = Literal["spatial", "tokens", "grid", "vector"]


@dataclass(frozen=True)
class Tap:
    """A point inside the network.

    name: what a user types (a module path, or a name the adapter gives). module: path of the module whose output is
    taken. kind: 'spatial' [b, c, h, w], 'tokens' [b, prefix + patches, c], 'grid' [b, h, w, c] (Swin), 'vector' [b, c].
    depth: 0 at the input, 1 at the last point. shape: without the batch. prefix: prefix tokens (CLS, distillation, registers)
    before the patches, for 'tokens'. cls: position of the CLS token, or None. norm: path of a norm applied to the output (a ViT's final
    norm), or None. suffix: tokens behind the patches. beside: names of the prefix and suffix tokens in order.
    """

    name: str
    module: str
    kind: TapKind
    depth: float
    shape: tuple[int, ...]
    prefix: int = 0
    cls: int | None = None
    norm: str | None = None
    suffix: int = 0
    beside: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of features after pooling."""
        return self.shape[-1] if self.kind in ("tokens", "grid") else self.shape[0]


@dataclass(frozen=True)
class Preprocess:
    """A model's own evaluation transform: resize, crop, scale to [0, 1], normalise.

    size: (h, w) that the model sees. resize: shorter side in pixels before the crop (int), (h, w) to squash to, or None
    (no resizing). interpolation: 'bilinear', 'bicubic', 'lanczos', 'nearest'. mean, std: per channel.
    fit: '' as said above; 'cover': keep the ratio, cover the (h, w) of `resize`, then crop; 'pad': keep the ratio, fit inside it,
    then pad with `fill`. crop_rounding: which pixel an odd margin starts at, 'even' (torchvision) or 'down' (transformers).
    A model of grey pictures has one mean and one deviation.
    backend: what resizes, Pillow or torchvision's arithmetic on tensors. processor: settings (JSON) of a transformers image processor that
    makes the picture itself, where the fields above cannot say what it does. levels: dtype of what a call gives, in grey levels of
    0 to 255; 'float32' where the processor rounds to none.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Literal["", "cover", "pad"] = ""
    fill: tuple[int, int, int] = (0, 0, 0)
    crop_rounding: Literal["even", "down"] = "even"
    backend: Literal["pillow", "torchvision"] = "pillow"
    processor: str = ""
    levels: Literal["uint8", "float32"] = "uint8"

    @property
    def channels(self) -> int:
        """Channels of what `normalize` gives: 3, or 1 for a model of grey pictures."""
        return len(self.mean)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of what a call gives."""
        return np.dtype(self.levels)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """An RGB image -> [h, w, 3] in grey levels, contiguous, of `dtype`: everything but the arithmetic, which runs inside the engine.

        For a model of grey pictures all three channels are the picture's grey.
        """
        from visus.models.preprocess import apply

        return apply(self, image)

    def normalize(self, batch: torch.Tensor) -> torch.Tensor:
        """uint8 (or of `dtype`) [b, h, w, 3] -> float32 [b, channels, h, w], scaled and normalised, on the batch's device."""
        import torch

        x = batch.permute(0, 3, 1, 2).to(torch.float32)[:, : self.channels]
        mean = torch.tensor(self.mean, dtype=torch.float32, device=batch.device).view(1, -1, 1, 1) * 255
        std = torch.tensor(self.std, dtype=torch.float32, device=batch.device).view(1, -1, 1, 1) * 255
        return (x - mean) / std


@dataclass
class Backbone:
    """A model with named taps.

    spec: as the user typed it. module: the torch module, in eval mode, gradients off. taps: every named point, from the input on.
    aliases: 'early', 'middle', 'late' -> a tap's name. preprocess: its own. labels: names of its classifier's outputs, or None.
    random: True when the weights are a random initialisation. logits: module output -> logits [b, k] (None: it has no classifier).
    call: runs the module on a normalised batch (default: module(batch)). head: 'classes', of which a picture has one (softmax; a binary
    classifier's one logit counts as two), or 'labels', of which each stands alone (sigmoid).
    """

    spec: str
    module: torch.nn.Module
    taps: tuple[Tap, ...]
    aliases: Mapping[str, str]
    preprocess: Preprocess
    labels: tuple[str, ...] | None = None
    random: bool = False
    call: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor] | None = None
    info: Mapping[str, object] = field(default_factory=dict)
    head: Literal["classes", "labels"] = "classes"

    @property
    def fingerprint(self) -> str:
        """Content hash of the network as it stands now: every parameter and buffer (names, dtypes, shapes, bytes), the plain attributes
        of its modules, code of one's own, and the preprocessing. Taken anew at every call, since a module may be changed in place."""
        import torch
        import xxhash

        from visus.models.code import attributes, own_code

        h = xxhash.xxh3_128(repr(self.preprocess).encode())
        tensors = dict(self.module.state_dict())
        tensors |= {
            name: buffer for name, buffer in self.module.named_buffers() if name not in tensors
        }  # not persistent
        for name, tensor in tensors.items():
            t = tensor.detach().cpu().contiguous()
            h.update(f"{name}|{t.dtype}|{tuple(t.shape)}|".encode())
            h.update(t.reshape(-1).view(torch.uint8).numpy().data if t.numel() else b"")
        h.update(attributes(self.module).encode("utf-8", "replace"))
        h.update(own_code([*{type(m): None for m in self.module.modules()}, self.call]).encode())
        return str(h.hexdigest())

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.module.parameters())

    def resolve(self, names: Sequence[str]) -> tuple[Tap, ...]:
        """Taps by name or alias, without repeats, in the order of depth. Raises SpecError for an unknown one (nearest listed)."""
        known = {tap.name: tap for tap in self.taps}
        wanted = []
        for name in names:
            real = self.aliases.get(name, name)
            if real not in known:
                raise unknown(f"tap of {self.spec}:", name, [*self.aliases, *known])
            wanted.append(real)
        return tuple(tap for tap in self.taps if tap.name in set(wanted))

    def forward(
        self, batch: torch.Tensor, taps: Sequence[Tap], *, pool: str | None = "mean"
    ) -> dict[str, torch.Tensor]:
        """Normalised float [b, 3, h, w] -> output by tap name.

        pool: 'mean' (spatial and grid: mean over positions; tokens: mean over patch tokens, prefix left out), 'cls' (tokens
        with a CLS: that token; else as 'mean'), None (as the module gave it). Layers behind the deepest tap are not run in
        eager mode. Hooks come off whatever happens. Weights and buffers are as they were.
        """
        if not taps:
            raise DataError("no tap was asked for; name at least one, for example late")
        from visus.models.tapping import forward_taps

        return forward_taps(self, batch, taps, pool=pool)

    @property
    def unclassified(self) -> str:
        """Why it gives no classes, where it does not."""
        found = self.info.get("unread head", "has no classifier")
        return f"{self.spec} {found}; give a model that was trained to classify"

    def classify(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalised float [b, 3, h, w] -> logits [b, k]. Raises DataError when the model has no classifier."""
        import torch

        if self.labels is None:
            raise DataError(self.unclassified)
        with torch.inference_mode():
            out = self.call(self.module, batch) if self.call else self.module(batch)
        return out

    @contextmanager
    def on(self, device: str) -> Iterator[Backbone]:
        """Move the module to `device` for the duration of the block."""
        self.module.to(device)
        try:
            yield self
        finally:
            self.module.to("cpu")
