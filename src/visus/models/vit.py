"""The layout of a vision transformer: its blocks, the tokens beside its patches, and the grid that the patches stand in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import nn

from visus.errors import DataError, SpecError
from visus.models.assemble import LEFT_OUT
from visus.models.attention_capture import count_heads
from visus.models.base import Backbone
from visus.models.points import trial_images
from visus.models.sequence import Appearance, class_tokens, corners, grid_of
from visus.models.tap import Tap


@dataclass(frozen=True)
class ViTLayout:
    """What a plain vision transformer is made of.

    blocks: module paths, in order. prefix: tokens before the patches. cls: position of the CLS token, or None (it pools by the mean).
    extra: names of the tokens that are no patches, in order. grid: rows and columns of patches. patch: height and width in pixels. heads:
    of every block's attention. suffix: tokens behind the patches.
    """

    blocks: tuple[str, ...]
    prefix: int
    cls: int | None
    extra: tuple[str, ...]
    grid: tuple[int, int]
    patch: tuple[int, int]
    heads: int
    suffix: int = 0

    @property
    def patches(self) -> int:
        """Number of patches."""
        return self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.prefix + self.patches + self.suffix

    @property
    def place(self) -> slice:
        """Where the patches stand in the sequence."""
        return slice(self.prefix, self.prefix + self.patches)


def vit_layout(backbone: Backbone) -> ViTLayout:
    """Look at a network as a vision transformer: once for every backbone, for which a picture goes through it and a few through its first layers.

    Raises SpecError for a network that is none, or of whose tokens it cannot be told which stand for which patch, with what was found: no
    chain of equal blocks over one sequence of patches, blocks that do not attend once, a class token that these blocks do not hold, several
    class tokens, patches that are left out or in another order than that of reading.
    """
    known: ViTLayout | None = backbone.__dict__.get("_vit_layout")
    if known is None:
        known = backbone.__dict__["_vit_layout"] = _look(backbone)
    return known


def _look(backbone: Backbone) -> ViTLayout:
    def refused(found: str) -> SpecError:
        return SpecError(
            f"{backbone.spec} is no vision transformer with one sequence of patches ({found}); give one (as visus:emoji-vit), or study this "
            "network with visus transfer"
        )

    taps = [t for t in backbone.taps if t.kind == "tokens" and t.name.startswith("blocks.")]
    left_out = {
        n: why
        for n, why in cast("Mapping[str, str]", backbone.info.get(LEFT_OUT) or {}).items()
        if n.startswith("blocks.")
    }
    if left_out:
        name, why = next(iter(left_out.items()))
        raise refused(f"{name}: {why}")
    if not taps or len({(t.shape, t.prefix, t.suffix, t.cls) for t in taps}) > 1:
        raise refused("it has no chain of equal blocks over tokens")
    first = taps[0]
    classes = first.beside.count("cls")
    if classes > 1:
        raise refused(f"it has {classes} class tokens, and no one of them is read off")
    if nameless := sum(name.startswith("token") for name in first.beside):
        raise refused(f"it has {nameless} tokens beside its patches, and of none it is known what it is for")
    if not classes and class_tokens(backbone.module):
        raise refused("it has a class token that is not among the tokens of its blocks")
    grid, patch = _grid(backbone, first)
    blocks = tuple(t.module for t in taps)
    heads = count_heads(backbone, blocks, first.shape[0])
    if not heads:
        raise refused("its blocks do not attend once over all tokens")
    return ViTLayout(blocks, first.prefix, first.cls, first.beside, grid, patch, heads, first.suffix)


def reads_tokens(backbone: Backbone) -> bool:
    """Whether it is a chain of blocks over tokens, vision transformer or not (a mixer); convolutional networks and pyramids are none."""
    left_out = cast("Mapping[str, str]", backbone.info.get(LEFT_OUT) or {})
    return any(n.startswith("blocks.") for n in left_out) or any(
        t.kind == "tokens" and t.name.startswith("blocks.") for t in backbone.taps
    )


def _grid(backbone: Backbone, first: Tap) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the patches in reading order, and a patch's size in pixels."""
    height, width = backbone.preprocess.size
    patches = first.shape[0] - first.prefix - first.suffix
    patch = None
    for module in backbone.module.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == module.stride and module.in_channels in (1, 3):
            down, across = int(module.stride[0]), int(module.stride[1])
            if down > height or across > width:
                raise DataError(
                    f"pictures of {height} x {width} are smaller than a patch of {backbone.spec}, {down} x {across} pixels; give a larger size"
                )
            if (height // down) * (width // across) == patches:
                patch = down, across
                break
    # A convolutional stem: the grid has the picture's shape.
    grid = (height // patch[0], width // patch[1]) if patch else grid_of(patches, backbone.module, (height, width))
    if grid is None:
        raise SpecError(
            f"{backbone.spec}: {patches} patches fill no grid of its {height} x {width} pictures; it cannot be studied here"
        )
    patch = patch or (height // grid[0], width // grid[1])
    picture = trial_images(backbone.module, (height, width))[:1]
    met = corners(backbone.module, Appearance(first.module, True, first.shape), picture, patch)
    last = first.prefix + patches - 1
    right, below = first.prefix + grid[1] - 1, last - grid[1] + 1
    if met is not None and met != (first.prefix, right, below, last):
        raise SpecError(
            f"{backbone.spec} does not hold its patches in reading order: the corners of a picture are tokens {', '.join(map(str, met))}, where "
            f"{first.prefix}, {right}, {below}, {last} of a grid of {grid[0]} x {grid[1]} were expected; it cannot be studied here"
        )
    return grid, patch
