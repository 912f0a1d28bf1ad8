"""Finding a model's named points: its repeated units and stages, in the order in which a forward pass meets them.

What a network says twice of the same picture must be the same, and what a point gives must be the picture's grid once the tokens that
are no patches are taken away: a point of which that cannot be told is left out, and said to be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from visus.errors import DataError
from visus.models.sequence import Appearance, Others, first_tensor, fits, grid_of, others
from visus.models.tap import Tap, TapKind
from visus.models.tapping import unwrap

INNER = ("blocks", "layers", "layer")  # the names of a stage's own chain of units
STEMS = ("maxpool",)  # leaves worth a name
STEADY = 1e-5  # relative difference of two outputs that are the same but for the order in which sums are taken
MIXED = 1e-2  # from which on a picture's neighbours in a batch have a say, not the arithmetic of another batch size


@dataclass(frozen=True)
class Layout:
    """What an architecture declares about its outputs.

    prefix: tokens before the patches, where they cannot be measured (all weights zero). channels_last: 4-D outputs are [b, h, w, c]
    (None: not declared; on a square picture the two equal sides are the positions). late: path of the module whose
    output is the features and that 'late' names instead of `pooled` (a ResNet's global pool). extra: further paths. root: path of the
    network whose points are meant.
    """

    prefix: int = 0
    channels_last: bool | None = None
    late: tuple[str, str] | None = None
    extra: tuple[str, ...] = ()
    root: str = "model"


@dataclass(frozen=True)
class Point:
    """One module's output in the trial pass."""

    path: str
    shape: tuple[int, ...]
    unit: bool


@dataclass(frozen=True)
class Trial:
    """What one pass of two pictures met: output shapes (without the batch) by path, and every sequence where it first appeared, with its
    value [2, n, c], by its number of tokens. outputs: width of the model's output, None where it is no vector."""

    shapes: Mapping[str, tuple[int, ...]]
    sequences: Mapping[int, tuple[Appearance, torch.Tensor]]
    outputs: int | None


@dataclass(frozen=True)
class Found:
    """taps: in forward order. aliases: early, middle, late. left_out: why a point is none, by its name. outputs: width of what the whole
    model gives, None where that is no vector."""

    taps: tuple[Tap, ...]
    aliases: Mapping[str, str]
    left_out: Mapping[str, str]
    outputs: int | None = None


def find_taps(trunk: nn.Module, size: tuple[int, int], layout: Layout) -> Found:
    """The points of a trunk under the layout's root. size: (h, w) of the model's input.

    Two pictures of noise go through the model, and one of them alone. Raises DataError when the model cannot run on its own input size,
    gives another output for the same picture, or an output that depends on the pictures beside it.
    """
    root = layout.root
    candidates = dict(_candidates(trunk.get_submodule(root), f"{root}."))
    known = dict(trunk.named_modules())
    candidates.update({p: False for p in layout.extra if p in known and p not in candidates})
    paths = [*candidates, "pooled", *([layout.late[1]] if layout.late else [])]
    pictures = trial_images(trunk, size)
    trial = _trial(trunk, {p: known[p] for p in paths}, pictures)
    points = [Point(p, shape, candidates[p]) for p, shape in trial.shapes.items() if p in candidates]
    tokens = any(len(p.shape) == 2 and p.unit for p in points)
    # Among tokens only the units count: an embedding without its prefix is no token sequence of the same kind.
    points = [p for p in points if len(p.shape) == 3 or (len(p.shape) == 2 and (p.unit or not tokens))]
    points = [p for p in points if len(p.shape) == 2 or max(p.shape[:2]) > 1 or max(p.shape[1:]) > 1]
    plain = tokens and len({p.shape for p in points if p.unit}) == 1  # a plain ViT: one chain of equal blocks
    names = _names(points, root, blocks=plain)
    beside: dict[int, Others | None] = {}
    for n, (where, value) in trial.sequences.items():
        told = others(trunk, where, value, pictures[:1], declared=layout.prefix)
        beside[n] = _carried(told, n, [o for o in beside.values() if o], trunk, size)
    taps: list[Tap] = []
    left_out: dict[str, str] = {}
    for place, point in enumerate(points, 1):
        kind = _kind(point.shape, layout.channels_last)
        depth = place / (len(points) + 1)
        if kind == "tokens":
            told = beside.get(point.shape[0], Others())
            why = _no_grid(point.shape[0], told, trunk, size)
            at = told or Others()
            tap = Tap(
                names[point.path], point.path, kind, depth, point.shape, at.prefix, at.cls(point.shape[0]),
                suffix=at.suffix, beside=at.names,
            )  # fmt: skip
        else:
            grid = point.shape[:2] if kind == "grid" else point.shape[1:]
            why = (
                ""
                if fits(grid[0], grid[1], size)
                else f"{grid[0]} x {grid[1]} is not the shape of its pictures, {size[0]} x {size[1]}"
            )
            tap = Tap(names[point.path], point.path, kind, depth, point.shape)
        if why:
            left_out[tap.name] = why
        else:
            taps.append(tap)
    kept = {tap.module for tap in taps}
    if layout.late and layout.late[1] in trial.shapes:
        name, path = layout.late
        taps.append(Tap(name, path, _kind(trial.shapes[path], False), 1.0, trial.shapes[path]))
    else:
        taps.append(Tap("pooled", "pooled", "vector", 1.0, (_size(trial.shapes["pooled"]),)))
    return Found(
        tuple(taps), _aliases(taps, [p for p in points if p.unit and p.path in kept], root), left_out, trial.outputs
    )


def _carried(
    told: Others | None, tokens: int, earlier: Sequence[Others], trunk: nn.Module, size: tuple[int, int]
) -> Others | None:
    """What stands beside the patches: of a later stage, which is met behind attention, what came along from an earlier one, where only that
    leaves a grid."""
    if told is None or told.count or grid_of(tokens, trunk, size):
        return told
    return next((o for o in reversed(earlier) if o.count and grid_of(tokens - o.count, trunk, size)), told)


def _no_grid(tokens: int, told: Others | None, trunk: nn.Module, size: tuple[int, int]) -> str:
    """Why a sequence is no grid of patches; '': it is one."""
    if told is None:
        return f"among its {tokens} tokens stand some that are no patches"
    if tokens == told.count or grid_of(tokens - told.count, trunk, size):
        return ""
    found = (
        f"{tokens} tokens, without {told.count} that are no patches {tokens - told.count},"
        if told.count
        else f"{tokens} tokens"
    )
    return f"{found} make no grid of {size[0]} x {size[1]} pictures"


def _candidates(module: nn.Module, prefix: str) -> Iterator[tuple[str, bool]]:
    """(path, is a unit) of the modules worth a name: members of chains, stages, and the non-trivial parts between them."""
    for name, child in module.named_children():
        path = prefix + name
        if isinstance(child, nn.Sequential | nn.ModuleList) and type(child).__name__ in ("Sequential", "ModuleList"):
            if name in ("head", "classifier", "heads"):
                continue
            leaves = not any(any(True for _ in c.children()) for c in child.children())
            if name.startswith(("stem", "conv", "patch_embed")) or (leaves and name != "features"):
                yield path, False
                continue
            yield from _chain(child, path, whole=name[-1].isdigit())
        elif isinstance(child, nn.ModuleList | nn.Sequential) or (_chains(child) and name != "head"):
            yield from _candidates(child, f"{path}.")
            if name not in ("encoder", "transformer", "features", "trunk", "model", "body"):
                yield path, False
        elif not isinstance(child, nn.Identity | nn.Dropout) and (any(True for _ in child.children()) or name in STEMS):
            yield path, False


def _chains(module: nn.Module) -> bool:
    """Whether the module holds chains of its own; the branches of an Inception block are none."""
    children = [c for name, c in module.named_children() if not name.startswith("branch")]
    return any(isinstance(c, nn.Sequential | nn.ModuleList) and len(c) for c in children)


def _chain(chain: nn.Module, path: str, *, whole: bool) -> Iterator[tuple[str, bool]]:
    """The members of a chain; a numbered chain ('layer1') is a unit itself, and its members are points inside it."""
    for name, member in chain.named_children():
        if isinstance(member, nn.Identity | nn.Dropout):
            continue
        inside = [(f"{path}.{name}.{n}", c) for n, c in member.named_children() if n in INNER and _is_chain(c)]
        if _is_chain(member):
            inside.append((f"{path}.{name}", member))
        for inner_path, inner in inside:
            for inner_name, unit in inner.named_children():
                if any(True for _ in unit.children()):
                    yield f"{inner_path}.{inner_name}", False
        yield f"{path}.{name}", not whole
    if whole and isinstance(chain, nn.Sequential):
        yield path, True


def _is_chain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList)


