"""Weights from files as they lie about: which of the state dicts in a checkpoint is the model, under which prefix, and what is left out.

The rule where several fit: averaged weights (EMA, teacher) before others, as timm's and DINO's own evaluation have it; a query, online or
base encoder before its momentum copy, as MoCo's and BYOL's have it. What was taken is noted, and `?key=` takes another.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from visus.errors import DataError, SpecError
from visus.models.hub import first_line
from visus.models.unpickled import content, no_weights
from visus.progress import caution, note

WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "state_dict",
    "model_state_dict",
    "model",
    "teacher",
    "student",
    "ema",
    "module",
    "net",
    "backbone",
)
PREFIXES = ("module.", "_orig_mod.", "model.", "state_dict.", "backbone.", "encoder.", "net.")
# What wrappers of training put into names, anywhere in them: torch.compile, FSDP, activation checkpoints, DeepSpeed and Fabric.
INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.")
AVERAGED = re.compile(r"(^|[._])(ema|teacher|avg|averaged?|swa)\d*([._]|$)")
# Averages that are kept in a way that cannot be read by name: as a list, or under names without their dots.
SHADOW = re.compile(r"(^|[._])(shadow\w*|ema\w*|\w+_ema|swa_\w+|averaged_\w+)([._]|$)", re.I)
# DINOv2's blocks in chunks for FSDP: the second number counts through all of them.
CHUNK = re.compile(r"(^|\.)blocks\.\d+\.(?=\d+\.)")
COPIES = re.compile(
    r"(^|[._])(encoder_k|key_encoder|momentum\w*|target\w*|student|m_encoder|encoder_m|current_model_state)([._]|$)"
)
# Parts of a checkpoint that hold tensors and are no model.
STATES = re.compile(
    r"optim|sched|scaler|loss|rng|random|queue|criterion|metric|callback|loops|args|config|hyper|history", re.I
)
# Names that networks of images give to what their features pass through: such a tensor is never left out without a word.
TRUNK = re.compile(
    r"^(patch_embed\w*|stem\w*|blocks\w*|layers?\d*|stages?\w*|features|conv\d*|conv_stem|conv_head|bn\d*|norm\d*|norm_pre|pre_norm|fc_norm|"
    r"pre_logits|ln_pre|ln_post|ln_\w+|attn_pool|pos_embed\w*|cls_token|class_token|reg_token\w*|register_tokens|dist_token|rope\w*|rel_pos_bias|"
    r"downsample\w*|transition\d*|denseblock\d*|trunk|visual|local_\w+)$"
)
HARMLESS = re.compile(
    r"(num_batches_tracked|position_ids|relative_position_index|attn_mask|total_ops|total_params|relative_coords_table)$"
)
EXAMPLES = 3
FEW = 0.1


@dataclass(frozen=True)
class Contents:
    """states: the state dicts in a file, tensors by name, by where they stand in it ('' at the top). rest: what else stands at the top."""

    file: Path
    states: Mapping[str, Mapping[str, torch.Tensor]]
    rest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """tensors: under the model's own names. place: where they stood. outside: names of the other tensors."""

    tensors: dict[str, torch.Tensor]
    place: str
    outside: tuple[str, ...]


def read(file: Path) -> dict[str, torch.Tensor]:
    """Tensors by name from a .safetensors file or a torch file (weights_only: code in it is refused, never run).

    Raises DataError: unreadable, damaged, holding code, or holding no tensors.
    """
    tensors = opened(file).states
    return dict(_first(tensors))


def opened(file: Path) -> Contents:
    """Every state dict in a file; errors as `read` has them. An index of shards is read with all of them."""
    if file.name.endswith(".index.json"):
        return Contents(file, {"": _shards(file)})
    if file.suffix == ".safetensors":
        return Contents(file, {"": _safe(file)})
    found = content(file)
    if isinstance(found, list | tuple):  # (state_dict, epoch), as some scripts write
        found = {str(i): part for i, part in enumerate(found)}
    states = dict(_states(found, ""))
    if not states:
        raise no_weights(file)
    rest = {k: v for k, v in found.items() if isinstance(k, str) and not isinstance(v, torch.Tensor)}
    return Contents(
        file, states, {k: v for k, v in rest.items() if not any(p == k or p.startswith(f"{k}.") for p in states)}
    )


def _safe(file: Path) -> dict[str, torch.Tensor]:
    try:
        tensors = dict(load_file(file))
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{file} cannot be read as a checkpoint: {first_line(error)}") from error
    if not tensors:
        raise DataError(f"{file} holds no tensors by name; save a model's state_dict")
    return tensors


def shard_names(index: Path) -> list[str]:
    """Names of the files of weights that an index of shards lists. Raises DataError for one that cannot be read."""
    try:
        return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{index} cannot be read: {first_line(error)}; save the model again") from error


def _shards(index: Path) -> dict[str, torch.Tensor]:
    names = shard_names(index)
    missing = [n for n in names if not (index.parent / n).is_file()]
    if missing:
        raise DataError(f"{index} names {missing[0]}, which is not beside it; put all {len(names)} files there")
    return {k: v for n in names for k, v in read(index.parent / n).items()}


