"""`python -m tests.golden.record [RUN...]`: run the named runs (default all) and write their golden files."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def golden(run: str, folder: Path = HERE) -> dict[str, Any]:
    """The golden file of a run."""
    body: dict[str, Any] = json.loads((folder / f"{run}.json").read_text("utf-8"))
    return body


def made(run: str) -> dict[str, Any]:
    """Do a run, in a folder and with a cache of its own, and normalise what it saved."""
    from tests.golden.normalise import normalised  # after the environment is set, as it brings numpy
    from tests.golden.runs import RUNS

    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUS_HOME", str(Path(temporary) / "home"))
        # Another engine's numbers differ in the last digits, and not every machine has it.
        patch.setitem(sys.modules, "openvino", None)
        work = Path(temporary).resolve() / "run"
        work.mkdir()
        result = RUNS[run](work)
        result.save(work.parent / "saved")
        return normalised(work.parent / "saved", work.parent)


def main(runs: Sequence[str], folder: Path = HERE) -> None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    from tests.golden.runs import RUNS  # torch reads the number of threads when it is imported

    for run in runs or RUNS:
        text = json.dumps(made(run), indent=1, ensure_ascii=False)
        (folder / f"{run}.json").write_text(text + "\n", "utf-8")
        sys.stdout.write(f"{folder / run}.json\n")


if __name__ == "__main__":
    main(sys.argv[1:])