def trial_images(trunk: nn.Module, size: tuple[int, int]) -> torch.Tensor:
    """Two normalised pictures of noise, [2, channels, h, w], always the same, in the dtype and on the device of the weights."""
    parameter = next(iter(trunk.parameters()), None)
    pictures = torch.randn(2, getattr(trunk, "channels", 3), *size, generator=torch.Generator().manual_seed(0))
    return pictures if parameter is None else pictures.to(parameter)


def _trial(trunk: nn.Module, modules: Mapping[str, nn.Module], pictures: torch.Tensor) -> Trial:
    """What a pass of two pictures meets, in the order in which modules finish; the second pass is one of the pictures alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    sequences: dict[int, tuple[Appearance, torch.Tensor]] = {}
    features: list[torch.Tensor] = []
    handles = []

    def meet(path: str, value: torch.Tensor | None, *, entering: bool) -> None:
        if (
            value is not None
            and value.is_floating_point()
            and value.ndim == 3
            and len(value) == 2
            and value.shape[1] not in sequences
        ):
            sequences[value.shape[1]] = (Appearance(path, entering, tuple(value.shape[1:])), value.detach().clone())

    def enter(path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            meet(path, first_tensor(args, kwargs), entering=True)

        return hook

    def leave(path: str) -> Any:
        def hook(module: nn.Module, args: object, output: object) -> None:
            try:
                y = unwrap(output)
            except TypeError:
                return
            if path == "pooled":
                features.append(y.detach().clone())
            if y.is_floating_point() and y.ndim >= 2 and len(y) == 2:
                meet(path, y, entering=False)
                shapes.setdefault(path, tuple(y.shape[1:]))

        return hook

    try:
        for path, module in modules.items():
            handles.append(module.register_forward_pre_hook(enter(path), with_kwargs=True))
            handles.append(module.register_forward_hook(leave(path)))
        with torch.inference_mode():
            given = trunk(pictures)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
        h, w = pictures.shape[2:]
        raise DataError(f"the model does not run on its own input size {h} × {w}: {str(error)[:200]!r}") from error
    finally:
        for handle in handles:
            handle.remove()
    if not features:
        raise DataError("the model's features could not be found: its last layer never ran; give another model")
    _same_again(trunk, features[0], pictures)
    return Trial(shapes, sequences, int(given.shape[1]) if given.ndim == 2 else None)


def _same_again(trunk: nn.Module, features: torch.Tensor, pictures: torch.Tensor) -> None:
    """Refuse a model whose output is another each time, or depends on the pictures beside it (protocol P17). Raises DataError."""
    if len(features) != len(pictures):
        raise DataError(
            f"the model gives {len(features)} row of features for {len(pictures)} pictures: it reads a batch as one sequence; give another model"
        )
    alone = _features(trunk, pictures[:1])
    if _apart(alone, features[:1]) <= STEADY:
        return
    apart = _apart(alone, _features(trunk, pictures[:1]))
    if apart > STEADY:
        raise DataError(
            f"the model gives another output for the same picture each time (up to {100 * apart:.2g} % of the largest value apart): something "
            "in it is drawn at random in every pass, as a mask or dropout, and nothing measured on it would hold; give a model without"
        )
    if _apart(alone, features[:1]) > MIXED:
        raise DataError(
            "the model gives another output for a picture alone than beside others: it mixes the pictures of a batch; give another model"
        )


def _features(trunk: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """What passes through `pooled`."""
    seen: list[torch.Tensor] = []
    handle = trunk.get_submodule("pooled").register_forward_hook(
        lambda m, args, out: seen.append(unwrap(out).detach().clone())
    )
    try:
        with torch.inference_mode():
            trunk(pictures)
    finally:
        handle.remove()
    return seen[0]


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference relative to the largest value; what is no number in both is equal."""
    a, b = a.float(), b.float()
    if a.shape != b.shape:
        return float("inf")
    difference = torch.where(a.isnan() & b.isnan() | (a == b), 0.0, (a - b).abs())
    largest = max(float(a.abs().nan_to_num(0, 0).max()), 1e-30)
    return float(difference.nan_to_num(float("inf")).max()) / largest


