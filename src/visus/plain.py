"""Text for a terminal of any encoding: signs that it lacks are spelled in ASCII. Stands alone at the root."""

from __future__ import annotations

import codecs

HANDLER = "visus-plain"
_SPELLED = {
    "•": "*", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "±": "+-", "·": ".", "°": " deg", "²": "2", "³": "3",
    "→": "->", "≤": "<=", "≥": ">=", "≈": "~", "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "λ": "lambda", "α": "alpha",
    "β": "beta", "μ": "mu", "µ": "u", "σ": "sigma", "Δ": "delta", "κ": "kappa", "Σ": "sum", "‖": "||", "\u00a0": " ",
    "\u202f": " ", "\u2009": " ",
}  # fmt: skip


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Signs of ours in ASCII; anything else (a file name in another script, undecodable bytes) as an escape that names it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_SPELLED.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lost), error.end


codecs.register_error(HANDLER, _plain)


def plain(text: str, encoding: str | None) -> str:
    """The text as a stream of that encoding can take it (None: UTF-8)."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, HANDLER).decode(encoding)
