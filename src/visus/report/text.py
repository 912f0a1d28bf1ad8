"""Text that came from outside (class names, file names), made safe for the places where it is put."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

# What XML 1.0 forbids, and halves of surrogate pairs, which a file name with undecodable bytes may hold.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))}


def clean(text: object) -> str:
    """The text with what neither XML nor UTF-8 can hold (control characters, lone surrogates) replaced by U+FFFD."""
    return _FORBIDDEN.sub("\ufffd", str(text))


def line(text: object) -> str:
    """The text cleaned and on one line."""
    return " ".join(clean(text).split())


def shorten(text: object, limit: int) -> str:
    """One line of at most `limit` characters; a longer text loses its middle, since names differ at both ends."""
    whole = line(text)
    if len(whole) <= limit:
        return whole
    head = (limit - 1) * 2 // 3
    return whole[:head].rstrip() + "…" + whole[len(whole) - (limit - 1 - head) :].lstrip()


def script_json(value: Any) -> str:
    """JSON that is safe inside a <script> element: no <, >, & and no U+2028 or U+2029 as themselves.

    value: plain Python (dict, list, str, int, finite float, None), its texts already cleaned.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def file_names(names: Iterable[str], fallback: str) -> list[str]:
    """One safe file name (without ending) for each name, in order; no two are equal, on any file system.

    ASCII letters, digits, dot, dash and underscore stay; everything else becomes a dash. At most 80 characters.
    """
    taken: set[str] = set()
    chosen = []
    for name in names:
        plain = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode()
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:80].rstrip("-.") or fallback
        if base.split(".")[0].lower() in _RESERVED:
            base = f"{fallback}-{base}"
        unique, count = base, 1
        while unique.lower() in taken:
            count += 1
            unique = f"{base}-{count}"
        taken.add(unique.lower())
        chosen.append(unique)
    return chosen
