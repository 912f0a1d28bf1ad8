"""The doors: each public function runs a study and, when given a folder, writes its page there. The command line is made from them."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from visus.result import Result

STUDIES: Mapping[str, str] = {
    "transfer": "visus.studies.transfer",
    "vit": "visus.studies.vit",
    "clip": "visus.studies.clip",
    "vae": "visus.studies.vae",
    "predict": "visus.studies.predict",
    "extract": "visus.studies.extract",
    "train": "visus.studies.train",
}


def _door(name: str) -> Callable[..., Result]:
    """Wrap the study `name`: the same signature, with `out` added; the result gains versions, the call, the wall time, and what was noted."""
    study = getattr(import_module(STUDIES[name]), name)
    signature = inspect.signature(study)
    has_out = "out" in signature.parameters

    @functools.wraps(study)
    def call(*args: Any, out: str | Path | None = None, **kwargs: Any) -> Result:
        from visus.paths import check_writable
        from visus.progress import collecting
        from visus.report import write_report
        from visus.studies.provenance import complete

        if out is not None:
            check_writable(out)
        start = time.perf_counter()
        bound = signature.bind(*args, **(dict(kwargs, out=out) if has_out else kwargs))
        bound.apply_defaults()
        with collecting() as remarks:
            result: Result = study(*bound.args, **bound.kwargs)
        provenance = complete(
            result.provenance, study=name, arguments=bound.arguments, seconds=time.perf_counter() - start
        )
        warnings = tuple(dict.fromkeys([*result.warnings, *remarks.cautions]))
        result = replace(result, provenance=provenance, warnings=warnings, notes=(*result.notes, *remarks.notes))
        if out is not None:
            write_report(result, out)
        return result

    if not has_out:
        extra = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="str | None")
        call.__signature__ = signature.replace(parameters=[*signature.parameters.values(), extra])  # type: ignore[attr-defined]
    return call


def __getattr__(name: str) -> Callable[..., Result]:
    if name not in STUDIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    door = _door(name)
    globals()[name] = door
    return door


if TYPE_CHECKING:
    from visus.studies.clip import clip as clip
    from visus.studies.extract import extract as extract
    from visus.studies.predict import predict as predict
    from visus.studies.train import train as train
    from visus.studies.transfer import transfer as transfer
    from visus.studies.vae import vae as vae
    from visus.studies.vit import vit as vit
