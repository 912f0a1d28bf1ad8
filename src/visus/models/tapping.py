"""Features at taps: hooks that always come off, and a forward pass that ends behind the deepest tap asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from visus.models.modes import eval_mode
from visus.models.tap import Tap
from visus.spec import unknown

POOLS = ("mean", "cls", "flatten")
CLS_AND_MEAN = "cls+mean"
"""Both poolings of one pass, one behind the other: for who reads both."""


class _Enough(Exception):  # noqa: N818 - not an error: it ends a forward pass
    """Every tap asked for has been seen."""


def forward_taps(
    run: Callable[[torch.Tensor], Any],
    module: torch.nn.Module,
    batch: torch.Tensor,
    taps: Sequence[Tap],
    *,
    pool: str | None,
) -> dict[str, torch.Tensor]:
    """Normalised float [b, 3, h, w] -> output by tap name, in the order of `taps`, of `run`, which runs the module.

    pool: 'mean', 'cls', 'cls+mean', 'flatten' -> float32 [b, d] (see Backbone.forward); None -> as the module gave it. The module runs in
    eval mode (and gets its mode back), without gradients; in eager mode it ends behind the deepest tap. Under tracing
    (torch.jit.trace, torch.export, torch.compile) it runs to its end. Raises SpecError for an unknown pooling.
    """
    if pool is not None and pool not in (*POOLS, CLS_AND_MEAN):
        raise unknown("pooling", pool, POOLS)
    traced = tracing()
    # Inference mode makes tensors that a tracer cannot follow.
    no_gradients = torch.no_grad if traced else torch.inference_mode
    with no_gradients(), eval_mode(module):
        seen = _outputs(run, module, batch, [tap.module for tap in taps], stop=not traced)
        modules = dict(module.named_modules()) if any(tap.norm for tap in taps) else {}
        out = {}
        for tap in taps:
            y = seen[tap.module]
            if tap.norm:
                y = modules[tap.norm](y)
            out[tap.name] = y if pool is None else pooled(y, tap, pool)
        return out


def tracing() -> bool:
    """Whether a tracer (torch.jit.trace, torch.export, torch.compile) follows the pass; it follows no exceptions."""
    return torch._C._get_tracing_state() is not None or torch.compiler.is_compiling()


def _outputs(
    run: Callable[[torch.Tensor], Any],
    module: torch.nn.Module,
    batch: torch.Tensor,
    paths: Sequence[str],
    *,
    stop: bool,
) -> dict[str, torch.Tensor]:
    """Output tensor of each of the modules at these paths, of one forward pass; `stop`: end it behind the last of them."""
    seen: dict[str, torch.Tensor] = {}
    known = dict(module.named_modules())
    with _hooks({path: known[path] for path in set(paths)}, seen, stop=stop):
        try:  # noqa: SIM105 - plain, for tracers that follow the pass
            run(batch)
        except _Enough:
            pass
    return seen


@contextmanager
def _hooks(modules: Mapping[str, torch.nn.Module], seen: dict[str, torch.Tensor], *, stop: bool) -> Iterator[None]:
    handles = []

    def watch(name: str) -> Any:
        def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
            # A module that runs twice is tapped where it first runs.
            seen.setdefault(name, unwrap(output))
            if stop and len(seen) == len(modules):
                raise _Enough

        return hook

    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(watch(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def unwrap(output: Any) -> torch.Tensor:
    """The tensor in what a module returned: itself, or the first tensor of a tuple, a dict or a transformers ModelOutput.

    Raises TypeError when there is none.
    """
    if isinstance(output, torch.Tensor):
        return output
    parts = output.values() if isinstance(output, Mapping) else output
    if isinstance(parts, Sequence) or isinstance(output, Mapping):
        for part in parts:
            if isinstance(part, torch.Tensor):
                return part
    raise TypeError(f"a module returned no tensor but {type(output).__name__}")


def pooled(y: torch.Tensor, tap: Tap, pool: str) -> torch.Tensor:
    """One vector an image, float32 [b, d]: the mean over positions, the CLS token, one behind the other, or everything in a row."""
    if pool == "flatten" or y.ndim == 2:
        return y.flatten(1).float()
    if tap.kind == "spatial":
        return y.float().mean(dim=(2, 3))
    if tap.kind == "grid":
        return y.float().mean(dim=(1, 2))
    if tap.kind == "tokens":
        token = y[:, tap.cls].float() if tap.cls is not None else None
        if pool == "cls" and token is not None:
            return token
        if tap.shape[0] > tap.prefix + tap.suffix:  # a block of the class token alone has no patches
            y = y[:, tap.prefix : -tap.suffix or None]
        average = y.float().mean(dim=1)
        return average if token is None or pool != CLS_AND_MEAN else torch.cat([token, average], dim=1)
    return y.flatten(1).float()
