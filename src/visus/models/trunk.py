"""One shape for every library's models: `model` inside, `pooled` the point where its features pass, logits (or features) out.

`pooled` is an identity: hooked like any other module, it is the tap 'late' of every architecture, and what passes through it is by
construction what the library itself calls the features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from visus.models.heads import two_sided
from visus.models.tapping import tracing, unwrap


class _AtHead(Exception):  # noqa: N818 - not an error: it ends a forward pass
    """The features have been seen."""


class Trunk(nn.Module):
    """Base: `forward` on a normalised batch [b, 3, h, w] sends the features through `pooled`; returns logits or, without classifier, features."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.pooled = nn.Identity()
        self.channels = 3  # of the pictures; 1 for a model of grey ones
        self.binary = False  # one logit, given as two

    def _logits(self, output: Any) -> torch.Tensor:
        """The classifier's output, [b, k]; a binary classifier's one logit as two."""
        logits = unwrap(output)
        return two_sided(logits.reshape(-1, 1)) if self.binary else logits

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised float [b, 3, h, w] -> what passes through `pooled`, [b, c].

        Differentiable, in whatever mode the modules are; the library's own classifier is not run, and no hook stays behind.
        """
        raise NotImplementedError


class TimmTrunk(Trunk):
    """timm: forward_head(forward_features(x), pre_logits=True) are the features."""

    def __init__(self, model: nn.Module, *, classifies: bool) -> None:
        super().__init__(model)
        self.classifies = classifies

    def features(self, x: torch.Tensor) -> torch.Tensor:
        model: Any = self.model
        vector = self.pooled(unwrap(model.forward_head(model.forward_features(x), pre_logits=True)))
        return unwrap(vector).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        model: Any = self.model
        maps = model.forward_features(x)
        vector = self.pooled(unwrap(model.forward_head(maps, pre_logits=True)))
        return self._logits(model.forward_head(maps)) if self.classifies else vector


class PlainTrunk(Trunk):
    """A model whose output is the features (an open_clip image tower)."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward(x).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return unwrap(self.pooled(unwrap(self.model(x))))


class Logits(nn.Module):
    """A transformers classifier as a function of its pictures: logits [b, k]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(pixel_values=x).logits
        return logits


class HeadInputTrunk(Trunk):
    """torchvision, and classifiers of transformers without a base model: what enters the last linear layer are the features."""

    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__(model)
        self.head = head

    def features(self, x: torch.Tensor) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        traced = tracing()  # a tracer follows no exceptions: under it the head runs, and its output is dropped

        def entering(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            seen.append(unwrap(self.pooled(args[0])))
            if not traced:
                raise _AtHead

        handle = self.model.get_submodule(self.head).register_forward_pre_hook(entering)
        try:
            self.model(x)
        except _AtHead:
            pass
        finally:
            handle.remove()
        return seen[0].flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def entering(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            self.pooled(args[0])

        handle = self.model.get_submodule(self.head).register_forward_pre_hook(entering)
        try:
            return self._logits(self.model(x))
        finally:
            handle.remove()


class HFTrunk(Trunk):
    """transformers: what `pool` makes of the base model's output are the features; logits where there is a classifier.

    base: path of the base model inside the model ('' for the model itself). beside: what the base model is given beside the pictures, of a
    model that would mask them.
    """

    def __init__(
        self,
        model: nn.Module,
        base: str,
        pool: Callable[[Any], torch.Tensor],
        *,
        classifies: bool,
        beside: Callable[[torch.Tensor], dict[str, torch.Tensor]] | None = None,
    ) -> None:
        super().__init__(model)
        self.base, self.pool, self.classifies, self.beside = base, pool, classifies, beside

    def _base(self, x: torch.Tensor) -> Any:
        return self.model.get_submodule(self.base)(pixel_values=x, **(self.beside(x) if self.beside else {}))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return unwrap(self.pooled(self.pool(self._base(x)))).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.classifies:
            return unwrap(self.pooled(self.pool(self._base(x))))

        def passing(module: nn.Module, args: Any, output: Any) -> None:
            self.pooled(self.pool(output))

        handle = self.model.get_submodule(self.base).register_forward_hook(passing)
        try:
            return self._logits(self.model(pixel_values=x, **(self.beside(x) if self.beside else {})).logits)
        finally:
            handle.remove()


class FittedTrunk(Trunk):
    """A trunk with a linear classifier fitted on its features, in place of the library's own; module paths are the trunk's."""

    def __init__(self, trunk: Trunk, fitted: nn.Linear) -> None:
        super().__init__(trunk.model)
        self.pooled, self.channels = trunk.pooled, trunk.channels
        self.fitted = fitted
        self._trunk = (trunk,)  # in a tuple: registered as a module, every parameter would have two names

    @property
    def trunk(self) -> Trunk:
        """The trunk without the classifier."""
        return self._trunk[0]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.trunk.features(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fitted(self.features(x))
        return logits
