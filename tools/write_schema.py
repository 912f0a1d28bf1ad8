"""The JSON schema of result.json, as docs/result.schema.json, for programs that read results without visus.

python tools/write_schema.py        (a test holds the file to what visus.result says)
"""

from __future__ import annotations

import json
from pathlib import Path

from visus.result import json_schema

FILE = Path(__file__).parent.parent / "docs" / "result.schema.json"


def main() -> None:
    FILE.write_text(json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
