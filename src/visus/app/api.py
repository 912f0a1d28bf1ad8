"""The public functions: each runs a study and, when given a folder, writes its page there. The command line is made from them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visus.result import Result

# One study a line: its name, here and on the command line, and its folder. (The TYPE_CHECKING block below is for editors alone.)
STUDIES: Mapping[str, str] = {
    "transfer": "visus.studies.transfer",
    "vit": "visus.studies.vit",
    "clip": "visus.studies.clip",
    "vae": "visus.studies.vae",
    "predict": "visus.studies.predict",
    "extract": "visus.studies.extract",
    "train": "visus.studies.train",
}
_THREADS = "        threads: cores to use; default as many as are free when it starts."


def door(name: str) -> Callable[..., Result]:
    """The study `name` as a public function: the same signature, with `threads` and `out` added."""
    study = getattr(import_module(STUDIES[name]), name)
    signature = inspect.signature(study)
    more = [_added("threads", "int | None")]
    if "out" not in signature.parameters:
        more.append(_added("out", "str | None"))
    whole = signature.replace(parameters=[*signature.parameters.values(), *more])

    @functools.wraps(study)
    def call(*args: Any, **kwargs: Any) -> Result:
        from visus.app.run import run_study  # the lazy seam: help needs nothing of what a run does

        return run_study(name, study, whole, args, kwargs)

    call.__signature__ = whole  # type: ignore[attr-defined]
    call.__doc__ = (study.__doc__ or "").replace("\n\n    Returns", f"\n{_THREADS}\n\n    Returns", 1)
    return call


def _added(parameter: str, annotation: str) -> inspect.Parameter:
    return inspect.Parameter(parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def __getattr__(name: str) -> Callable[..., Result]:
    if name not in STUDIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = door(name)
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted({*globals(), *STUDIES})


if TYPE_CHECKING:
    from visus.studies.clip import clip as clip
    from visus.studies.extract import extract as extract
    from visus.studies.predict import predict as predict
    from visus.studies.train import train as train
    from visus.studies.transfer import transfer as transfer
    from visus.studies.vae import vae as vae
    from visus.studies.vit import vit as vit
