"""One run of a study: its arguments checked, its progress shown, its result completed and written."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from visus.app.progress import where_watched
from visus.arguments import settle
from visus.errors import SpecError
from visus.outputs import check_out
from visus.progress import collecting
from visus.result import Result
from visus.spec import check_address
from visus.studies.common.provenance import complete
from visus.threads import Threads, using

# What is read from disk: of each, an address or a stream is refused before anything waits for it.
READ = frozenset(
    ["model", "images", "image", "labels", "meanings", "synonyms", "prompts", "embeddings", "checkpoint", "features", "teacher", "vectors",
     "beside", "zero_shot"]
)  # fmt: skip


def run_study(
    name: str, study: Callable[..., Any], signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Result:
    """Run `study` with the arguments of its public function, whose signature has `threads` and `out` beside the study's own.

    Versions, call, time, warnings and notes join the result; with `out` its report is written there. Raises what the study raises,
    and StoreError or SpecError for arguments that cannot be used, before any work.
    """
    arguments = settle(name, signature, args, kwargs, flags=True).arguments
    own = inspect.signature(study)
    out, threads = arguments["out"], arguments["threads"]
    check_inputs(arguments)
    if out is not None:
        out = check_out(out, name, [value for key, value in arguments.items() if key not in ("out", "threads")])
        arguments["out"] = str(out)
    start = time.perf_counter()
    bound = own.bind_partial()
    bound.arguments.update({key: arguments[key] for key in own.parameters})
    with where_watched(name), using(threads) as chosen, collecting() as remarks, exact(arguments.get("device", "cpu")):
        result: Result = study(*bound.args, **bound.kwargs)
    given = {**result.provenance, "threads": _threads_text(chosen, asked=threads is not None)}
    told = {key: value for key, value in arguments.items() if key != "out" or "out" in own.parameters}
    result = replace(
        result,
        provenance=complete(given, study=name, arguments=told, seconds=time.perf_counter() - start),
        warnings=tuple(dict.fromkeys([*result.warnings, *remarks.cautions])),
        notes=(*result.notes, *remarks.notes),
    )
    if out is not None:
        from visus.report import (
            write_report,  # matplotlib takes half a second, which a call without a page does without
        )

        result = replace(result, page=str(write_report(result, out).resolve()))
    return result


def exact(device: str) -> AbstractContextManager[None]:
    """On a GPU whatever a study computes is fp32 and repeatable, whichever room computes it."""
    if device == "cpu":
        return nullcontext()
    import torch  # takes a second, which a run on the CPU may not need

    if not torch.cuda.is_available():
        return nullcontext()
    from visus.features.engines import exact_cuda  # torch stands in its head

    return exact_cuda()


def check_inputs(arguments: Mapping[str, Any]) -> None:
    """Raise SpecError for an argument of READ that names neither a file nor a folder nor a spec, but an address, a pipe, a device, or nothing."""
    for name in READ & arguments.keys():
        given = arguments[name]
        for text in given if isinstance(given, list | tuple) else [given]:
            if text is None:
                continue
            if not str(text).strip():
                raise SpecError(f"--{name.replace('_', '-')} is empty; leave it out, or name what is to be read")
            check_address(str(text))


def _threads_text(chosen: Threads, *, asked: bool) -> str:
    free = (
        " (those free at the start; --threads sets another number)" if not asked and chosen.count < chosen.cores else ""
    )
    return f"{chosen.count} of {chosen.cores} cores{free}"
