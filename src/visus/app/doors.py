"""The doors: each public function runs a study and, when given a folder, writes its page there. The command line is made from them."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visus.studies.common.schema1 import Result

STUDIES: Mapping[str, str] = {
    "transfer": "visus.studies.transfer",
    "vit": "visus.studies.vit",
    "clip": "visus.studies.clip",
    "vae": "visus.studies.vae",
    "predict": "visus.studies.predict",
    "extract": "visus.studies.extract",
    "train": "visus.studies.train",
}


# What is read from disk: of each, an address or a stream is refused before anything waits for it.
READ = frozenset(
    ["model", "images", "image", "labels", "meanings", "synonyms", "prompts", "embeddings", "checkpoint", "features", "teacher", "vectors",
     "beside", "zero_shot"]
)  # fmt: skip
_THREADS = "        threads: cores to use; default as many as are free when it starts."


def _door(name: str) -> Callable[..., Result]:
    """Wrap the study `name`: the same signature, with `threads` and `out` added; versions, call, time and notes join the result."""
    study = getattr(import_module(STUDIES[name]), name)
    signature = inspect.signature(study)
    has_out = "out" in signature.parameters

    more = [_added("threads", "int | None"), *([] if has_out else [_added("out", "str | None")])]
    whole = signature.replace(parameters=[*signature.parameters.values(), *more])

    @functools.wraps(study)
    def call(*args: Any, **kwargs: Any) -> Result:
        from visus.app.progress import where_watched
        from visus.arguments import settle
        from visus.outputs import check_out
        from visus.progress import collecting
        from visus.report import write_report
        from visus.studies.common.provenance import complete
        from visus.threads import using

        arguments = settle(name, whole, args, kwargs, flags=True).arguments
        out, threads = arguments["out"], arguments["threads"]
        check_inputs(arguments)
        if out is not None:
            out = check_out(out, name, [value for key, value in arguments.items() if key not in ("out", "threads")])
            arguments["out"] = str(out)
        start = time.perf_counter()
        bound = signature.bind_partial()
        bound.arguments.update({key: arguments[key] for key in signature.parameters})
        with where_watched(name), using(threads) as chosen, collecting() as remarks, _exact(arguments):
            result: Result = study(*bound.args, **bound.kwargs)
        free = (
            " (those free at the start; --threads sets another number)"
            if threads is None and chosen.count < chosen.cores
            else ""
        )
        given = {**result.provenance, "threads": f"{chosen.count} of {chosen.cores} cores{free}"}
        told = {key: value for key, value in arguments.items() if key != "out" or has_out}
        provenance = complete(given, study=name, arguments=told, seconds=time.perf_counter() - start)
        warnings = tuple(dict.fromkeys([*result.warnings, *remarks.cautions]))
        result = replace(result, provenance=provenance, warnings=warnings, notes=(*result.notes, *remarks.notes))
        if out is not None:
            result = replace(result, page=str(write_report(result, out).resolve()))
        return result

    call.__signature__ = whole  # type: ignore[attr-defined]
    call.__doc__ = (study.__doc__ or "").replace("\n\n    Returns", f"\n{_THREADS}\n\n    Returns", 1)
    return call


def _exact(arguments: Mapping[str, Any]) -> AbstractContextManager[None]:
    """On a GPU whatever a study computes is fp32 and repeatable, whichever room computes it."""
    if arguments.get("device", "cpu") == "cpu":
        return nullcontext()
    import torch  # takes a second

    if not torch.cuda.is_available():
        return nullcontext()
    from visus.features.engines import exact_cuda

    return exact_cuda()


def _added(parameter: str, annotation: str) -> inspect.Parameter:
    return inspect.Parameter(parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def check_inputs(arguments: Mapping[str, Any]) -> None:
    """Raise SpecError for an argument of READ that names neither a file nor a folder nor a spec, but an address, a pipe, a device, or nothing."""
    from visus.errors import SpecError
    from visus.spec import check_address

    for name in READ & arguments.keys():
        given = arguments[name]
        for text in given if isinstance(given, list | tuple) else [given]:
            if text is None:
                continue
            if not str(text).strip():
                raise SpecError(f"--{name.replace('_', '-')} is empty; leave it out, or name what is to be read")
            check_address(str(text))


def __getattr__(name: str) -> Callable[..., Result]:
    if name not in STUDIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    door = _door(name)
    globals()[name] = door
    return door


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
