"""Cutting a classifier in front of one of its modules: what enters there can be cached, and the rest be trained on it.

Model-agnostic: the front is run with one picture of zeros, and the cached batch is put in the place of what it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from visus.errors import DataError
from visus.models.classifier import Classifier
from visus.models.modes import eval_mode
from visus.spec import unknown


class Tail:
    """The network from the cut on, for training on cached activations: what enters the module at `path` -> logits.

    One picture of zeros runs through the front once, without gradients and in eval mode, and the outputs of the front's modules
    are kept; later calls replay them and put the cached batch in the place of the first tensor that enters the module. Right
    where nothing but this tensor carries the picture across the cut: `can_cut` says whether. The front must stay as it is.
    path: inside the trunk. size: (h, w) of the network's input. Raises DataError when the module never runs.
    """

    def __init__(self, classifier: Classifier, path: str, size: tuple[int, int]) -> None:
        self.classifier, self.path, self.size = classifier, path, size
        self._module = module_at(classifier, path)
        self._kept: dict[tuple[torch.device, torch.dtype], dict[nn.Module, list[Any]]] = {}

    def __call__(self, cached: torch.Tensor) -> torch.Tensor:
        """What enters the module at the cut [b, ...] -> logits [b, n_classes], differentiable from the cut on."""
        parameter = next(self.classifier.parameters())
        key = (parameter.device, parameter.dtype)
        if key not in self._kept:
            self._kept[key] = self._record()
        gradients = torch.is_grad_enabled()
        passed = False

        def put(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            nonlocal passed
            if passed:  # a module that runs twice gets the batch where it first runs
                return None
            passed = True
            torch.set_grad_enabled(gradients)
            put_back()
            return _with_first(args, kwargs, cached.to(parameter.dtype))

        handle = self._module.register_forward_pre_hook(put, with_kwargs=True)
        try:
            with _replaying(self._kept[key]), torch.no_grad(), eval_mode(self.classifier) as put_back:
                features = self.classifier.trunk.features(blank_image(self.classifier, self.size))
        finally:
            handle.remove()
        logits: torch.Tensor = self.classifier.head(features)
        return logits

    def _record(self) -> dict[nn.Module, list[Any]]:
        """Outputs, by call, of the outermost modules that end in front of the cut."""
        done: list[tuple[nn.Module, Any]] = []
        began: list[int] = []  # how many were done when each of the open modules began
        handles = []

        def begin(module: nn.Module, args: object) -> None:
            began.append(len(done))

        def end(module: nn.Module, args: object, output: Any) -> None:
            del done[began.pop() :]  # what ran inside it
            done.append((module, _copied(output)))

        for module in self.classifier.trunk.modules():
            handles.append(module.register_forward_pre_hook(begin))
            handles.append(module.register_forward_hook(end))
        try:
            with eval_mode(self.classifier):
                entering(self.classifier, self.path, blank_image(self.classifier, self.size))
        finally:
            for handle in handles:
                handle.remove()
        kept: dict[nn.Module, list[Any]] = {}
        for module, output in done:
            kept.setdefault(module, []).append(output)
        return kept


def entering(classifier: Classifier, path: str, x: torch.Tensor) -> torch.Tensor:
    """The first tensor that enters the module at `path` (inside the trunk), [b, ...], without gradients and in eval mode.

    x: normalised float [b, 3, h, w]. What lies behind is not run. Raises DataError when the module never runs.
    """
    with torch.no_grad(), eval_mode(classifier):
        args, kwargs = arguments(classifier, path, x)
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return value
    raise DataError(
        f"no single tensor enters the module {path!r}, so nothing can be cut in front of it; run the whole network"
    )


def can_cut(classifier: Classifier, path: str, x: torch.Tensor, tolerance: float = 1e-5) -> bool:
    """Whether, on a real batch, a Tail of what enters is what the whole network gives, in eval mode.

    x: normalised float [b, 3, h, w]. tolerance: largest difference of a logit, relative to the largest logit. False where more
    than one tensor carries the picture across the cut: then the whole network must be run.
    """
    batch = (
        x if len(x) > 1 else torch.cat([x, x.flip(-1)])
    )  # one picture would hide a batch that is folded into positions
    with torch.no_grad(), eval_mode(classifier):
        expected = classifier(batch)
        try:
            tail = Tail(classifier, path, (x.shape[2], x.shape[3]))
            found = [tail(entering(classifier, path, batch)) for _ in range(2)]  # the second replays the front
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, DataError):
            return False
    scale = float(expected.abs().max())
    return all(f.shape == expected.shape and float((f - expected).abs().max()) <= tolerance * scale for f in found)


class _Entered(Exception):  # noqa: N818 - not an error: it ends a forward pass
    """The tensor that enters the cut has been seen."""


def arguments(classifier: Classifier, path: str, x: torch.Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the module at `path` is called with, positional and by keyword, where it first runs; the pass ends there."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args, kwargs))
        raise _Entered

    handle = module_at(classifier, path).register_forward_pre_hook(look, with_kwargs=True)
    try:
        classifier.trunk.features(x)
    except _Entered:
        return seen[0]
    finally:
        handle.remove()
    raise DataError(f"the module {path!r} never runs, so nothing can be cut in front of it; give another one")


def _with_first(
    args: tuple[Any, ...], kwargs: dict[str, Any], x: torch.Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with `x` in the place of the first tensor."""
    for i, value in enumerate(args):
        if isinstance(value, torch.Tensor):
            return (*args[:i], x, *args[i + 1 :]), kwargs
    for name, value in kwargs.items():
        if isinstance(value, torch.Tensor):
            return args, {**kwargs, name: x}
    return args, kwargs


@contextmanager
def _replaying(kept: dict[nn.Module, list[Any]]) -> Iterator[None]:
    """The modules give, call by call, what was kept of them instead of running."""

    def replay(outputs: list[Any], forward: Callable[..., Any]) -> Callable[..., Any]:
        left = iter(outputs)

        def run(*args: Any, **kwargs: Any) -> Any:
            for output in left:
                return _copied(output)
            return forward(*args, **kwargs)  # a module that runs behind the cut too

        return run

    own = {module: module.__dict__["forward"] for module in kept if "forward" in module.__dict__}
    try:
        for module, outputs in kept.items():
            module.__dict__["forward"] = replay(outputs, module.forward)
        yield
    finally:
        for module in kept:
            module.__dict__.pop("forward", None)
        for module, forward in own.items():
            module.__dict__["forward"] = forward


def _copied(output: Any) -> Any:
    """With tensors of its own, as layers behind may write into theirs."""
    return tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, output)


def blank_image(classifier: Classifier, size: tuple[int, int]) -> torch.Tensor:
    parameter = next(classifier.parameters())
    return torch.zeros(1, classifier.trunk.channels, *size, device=parameter.device, dtype=parameter.dtype)


def module_at(classifier: Classifier, path: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(classifier.trunk.named_modules())
    if path not in modules:
        raise unknown("module", path, modules)
    return modules[path]
