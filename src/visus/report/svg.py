"""matplotlib's SVG made fit to stand inside a page: no clashing ids, colours that follow the theme, the page's fonts."""

from __future__ import annotations

import re
from html import escape

from visus.report.palette import VARIABLES

_TAG = re.compile(r"<[^>]*>")
_REFERENCE = re.compile(r'(?:url\(#|href="#)([^)"]+)')
_FONT = re.compile(r"font-family: [^\"]*?(?=; text-anchor|\"|; (?:fill|opacity|font|stroke))")
_COLOUR = re.compile("|".join(map(re.escape, VARIABLES)))


def inline(svg: bytes, *, prefix: str, label: str) -> str:
    """An <svg> element for the page from a file that matplotlib wrote.

    prefix: what makes its ids unique on the page. label: what a screen reader says. Colours of the palette become CSS
    variables; fonts become the page's; metadata, the width and the style rules that would leak into the page go.
    """
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    # matplotlib escapes < and > in names, so what stands between them is markup.
    used = {name for tag in _TAG.findall(text) for name in _REFERENCE.findall(tag)}

    def rewrite(match: re.Match[str]) -> str:
        tag = match[0]
        if tag.startswith("<!--"):
            return ""
        tag = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", tag)
        tag = re.sub(r"url\(#", f"url(#{prefix}", tag)
        # Inside HTML the xlink prefix is bound to nothing; SVG 2 does without.
        tag = tag.replace(' xlink:href="#', f' href="#{prefix}').replace(' xlink:href="', ' href="')
        tag = _FONT.sub("font-family: inherit", tag)
        if not tag.startswith("<image"):
            tag = _COLOUR.sub(lambda m: f"var({VARIABLES[m[0]]})", tag)
        return re.sub(r"\s+", " ", tag) if tag.startswith("<path") else tag

    text = _TAG.sub(rewrite, text)
    box = re.search(r'viewBox="([^"]+)"', text)
    opening = f'<svg class="plot" viewBox="{box[1] if box else "0 0 100 100"}" role="img" aria-label="{escape(label)}">'
    return opening + text[text.index(">") + 1 :].strip()


def standalone(svg: bytes) -> bytes:
    """The same file for use on its own: its texts fall back to the reader's sans-serif where DejaVu Sans is missing."""
    text = svg.decode("utf-8")
    return _FONT.sub("font-family: 'DejaVu Sans', system-ui, sans-serif", text).encode("utf-8")