def _kind(shape: tuple[int, ...], channels_last: bool | None) -> TapKind:
    if len(shape) == 1:
        return "vector"
    if len(shape) == 2:
        return "tokens"
    if channels_last is None:
        channels_last = shape[0] == shape[1] != shape[2]
    return "grid" if channels_last else "spatial"


def _size(shape: tuple[int, ...]) -> int:
    out = 1
    for side in shape:
        out *= side
    return out


def _names(points: list[Point], root: str, *, blocks: bool) -> dict[str, str]:
    """What a user types: 'blocks.N' in a plain ViT, else the path without what wraps it."""
    if blocks:
        units = [p.path for p in points if p.unit]
        named = {path: f"blocks.{i}" for i, path in enumerate(units)}
        return {p.path: named.get(p.path, p.path.removeprefix(f"{root}.")) for p in points}
    return {p.path: p.path.removeprefix(f"{root}.").removeprefix("encoder.") for p in points}


def _aliases(taps: list[Tap], units: list[Point], root: str) -> dict[str, str]:
    """early: a quarter in, middle: behind the middle, by stages (of four stages: the first and the third)."""
    by_path = {tap.module: tap.name for tap in taps}
    names = [by_path[u.path] for u in units if u.path in by_path] or [tap.name for tap in taps]
    return {"early": names[(len(names) - 1) // 4], "middle": names[len(names) // 2], "late": taps[-1].name}
