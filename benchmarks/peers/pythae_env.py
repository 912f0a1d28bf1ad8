"""Puts pythae into .bench/pythae, beside our own packages, whose torch it then shares: `python benchmarks/peers/pythae_env.py`.

Everything else that pythae needs (pydantic, scipy, imageio, ...) comes with us, so it is installed without its dependencies, as pinned
in benchmarks/peers/pythae.txt.
"""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
from contextlib import redirect_stderr
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".bench" / "pythae"
LOCK = Path(__file__).with_name("pythae.txt")


def importable() -> str:
    """Make `import pythae` work, installing it when it is not there; gives its name and version. Our own packages come first."""
    if not (HOME / "ready").exists():
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade", "--target", str(HOME)]
        subprocess.run([*install, "-r", str(LOCK)], check=True, stdout=sys.stderr)
        (HOME / "ready").touch()
    sys.path.append(str(HOME))
    # Its loggers write to the stderr that they find when they are imported: one that nobody reads.
    with redirect_stderr(io.StringIO()):
        importlib.import_module("pythae.trainers")
    return f"pythae=={version('pythae')}"


if __name__ == "__main__":
    print(importable())
