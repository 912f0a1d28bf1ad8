"""Makes .bench/thingsvision, an environment for thingsvision alone: `python benchmarks/peers/thingsvision_env.py`.

Its pins are old, so it must not share an environment with us. What was installed is written to benchmarks/peers/thingsvision.txt.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".bench" / "thingsvision"
LOCK = Path(__file__).with_name("thingsvision.txt")


def python() -> Path:
    """The environment's interpreter, made and filled when it is not there."""
    interpreter = HOME / "bin" / "python"
    if (HOME / "ready").exists():
        return interpreter
    venv.create(HOME, with_pip=True, clear=True)
    wanted = ["-r", str(LOCK)] if LOCK.exists() else ["thingsvision", "setuptools<81"]
    subprocess.run([interpreter, "-m", "pip", "install", "-q", *wanted], check=True, stdout=sys.stderr)
    subprocess.run([interpreter, "-c", "import thingsvision"], check=True, stdout=sys.stderr)
    if not LOCK.exists():
        frozen = subprocess.run(
            [interpreter, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
        ).stdout
        LOCK.write_text(frozen)
    (HOME / "ready").touch()
    return interpreter


if __name__ == "__main__":
    print(python())
