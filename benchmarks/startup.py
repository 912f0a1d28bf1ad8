"""How long `import visus` and `visus --help` take, beside a bare interpreter and `import timm`: whole processes, alternated."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from _common import alternate, fair_environment, record

RUNS = 9


def main() -> None:
    fair_environment()
    visus = str(Path(sys.executable).with_name("visus"))

    def process(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    work = {
        "python -c pass": lambda: process(sys.executable, "-c", "pass"),
        "import visus": lambda: process(sys.executable, "-c", "import visus"),
        "visus --help": lambda: process(visus, "--help"),
        "import timm": lambda: process(sys.executable, "-c", "import timm"),
    }
    for function in work.values():
        function()
    seconds = alternate(RUNS, **work)
    peer = statistics.median(seconds["import timm"])
    rows = []
    for name, times in seconds.items():
        median = statistics.median(times)
        rows.append({"process": name, "median s": median, "max s": max(times), "import timm / it": peer / median})
    record(
        "Start-up",
        rows,
        ["Whole processes, interpreter start included; targets: import visus 0.3 s, visus --help 0.5 s."],
    )


if __name__ == "__main__":
    main()
