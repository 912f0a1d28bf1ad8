"""Where a VAE's numbers stop being numbers: the weight, the layer, the image, the latent dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from visus.errors import DataError

LARGEST = 80.0  # a log-variance; exp() of more is no float32


class NotFiniteError(DataError):
    """NaN or an infinity. row: the first image of the batch that has it; said: the line, with {image} where the image is named."""

    def __init__(self, said: str, row: int) -> None:
        self.said, self.row = said, row
        super().__init__(said.format(image=f"image {row}"))

    def of(self, image: str) -> NotFiniteError:
        """The same, with the image by its name."""
        return NotFiniteError(self.said.replace("{image}", image.replace("{", "(").replace("}", ")")), self.row)

    def by(self, name: str) -> NotFiniteError:
        """The same, said of a module by its name."""
        return NotFiniteError(f"{_safe(name)}: {self.said}", self.row)


def check_posterior(
    module: nn.Module, encode: Callable[[], Any], mu: torch.Tensor, logvar: torch.Tensor, *, name: str, first: int = 0
) -> None:
    """Raise NotFiniteError unless mu and logvar, [b, ...], are numbers whose exponential is one.

    encode: runs the module on the same batch again, to find the layer. first: number of the batch's first image.
    """
    sound = torch.isfinite(mu).all() & torch.isfinite(logvar).all() & (logvar <= LARGEST).all()
    if bool(sound):
        return
    for what, t in (("mean", mu.flatten(1)), ("log-variance", logvar.flatten(1))):
        bad = ~torch.isfinite(t) if what == "mean" else ~torch.isfinite(t) | (t > LARGEST)
        if not bool(bad.any()):
            continue
        row, latent = (int(i) for i in bad.nonzero()[0])
        value = float(t[row, latent])
        if what == "log-variance" and value == -torch.inf:
            why = "the spread is 0, which has no density"
        elif what == "log-variance" and value > LARGEST:
            why = "whose exponential is no number"
        else:
            why = origin(module, encode)
        raise NotFiniteError(
            f"{_safe(name)}: the encoder gives {_shown(value)} for the {what} of latent {latent} at {{image}}: {_safe(why)}",
            first + row,
        )


def check_outputs(module: nn.Module, encode: Callable[[], Any], outputs: Sequence[tuple[str, Any]]) -> None:
    """Raise NotFiniteError for NaN or infinities among what encode gave, before anything is read from it."""
    for i, (name, t) in enumerate(outputs):
        if not _sound(t) and isinstance(t, torch.Tensor):
            bad = (~torch.isfinite(t)).nonzero()[0].tolist()
            value = _shown(float(t[tuple(bad)]))
            where = f" at {{image}}, place {bad[1:]}" if bad else ""
            raise NotFiniteError(
                f"the encoder gives {value} in its output {_safe(name) or i + 1}{where}: {_safe(origin(module, encode))}",
                (bad or [0])[0],
            )


def check_images(
    module: nn.Module,
    decode: Callable[[], Any],
    means: torch.Tensor,
    *,
    name: str,
    first: int = 0,
    every: int | None = None,
    kind: str = "image",
) -> None:
    """Raise NotFiniteError unless decoded means, [b, ...], are numbers. decode: runs the decoder on the same z again.

    first, every: number of the first image, and after how many rows they come again. kind: 'sample' for z that is of no image.
    """
    if bool(torch.isfinite(means).all()):
        return
    row = int((~torch.isfinite(means.flatten(1))).any(1).nonzero()[0])
    value = means[row][~torch.isfinite(means[row])][0]
    row = first + (row if every is None else row % every)
    image = "{image}" if kind == "image" else f"{kind} {row}"
    raise NotFiniteError(
        f"{_safe(name)}: the decoder gives {_shown(float(value))} for pixels of {image}, though its z is finite: {_safe(origin(module, decode))}",
        row,
    )


def bad_weights(module: nn.Module) -> str:
    """The first parameter, or running statistic, that holds NaN or an infinity, in words; '' without one."""
    for name, t in (*module.named_parameters(), *module.named_buffers()):
        if t.is_floating_point() and not bool(torch.isfinite(t).all()):
            bad = int((~torch.isfinite(t)).sum())
            return f"of its weights, {name} holds {bad:,} of {t.numel():,} values that are no numbers"
    return ""


def origin(module: nn.Module, run: Callable[[], Any]) -> str:
    """The weight that is no number; else the first layer whose output is none though its input is; in words."""
    if weights := bad_weights(module):
        return weights
    found: list[str] = []

    def watch(name: str, layer: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            if not found and _sound(args) and not _sound(output):
                found.append(f"it begins in layer {name} ({type(layer).__name__})")

        return hook

    leaves = [(n, m) for n, m in module.named_modules() if n and not any(m.children())]
    hooks = [m.register_forward_hook(watch(n, m)) for n, m in leaves]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "all its weights and layers are finite, so it begins in the code between them"


def _sound(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    return all(map(_sound, value)) if isinstance(value, tuple | list) else True


def _shown(value: float) -> str:
    return "NaN" if value != value else "infinity" if abs(value) == torch.inf else f"{value:.3g}"


def _safe(text: str) -> str:
    """Without braces, which name the image."""
    return text.replace("{", "(").replace("}", ")")
