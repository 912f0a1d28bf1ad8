"""Tap: a named point inside a network, at which features are taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
