"""Somebody else's module: imported, made, given its weights, and called so that what goes wrong inside it is told by file and line."""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visus.errors import DataError, SpecError, VisusError
from visus.models.checkpoint import read, take_in
from visus.models.hub import first_line
from visus.paths import expanded
from visus.spec import Spec

LIBRARIES = ("site-packages", "dist-packages")


@contextmanager
def theirs(doing: str, kind: type[VisusError] = DataError, hint: str = "") -> Iterator[None]:
    """Run somebody's code: whatever it raises becomes one line with the file and the line of their code where it arose."""
    try:
        yield
    except VisusError:
        raise
    except Exception as error:  # code that we do not know raises what it likes; none of it is swallowed
        where = place(error)
        raise kind(
            f"{doing}: {type(error).__name__}: {first_line(error)}{f' ({where})' if where else ''}{f'; {hint}' if hint else ''}"
        ) from error


def place(error: BaseException) -> str:
    """'their.py, line 12': the innermost line outside this package and outside installed libraries; '' where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno}"
    package, base = str(Path(__file__).parents[1]), (sys.base_prefix, *LIBRARIES)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        name = frame.filename
        if not name.startswith((package, "<")) and not any(part in name for part in base):
            return f"{Path(name).name}, line {frame.lineno}"
    return ""


def made(spec: Spec, arguments: Mapping[str, Any], weights: str | None, *, seed: int) -> nn.Module:
    """The class MODULE:CLASS, imported as Python would from the working folder, made with the arguments, with its weights, in eval mode.

    weights: a file (safetensors, or a state_dict read without executing it), None or 'none'. Of half precision becomes single. CLASS may
    also be a function that returns a module, or a module that is there. Raises SpecError, DataError.
    """
    name, _, kind = spec.name.rpartition(":")
    if not name:
        raise SpecError(f"{spec.text!r} names no class; write python:MODULE:CLASS?weights=FILE")
    found = _imported(spec, name, kind)
    hint = "give its arguments as ?NAME=VALUE&NAME=VALUE"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(found, nn.Module):
            module: Any = copy.deepcopy(found)
        else:
            with theirs(f"{spec.text!r}: the class cannot be made", SpecError, hint):
                module = found(**arguments)
    if not isinstance(module, nn.Module) or not all(callable(getattr(module, m, None)) for m in ("encode", "decode")):
        raise SpecError(f"{spec.text!r} is no torch module with the methods encode and decode; add them to the class")
    for method, given in (("encode", "the images"), ("decode", "z")):
        _takes_one(spec, getattr(module, method), method, given)
    if weights and weights != "none":
        file = expanded(weights)
        if not file.is_file():
            raise DataError(f"there is no file {file}; give the module's weights as ?weights=FILE")
        take_in(module, read(file), what=f"{file} into {spec.name}")
    if any(t.dtype in (torch.float16, torch.bfloat16) for t in (*module.parameters(), *module.buffers())):
        module = module.float()
    found_module: nn.Module = module.eval().requires_grad_(requires_grad=False)
    return found_module


def _imported(spec: Spec, name: str, kind: str) -> Any:
    if name.endswith(".py"):  # a file's name, where only the module of that name can be meant
        name = name.removesuffix(".py").removeprefix("./").replace("/", ".")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        with theirs(f"{spec.text!r}", SpecError, "start visus in the module's folder, or install it"):
            module = importlib.import_module(name)
    finally:
        if added:
            sys.path.remove(here)
    lies, wanted = getattr(module, "__file__", None), Path(here, *name.split(".")).with_suffix(".py")
    if wanted.is_file() and (not lies or Path(lies).resolve() != wanted.resolve()):
        raise SpecError(
            f"{spec.text!r}: Python knows another module {name} ({lies or 'built in'}); rename {wanted.name}"
        )
    if not hasattr(module, kind):
        known = [k for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, nn.Module)]
        own = [k for k in known if getattr(module, k).__module__ == module.__name__]
        raise SpecError(f"{spec.text!r}: {name} has no {kind}" + (f"; it has {', '.join(own[:6])}" if own else ""))
    return getattr(module, kind)


def _takes_one(spec: Spec, method: Callable[..., Any], name: str, given: str) -> None:
    """Raise SpecError for a method that needs more than one argument: a conditional VAE's."""
    needed = required(method)
    if needed is not None and len(needed) > 1:
        raise SpecError(
            f"{spec.text!r}: {name}({', '.join(needed)}) needs more than {given}: a conditional VAE is not measured; give one that needs "
            f"{given} alone, or give the others a default"
        )


def required(method: Callable[..., Any]) -> list[str] | None:
    """Names of the positional arguments without a default; None where Python cannot tell."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in positional]
    return needed + [p.name for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY]


def dtype_of(module: nn.Module) -> torch.dtype:
    """The type that its weights compute in."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


@contextmanager
def sampling(module: nn.Module) -> Iterator[None]:
    """The module's own flag as in training, its parts' as in use: what samples only `if self.training` does, dropout layers do not."""
    module.training = True
    try:
        yield
    finally:
        module.training = False
