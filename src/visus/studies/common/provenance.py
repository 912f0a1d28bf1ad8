"""Provenance: what one needs to know to make a number again."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from visus.version import __version__

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "open_clip_torch",
    "openvino",
    "numpy",
    "scikit-learn",
    "openTSNE",
    "umap-learn",
)


def complete(given: Mapping[str, Any], *, study: str, arguments: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Add to a study's own provenance the command that repeats it, the versions, the machine, the time and the wall time (s)."""
    return {
        "command": command_line(study, arguments),
        **given,
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "wall_seconds": round(seconds, 1),
    }


def versions() -> dict[str, str]:
    """Version of the lab and of each library that numbers depend on, where installed."""
    found = {"visus": __version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def command_line(study: str, arguments: Mapping[str, Any]) -> str:
    """The shell command of this call: every argument that is set, lists repeated, booleans as flags."""
    words = ["visus", study]
    for name, value in arguments.items():
        if value is None or name == "out":
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else "--no-" + name.replace("_", "-"))
        elif isinstance(value, list | tuple):
            if study == "predict" and name == "images":
                words += [str(v) for v in value]
            else:
                words += [word for v in value for word in (flag, str(v))]
        else:
            words += [flag, str(value)]
    return shlex.join(words)
