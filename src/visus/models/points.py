"""Finding a model's named points: its repeated units and stages, in the order in which a forward pass meets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from visus.errors import DataError
from visus.models.base import Tap, TapKind
from visus.models.tapping import unwrap

INNER = ("blocks", "layers", "layer")  # the names of a stage's own chain of units
STEMS = ("maxpool",)  # leaves worth a name


@dataclass(frozen=True)
class Layout:
    """What an architecture declares about its outputs.

    prefix: tokens before the patches. patches: number of patches; a sequence of just so many has no prefix yet (CaiT, XCiT
    add the CLS token late). cls: position of the CLS token, or None. channels_last: 4-D outputs are [b, h, w, c]
    (None: not declared; on a square picture the two equal sides are the positions). late: path of the module whose
    output is the features and that 'late' names instead of `pooled` (a ResNet's global pool). extra: further paths.
    """

    prefix: int = 0
    patches: int | None = None
    cls: int | None = None
    channels_last: bool | None = None
    late: tuple[str, str] | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """One module's output in the dummy pass."""

    path: str
    shape: tuple[int, ...]
    unit: bool


def find_taps(
    trunk: nn.Module, root: str, size: tuple[int, int], layout: Layout
) -> tuple[tuple[Tap, ...], dict[str, str]]:
    """The taps of a trunk in forward order, and the aliases early, middle, late.

    root: path inside the trunk under which to look. size: (h, w) of the model's input. One picture of zeros goes
    through the model. Raises DataError when the model cannot run on its own input size.
    """
    candidates = dict(_candidates(trunk.get_submodule(root), f"{root}."))
    known = dict(trunk.named_modules())
    candidates.update({p: False for p in layout.extra if p in known and p not in candidates})
    paths = [*candidates, "pooled", *([layout.late[1]] if layout.late else [])]
    seen = _dummy_pass(trunk, {p: known[p] for p in paths}, size)
    if "pooled" not in seen:
        raise DataError("the model's features could not be found: its last layer never ran; give another model")
    points = [Seen(p, shape, candidates[p]) for p, shape in seen.items() if p in candidates]
    tokens = any(len(p.shape) == 2 and p.unit for p in points)
    # Among tokens only the units count: an embedding without its prefix is no token sequence of the same kind.
    points = [p for p in points if len(p.shape) == 3 or (len(p.shape) == 2 and (p.unit or not tokens))]
    points = [p for p in points if len(p.shape) == 2 or max(p.shape[:2]) > 1 or max(p.shape[1:]) > 1]
    taps: list[Tap] = []
    plain = tokens and len({p.shape for p in points if p.unit}) == 1  # a plain ViT: one chain of equal blocks
    names = _names(points, root, blocks=plain)
    for place, point in enumerate(points, 1):
        kind = _kind(point.shape, layout.channels_last)
        prefixed = kind == "tokens" and point.shape[0] != layout.patches
        prefix, cls = (layout.prefix, layout.cls) if prefixed else (0, None)
        taps.append(Tap(names[point.path], point.path, kind, place / (len(points) + 1), point.shape, prefix, cls))
    if layout.late and layout.late[1] in seen:
        name, path = layout.late
        taps.append(Tap(name, path, _kind(seen[path], False), 1.0, seen[path]))
    else:
        taps.append(Tap("pooled", "pooled", "vector", 1.0, (_size(seen["pooled"]),)))
    return tuple(taps), _aliases(taps, [p for p in points if p.unit], root)


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


def _dummy_pass(
    trunk: nn.Module, modules: Mapping[str, nn.Module], size: tuple[int, int]
) -> dict[str, tuple[int, ...]]:
    """Output shape (without the batch) of each module that gave a float tensor, in the order in which they finished."""
    seen: dict[str, tuple[int, ...]] = {}
    handles = []

    def watch(path: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: object, output: object) -> None:
            try:
                y = unwrap(output)
            except TypeError:
                return
            if y.is_floating_point() and y.ndim >= 2 and len(y) == 1:
                seen.setdefault(path, tuple(y.shape[1:]))

        return hook

    try:
        for path, module in modules.items():
            handles.append(module.register_forward_hook(watch(path)))
        parameter = next(iter(trunk.parameters()), None)
        dtype = torch.float32 if parameter is None else parameter.dtype
        with torch.inference_mode():
            trunk(torch.zeros(1, getattr(trunk, "channels", 3), *size, dtype=dtype))
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
        raise DataError(
            f"the model does not run on its own input size {size[0]} × {size[1]}: {str(error)[:200]!r}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return seen


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


def _names(points: list[Seen], root: str, *, blocks: bool) -> dict[str, str]:
    """What a user types: 'blocks.N' in a plain ViT, else the path without what wraps it."""
    if blocks:
        units = [p.path for p in points if p.unit]
        named = {path: f"blocks.{i}" for i, path in enumerate(units)}
        return {p.path: named.get(p.path, p.path.removeprefix(f"{root}.")) for p in points}
    return {p.path: p.path.removeprefix(f"{root}.").removeprefix("encoder.") for p in points}


def _aliases(taps: list[Tap], units: list[Seen], root: str) -> dict[str, str]:
    """early: a quarter in, middle: behind the middle, by stages (of four stages: the first and the third)."""
    by_path = {tap.module: tap.name for tap in taps}
    names = [by_path[u.path] for u in units if u.path in by_path] or [tap.name for tap in taps]
    return {"early": names[(len(names) - 1) // 4], "middle": names[len(names) // 2], "late": taps[-1].name}
