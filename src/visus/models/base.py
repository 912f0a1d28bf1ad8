"""Backbone: what looks. A model that turns images into features at named taps, with its own preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import xxhash

from visus.errors import DataError
from visus.models.code import attributes, own_code
from visus.models.preprocess import Preprocess
from visus.models.tap import Tap
from visus.models.tapping import forward_taps
from visus.spec import unknown


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
        h = xxhash.xxh3_128(self.preprocess.key.encode())
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
        with a CLS: that token; else as 'mean'), 'cls+mean' (with a CLS: both, [b, 2 d]; else as 'mean'), None (as the module
        gave it). Layers behind the deepest tap are not run in eager mode. Hooks come off whatever happens. Weights and buffers
        are as they were.
        """
        if not taps:
            raise DataError("no tap was asked for; name at least one, for example late")
        return forward_taps(self.output, self.module, batch, taps, pool=pool)

    def output(self, batch: torch.Tensor) -> Any:
        """What the network gives for a normalised batch: logits, or without a classifier the pooled feature. Differentiable."""
        return self.call(self.module, batch) if self.call else self.module(batch)

    @property
    def unclassified(self) -> str:
        """Why it gives no classes, where it does not."""
        found = self.info.get("unread head", "has no classifier")
        return f"{self.spec} {found}; give a model that was trained to classify"

    def classify(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalised float [b, 3, h, w] -> logits [b, k]. Raises DataError when the model has no classifier."""
        if self.labels is None:
            raise DataError(self.unclassified)
        with torch.inference_mode():
            logits: torch.Tensor = self.output(batch)
        return logits

    @contextmanager
    def on(self, device: str) -> Iterator[Backbone]:
        """Move the module to `device` for the duration of the block."""
        self.module.to(device)
        try:
            yield self
        finally:
            self.module.to("cpu")
