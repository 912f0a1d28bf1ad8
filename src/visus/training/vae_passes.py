"""A ConvVae's passes on a CPU, forwards and backwards, written out: the same function and gradients as autograd's, in less time.

What autograd leaves on the table here: a first and a last convolution of one or three channels, for which oneDNN has no fast kernel, are matrix
products over patches; a deconvolution's weights get their gradient as a convolution's, in which image and gradient change places (twice as
fast); in bfloat16 weights are rounded once a step into tensors that are kept, where autocast makes new ones and passes over gradients twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn import functional

from visus.models.vae import NARROW, ConvVae

STEP = (2, 2), (1, 1), (1, 1)  # stride, padding, dilation of every convolution


class CpuPasses:
    """The passes of one network, called as the network is: (images, noise) -> (reconstruction in nats [b], mu, logvar), each float32.

    dtype: float32, or bfloat16 (products of the convolutions and of the two large dense layers, and what is kept between them; the layers
    next to the code, the likelihood, the KL and all weights stay float32).
    """

    def __init__(self, network: ConvVae, dtype: torch.dtype = torch.float32) -> None:
        self.network, self.dtype = network, dtype
        convolutions = [m for m in network.encoder if isinstance(m, nn.Conv2d)]
        wide, code = (m for m in network.encoder if isinstance(m, nn.Linear))
        first, tall = (m for m in network.dense if isinstance(m, nn.Linear))
        deconvolutions = [m for m in network.deconvolutions if isinstance(m, nn.ConvTranspose2d)]
        self.down = _parameters([*convolutions, wide, code])
        self.up = _parameters([first, tall, *deconvolutions])
        self._live: list[torch.Tensor] = [*self.down[:-2], *self.up[2:]]
        self._rounded = [torch.empty_like(p, dtype=dtype, requires_grad=False) for p in self._live]

    @staticmethod
    def suits(network: nn.Module, device: torch.device) -> TypeGuard[ConvVae]:
        """Whether these passes are for this network on this device."""
        return device.type == "cpu" and isinstance(network, ConvVae) and network.sizes.channels <= NARROW

    def __call__(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """What `ConvVae.forward` gives."""
        if self.dtype != torch.float32:
            with torch.no_grad():
                torch._foreach_copy_(self._rounded, self._live)
        return self.network.passed(self._code, self._logits, x, noise)

    def _code(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = _Down.apply(self, x, *self.down)
        return found

    def _logits(self, z: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = _Up.apply(self, z, *self.up)
        return found

    def weights_down(self) -> Sequence[torch.Tensor]:
        """The encoder's, in the dtype of the products, but for the last layer's."""
        chosen = self._live if self.dtype == torch.float32 else self._rounded
        return [*(t.detach() for t in chosen[: len(self.down) - 2]), *(t.detach() for t in self.down[-2:])]

    def weights_up(self) -> Sequence[torch.Tensor]:
        """The decoder's, in the dtype of the products, but for the first layer's."""
        chosen = self._live if self.dtype == torch.float32 else self._rounded
        return [*(t.detach() for t in self.up[:2]), *(t.detach() for t in chosen[len(self.down) - 2 :])]


class _Down(torch.autograd.Function):
    """The encoder: images float32 [b, c, h, w], padded -> mu and logvar side by side, float32 [b, 2 latent]."""

    @staticmethod
    def forward(ctx: Any, passes: CpuPasses, x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        w, bias, *rest = passes.weights_down()
        layers, (wide, wide_bias, code, code_bias) = _pairs(rest[:-4]), rest[-4:]
        b, (height, width) = len(x), x.shape[2:]
        patches = _patches(x.to(passes.dtype))
        rows = torch.addmm(bias, patches.t(), w.reshape(len(w), -1).t()).relu_()
        maps = [rows.view(b, height // 2, width // 2, -1).permute(0, 3, 1, 2)]  # channels last: every row a pixel
        for weight, shift in layers:
            maps.append(functional.conv2d(maps[-1], weight, shift, 2, 1).relu_())
        flat = maps[-1].flatten(1)
        hidden = torch.addmm(wide_bias, flat, wide.t()).relu_().float()
        ctx.kept = passes.dtype, w, layers, wide, code, patches, maps, flat, hidden
        return torch.addmm(code_bias, hidden, code.t())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dtype, w, layers, wide, code, patches, maps, flat, hidden = ctx.kept
        g = gradients[0]
        found = [g.t() @ hidden, g.sum(0)]
        g = torch.ops.aten.threshold_backward(g @ code, hidden, 0).to(dtype)
        found = [g.t() @ flat, g.sum(0), *found]
        g = (g @ wide).view_as(maps[-1]).contiguous(memory_format=torch.channels_last)
        for (weight, _), before, after in zip(reversed(layers), reversed(maps[:-1]), reversed(maps[1:]), strict=True):
            g = torch.ops.aten.threshold_backward(g, after, 0)
            g, *own = torch.ops.aten.convolution_backward(
                g, before, weight, [len(weight)], *STEP, False, (0, 0), 1, [True, True, True]
            )
            found = [*own, *found]
        rows = _rows(torch.ops.aten.threshold_backward(g, maps[0], 0))
        first = (rows.t() @ patches.t()).view_as(w)
        return None, None, *_single([first, rows.sum(0), *found])


class _Up(torch.autograd.Function):
    """The decoder: codes float32 [b, latent] -> logits of images, float32 [b, c, h, w], padded."""

    @staticmethod
    def forward(ctx: Any, passes: CpuPasses, z: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        first, first_bias, tall, tall_bias, *rest = passes.weights_up()
        layers, (w, bias) = _pairs(rest[:-2]), rest[-2:]
        hidden = torch.addmm(first_bias, z, first.t()).relu_().to(passes.dtype)
        flat = torch.addmm(tall_bias, hidden, tall.t()).relu_()
        deep = flat.view(-1, *passes.network.deepest)
        maps = [deep.contiguous(memory_format=torch.channels_last)]
        for weight, shift in layers:
            maps.append(functional.conv_transpose2d(maps[-1], weight, shift, 2, 1).relu_())
        spread = _spread(w.reshape(len(w), -1).t() @ _rows(maps[-1]).t(), maps[-1])
        ctx.kept = passes.dtype, first, tall, layers, w, z, hidden, maps
        return spread.add_(bias.float().view(-1, 1, 1))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dtype, first, tall, layers, w, z, hidden, maps = ctx.kept
        g = gradients[0]
        found = [g.sum((0, 2, 3))]
        patches = _patches(g.to(dtype))
        found = [(_rows(maps[-1]).t() @ patches.t()).view_as(w), *found]
        g = _maps(patches.t() @ w.reshape(len(w), -1).t(), maps[-1])
        for (weight, _), before, after in zip(reversed(layers), reversed(maps[:-1]), reversed(maps[1:]), strict=True):
            g = torch.ops.aten.threshold_backward(g, after, 0)
            own = torch.ops.aten.convolution_backward(
                before, g, weight, None, *STEP, False, (0, 0), 1, [False, True, False]
            )[1]
            found = [own, g.sum((0, 2, 3)), *found]
            g = functional.conv2d(g, weight, None, 2, 1)
        g = torch.ops.aten.threshold_backward(g, maps[0], 0).flatten(1)
        found = [g.t() @ hidden, g.sum(0), *found]
        g = torch.ops.aten.threshold_backward(g @ tall, hidden, 0).float()
        return None, g @ first, *_single([g.t() @ z, g.sum(0), *found])


def _parameters(layers: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [p for layer in layers for p in (layer.weight, layer.bias)]  # type: ignore[misc]


def _pairs(tensors: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def _single(found: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [t.float() for t in found]


def _patches(x: torch.Tensor) -> torch.Tensor:
    """[b, c, h, w] -> [16 c, b h/2 w/2]: what a 4 x 4 kernel at stride 2 and padding 1 sees, a row for every one of its weights.

    A column a position would be copied in runs of four numbers, which takes three times as long.
    """
    b, c, height, width = x.shape
    padded = x.new_zeros(b, c, height + 2, width + 2)
    padded[..., 1:-1, 1:-1] = x
    image, channel, row, _ = padded.stride()
    seen = padded.as_strided((c, 4, 4, b, height // 2, width // 2), (channel, row, 1, image, 2 * row, 2))
    return seen.reshape(16 * c, -1)


def _spread(columns: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """[16 c, b h w], as `_patches` orders them -> float32 [b, c, 2 h, 2 w]: each added where its patch had it. maps: [b, a, h, w].

    Pixels of even and odd rows and columns lie apart until the end: then all that is added is contiguous.
    """
    b, _, height, width = maps.shape
    parts = columns.view(-1, 4, 4, b, height, width)
    phases = torch.zeros(len(parts), 2, 2, b, height + 1, width + 1)
    for i in range(4):
        for j in range(4):
            phases[:, i % 2, j % 2, :, i // 2 : i // 2 + height, j // 2 : j // 2 + width] += parts[:, i, j]
    padded = phases.permute(3, 0, 4, 1, 5, 2).reshape(b, len(parts), 2 * height + 2, 2 * width + 2)
    return padded[..., 1:-1, 1:-1]


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """[b, a, h, w], channels last -> [b h w, a], the same memory."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _maps(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """[b h w, a] -> [b, a, h, w] as `like`, channels last, the same memory."""
    b, a, height, width = like.shape
    return rows.view(b, height, width, a).permute(0, 3, 1, 2)