def _states(found: Any, place: str, depth: int = 6) -> Iterable[tuple[str, dict[str, torch.Tensor]]]:
    """(place, tensors by name) of every mapping that holds tensors under names, the outermost first."""
    if not isinstance(found, Mapping):
        return
    tensors = {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if tensors:
        yield place, tensors
    if depth:
        for key, value in found.items():
            if isinstance(key, str) and not STATES.search(key):
                yield from _states(value, f"{place}.{key}" if place else key, depth - 1)


def _first(states: Mapping[str, Mapping[str, torch.Tensor]]) -> Mapping[str, torch.Tensor]:
    """The state dict that a reader without a model takes: by WRAPPERS, else the largest."""

    def order(place: str) -> tuple[int, int]:
        last = place.rpartition(".")[2]
        return (WRAPPERS.index(last) if last in WRAPPERS else len(WRAPPERS), -len(states[place]))

    return states[min(states, key=order)]


def choose(contents: Contents, names: Iterable[str], *, key: str | None = None, what: str) -> Chosen:
    """The tensors of a model that has tensors of these names, wherever in the file and under whatever prefix they stand.

    key: where to look, as a user writes it. what: 'FILE into MODEL', for messages. Raises SpecError for a key that is not there, DataError
    where nothing fits or where several fit and no rule says which.
    """
    wanted = set(names)
    counts: Counter[tuple[str, str]] = Counter()
    cleaned = {place: _cleaned(tensors, wanted) for place, tensors in contents.states.items()}
    for place, tensors in cleaned.items():
        for name in tensors:
            for prefix in _prefixes(name, wanted):
                counts[place, prefix] += 1
    if not counts:
        examples = ", ".join(list(next(iter(cleaned.values())))[:EXAMPLES])
        raise DataError(
            f"cannot load {what}: none of its tensors is of this architecture ({examples}, ...); check the architecture"
        )
    most = max(counts.values())
    fitting = sorted(
        (k for k, n in counts.items() if n >= 0.9 * most), key=lambda k: (_rank(_place(*k)), -counts[k], _place(*k))
    )
    if key is not None:
        asked = [k for k in counts if key.strip(".") in _called(*k)]
        if not asked:
            known = ", ".join(repr(_place(*k)) for k in fitting if _place(*k)) or "nothing but the tensors themselves"
            raise SpecError(f"{contents.file} holds no {key!r} for this architecture; ?key= may be: {known}")
        fitting = sorted(asked, key=lambda k: (-counts[k], _place(*k)))[:1]
    place, prefix = fitting[0]
    others = [k for k in fitting[1:] if not _equal(cleaned, fitting[0], k)]
    if others and _rank(_place(*others[0])) == _rank(_place(place, prefix)):
        if most < FEW * len(
            wanted
        ):  # parts of a network under other names (a Sequential of a backbone's children), no models
            examples = ", ".join(list(cleaned[place])[:EXAMPLES])
            raise DataError(
                f"cannot load {what}: its tensors have other names than this architecture's ({examples}, ...); check the architecture, or rename them"
            )
        several = ", ".join(repr(_place(*k) or "(top)") for k in [fitting[0], *others])
        raise DataError(f"{contents.file} holds several models that fit: {several}; say which with ?key=")
    if others:
        note(
            f"{contents.file.name} holds {', '.join(_place(*k) or 'the top' for k in [fitting[0], *others])}: {_place(place, prefix)} was "
            "taken (averaged weights before others, a query or online encoder before its momentum copy); ?key= takes another"
        )
    tensors = cleaned[place]
    found = {name[len(prefix) :]: v for name, v in tensors.items() if name.startswith(prefix)}
    outside = tuple(name for name in tensors if not name.startswith(prefix))
    if (
        key is None
        and _rank(_place(place, prefix))
        and (unread := [*_shadows(contents.rest), *filter(SHADOW.search, outside)])
    ):
        caution(
            f"{contents.file.name} holds averaged weights that cannot be read by name ({unread[0]}): the others ({_place(place, prefix) or 'top'}) "
            "were taken. Save the averaged model's own state_dict to measure it."
        )
    return Chosen(found, _place(place, prefix), outside)


def _cleaned(tensors: Mapping[str, torch.Tensor], wanted: set[str]) -> dict[str, torch.Tensor]:
    """Names without what compiling and wrapping put into them, and without chunks of blocks where the model has none."""
    found = {}
    for name, tensor in tensors.items():
        for infix in INFIXES:
            name = name.replace(infix, "")
        found[name] = tensor
    if not any(CHUNK.search(name) for name in wanted):
        plain = {CHUNK.sub(r"\1blocks.", name): tensor for name, tensor in found.items()}
        found = plain if len(plain) == len(found) else found
    return found


def _shadows(rest: Any, place: str = "", depth: int = 4) -> list[str]:
    """Places beside the models at which something called an average holds tensors."""
    if not isinstance(rest, Mapping) or not depth:
        return []
    found = []
    for key, value in rest.items():
        here = f"{place}.{key}" if place else str(key)
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        if SHADOW.search(here) and any(isinstance(v, torch.Tensor) and v.ndim for v in inside):
            found.append(here)
        elif not re.search("optim", here, re.I):
            found += _shadows(value, here, depth - 1)
    return found


def _prefixes(name: str, wanted: set[str]) -> Iterable[str]:
    at = 0
    while True:
        if name[at:] in wanted:
            yield name[:at]
        at = name.find(".", at) + 1
        if not at:
            return


def _place(place: str, prefix: str) -> str:
    return ".".join(part for part in (place, prefix.strip(".")) if part)


def _called(place: str, prefix: str) -> set[str]:
    bare = prefix.strip(".")
    return {
        _place(place, prefix),
        place,
        bare,
        bare.removeprefix("module."),
        bare.rpartition(".")[2],
        place.rpartition(".")[2],
    } - {""}


def _rank(place: str) -> int:
    return 2 if COPIES.search(place) else 0 if AVERAGED.search(place) else 1


def _equal(cleaned: Mapping[str, Mapping[str, torch.Tensor]], a: tuple[str, str], b: tuple[str, str]) -> bool:
    """Whether two candidates hold the same tensors, so that it does not matter which is taken."""
    x, y = ({n[len(p) :]: v for n, v in cleaned[place].items() if n.startswith(p)} for place, p in (a, b))
    common = x.keys() & y.keys()
    return len(common) >= 0.9 * max(len(x), len(y)) and all(
        x[n].shape == y[n].shape and torch.equal(x[n], y[n]) for n in common
    )


def matched(tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under the model's names: as they are, or without a wrapper's prefix ('module.', 'model.'), whichever fits best."""
    best = dict(tensors)
    current = best
    for _ in range(3):
        if sum(k in wanted for k in best) == len(wanted):
            return best
        current = {_stripped(k): v for k, v in current.items()}
        if sum(k in wanted for k in current) > sum(k in wanted for k in best):
            best = current
    return best


def _stripped(name: str) -> str:
    return next((name[len(p) :] for p in PREFIXES if name.startswith(p)), name)


def take_in(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Load the tensors into the model, every one of its own; raises DataError with the counts and the first names that do not fit.

    what: 'FILE into MODEL', for the message.
    """
    _load(model, matched(tensors, model.state_dict()), what=what, also=())


def take_chosen(
    model: torch.nn.Module, chosen: Chosen, contents: Contents, *, what: str, aside: str | None = None
) -> None:
    """Load what was chosen, every tensor of the model's own; what a checkpoint holds beside it (heads, decoders, other models) is noted.

    aside: path of a classifier that is not the file's: what stands under that name is left out. Raises DataError with the counts and the
    first names that do not fit: tensors that are missing or of another shape, and ones that the features of such a network pass
    through and that this one lacks.
    """
    wanted = model.state_dict()
    parts = {name.partition(".")[0] for name in wanted if "." in name}
    beside: list[str] = []
    strange: list[str] = []
    for name in chosen.tensors:
        head = name.partition(".")[0]
        if name not in wanted and not HARMLESS.search(name):
            left_out = aside is not None and name.startswith(f"{aside}.")
            (strange if not left_out and (head in parts or TRUNK.match(head)) else beside).append(name)
    missing = any(name not in chosen.tensors and not HARMLESS.search(name) for name in wanted)
    own = {k: v for k, v in chosen.tensors.items() if k in wanted}
    _load(model, own, what=what, also=[*strange, *beside] if missing else strange)
    left = [*beside, *chosen.outside]
    said = [f"{len(left)} tensors ({_examples(left)})"] if left else []
    said += [f"{_examples(sorted(contents.rest))}"] if contents.rest else []
    if said:
        where = f", {chosen.place}" if chosen.place else ""
        note(
            f"{contents.file.name}{where}: {len(wanted)} tensors taken; not of this model and left out: {' and '.join(said)}"
        )


def _load(model: torch.nn.Module, given: Mapping[str, torch.Tensor], *, what: str, also: Sequence[str]) -> None:
    wanted = model.state_dict()
    # Counters of batches that older files lack change nothing in eval mode, nor do tables that the sizes determine.
    missing = [k for k in wanted if k not in given and not HARMLESS.search(k)]
    extra = [*(k for k in given if k not in wanted), *also]
    shapes = [k for k, v in given.items() if k in wanted and v.shape != wanted[k].shape]
    if missing or extra or shapes:
        parts = [
            f"{len(names)} {word} ({_examples(names)})"
            for names, word in ((missing, "missing"), (extra, "unexpected"), (shapes, "of another shape"))
            if names
        ]
        raise DataError(f"cannot load {what}: of {len(wanted)} tensors {'; '.join(parts)}; check the architecture")
    # The tensors fit, so they are of the version that the model's modules are (MNASNet asks).
    for name, tensor in given.items():
        wanted[name] = tensor
    model.load_state_dict(wanted)


def _examples(names: Sequence[str]) -> str:
    return f"{', '.join(names[:EXAMPLES])}{', ...' if len(names) > EXAMPLES else ''}"
