"""The anatomy of a vision transformer: its blocks, the tokens before its patches, and the grid that the patches stand in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from visus.errors import DataError, SpecError

if TYPE_CHECKING:
    from visus.models.base import Backbone

DISTILLATION = ("dist_token", "distillation_token")


@dataclass(frozen=True)
class Anatomy:
    """What a plain vision transformer is made of.

    blocks: module paths, in order. prefix: tokens before the patches. cls: position of the CLS token, or None (it pools by the mean).
    extra: names of the prefix tokens in order. grid: rows and columns of patches. patch: height and width in pixels. heads: of
    every block's attention.
    """

    blocks: tuple[str, ...]
    prefix: int
    cls: int | None
    extra: tuple[str, ...]
    grid: tuple[int, int]
    patch: tuple[int, int]
    heads: int

    @property
    def patches(self) -> int:
        """Number of patches."""
        return self.grid[0] * self.grid[1]


def anatomy(backbone: Backbone) -> Anatomy:
    """Look at a network as a vision transformer. One picture of zeros goes through it.

    Raises SpecError for a network that is none: no chain of equal blocks over one sequence of patches, or blocks that do not attend once.
    """
    from visus.models.attention import count_heads

    taps = [t for t in backbone.taps if t.kind == "tokens" and t.name.startswith("blocks.")]
    alike = len({(t.shape, t.prefix, t.cls) for t in taps}) == 1
    refused = SpecError(
        f"{backbone.spec} is no vision transformer with one sequence of patches; give one (as visus:emoji-vit), or study this network "
        "with visus transfer"
    )
    if not taps or not alike:
        raise refused
    first = taps[0]
    if first.cls is None and not first.prefix and "cls_token" in _parameters(backbone):
        raise refused  # CaiT: its CLS token comes behind these blocks, and they do not show what it looks at
    grid, patch = _grid(backbone, first.shape[0] - first.prefix)
    blocks = tuple(t.module for t in taps)
    heads = count_heads(backbone, blocks, first.shape[0])
    if not heads:
        raise refused
    return Anatomy(blocks, first.prefix, first.cls, _names(backbone, first.prefix, first.cls), grid, patch, heads)


def _grid(backbone: Backbone, patches: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the patches, and a patch's size in pixels."""
    height, width = backbone.preprocess.size
    for module in backbone.module.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == module.stride and module.in_channels == 3:
            down, across = int(module.stride[0]), int(module.stride[1])
            if down > height or across > width:
                raise DataError(
                    f"pictures of {height} x {width} are smaller than a patch of {backbone.spec}, {down} x {across} pixels; give a larger size"
                )
            if (height // down) * (width // across) == patches:
                return (height // down, width // across), (down, across)
    # A convolutional stem: the grid has the picture's shape.
    rows = round((patches * height / width) ** 0.5)
    if rows and patches % rows == 0:
        return (rows, patches // rows), (height // rows, width * rows // patches)
    raise SpecError(
        f"{backbone.spec}: {patches} patches fill no grid of its {height} x {width} pictures; it cannot be studied here"
    )


def _names(backbone: Backbone, prefix: int, cls: int | None) -> tuple[str, ...]:
    """Names of the prefix tokens."""
    distilled = bool(_parameters(backbone) & set(DISTILLATION))
    names: list[str] = []
    for position in range(prefix):
        if position == cls:
            names.append("cls")
        elif distilled and "distillation" not in names:
            names.append("distillation")
        else:
            names.append(f"register {sum(n.startswith('register') for n in names) + 1}")
    return tuple(names)


def _parameters(backbone: Backbone) -> set[str]:
    """The last part of every parameter's name."""
    return {name.rpartition(".")[2] for name, _ in backbone.module.named_parameters()}


def output(backbone: Backbone, batch: Any) -> Any:
    """What the network gives for a normalised batch: logits, or without a classifier the pooled feature. Differentiable."""
    return backbone.call(backbone.module, batch) if backbone.call else backbone.module(batch)
