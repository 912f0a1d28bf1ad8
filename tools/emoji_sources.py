"""Where the emoji set comes from: fetching the packages, matching drawings to emoji, drawing them."""

from __future__ import annotations

import io
import json
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from emoji_fxemoji import FXEMOJI_NAMES
from emoji_tables import ART_SETS, EMOJI_DATA, ArtSet

DRAWN, KEPT = 128, 64
BLANK_RANGE = 24


@dataclass(frozen=True)
class Emoji:
    """One emoji as emojibase-data describes it; order is Unicode's."""

    hexcode: str
    text: str
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    order: int


def fetch(work: Path) -> Path:
    """Install the pinned packages under `work` without running their scripts; returns the node_modules folder."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "package.json").write_text('{"private": true}\n')
    wanted = [f"{art.package}@{art.version}" for art in ART_SETS] + ["@".join(EMOJI_DATA)]
    quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(["npm", "install", "--ignore-scripts", "--save-exact", *quiet, *wanted], cwd=work, check=True)
    modules = work / "node_modules"
    for package, version in [(art.package, art.version) for art in ART_SETS] + [EMOJI_DATA]:
        found = json.loads((modules / package / "package.json").read_text())["version"]
        if found != version:
            raise SystemExit(f"{package} is {found}, but {version} is wanted; empty {work} and run again")
    return modules


def plain_hexcode(code: str) -> str:
    """A hexcode without variation selectors, upper case: the key under which the packages agree."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


def slug(text: str) -> str:
    """Iconify's way of writing a name: ASCII, lower case, hyphens."""
    text = text.lower().replace("’", "").replace("“", "").replace("”", "").replace("&", " and ")
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")


def read_emoji(modules: Path) -> list[Emoji]:
    """Every emoji but skin tones, hair pieces and lone letters, in Unicode's order."""
    data = modules / EMOJI_DATA[0]
    meta = json.loads((data / "meta" / "groups.json").read_text())
    groups, subgroups = meta["groups"], meta["subgroups"]
    rows = [row for row in json.loads((data / "en" / "data.json").read_text()) if "group" in row]
    emoji = [
        Emoji(
            hexcode=row["hexcode"],
            text=row["emoji"],
            name=row["label"],
            keywords=tuple(row.get("tags", ())),
            group=groups[str(row["group"])],
            subgroup=subgroups[str(row["subgroup"])],
            order=row["order"],
        )
        for row in rows
        if groups[str(row["group"])] != "component"
    ]
    return sorted(emoji, key=lambda e: e.order)


def read_names(modules: Path, emoji: list[Emoji]) -> list[dict[str, set[str]]]:
    """Tables from slug to hexcodes, most trusted first: CLDR, the sets' own code points, Unicode, shortcodes."""
    known = {plain_hexcode(e.hexcode): e.hexcode for e in emoji}
    cldr: dict[str, set[str]] = {}
    for e in emoji:
        cldr.setdefault(slug(e.name), set()).add(e.hexcode)
    tables = [cldr, {}, {}, {}]

    def add(table: dict[str, set[str]], name: str, code: str) -> None:
        if plain_hexcode(code) in known:
            table.setdefault(slug(name), set()).add(known[plain_hexcode(code)])

    for art in ART_SETS:
        chars = modules / art.package / "chars.json"
        if chars.exists():
            icons = json.loads((modules / art.package / "icons.json").read_text())
            for code, name in json.loads(chars.read_text()).items():
                add(tables[1], name, code)
                for alias, body in icons.get("aliases", {}).items():
                    if body["parent"] == name and len(body) == 1 and slug(alias) not in cldr:
                        add(tables[1], alias, code)
    data = modules / EMOJI_DATA[0]
    for code, name in json.loads((data / "meta" / "unicode-names.json").read_text()).items():
        add(tables[2], name, code)
    for source in ("cldr", "joypixels", "github", "iamcal", "emojibase"):
        for code, names in json.loads((data / "en" / "shortcodes" / f"{source}.json").read_text()).items():
            for name in [names] if isinstance(names, str) else names:
                add(tables[3], name, code)
    return tables


def match(art: ArtSet, modules: Path, emoji: list[Emoji], tables: list[dict[str, set[str]]]) -> dict[str, str]:
    """For each hexcode the icon of `art` that draws it: by code point where the set gives them, then by name.

    A name that stands for two emoji, and an icon already taken by its code point, decide nothing.
    """
    known = {plain_hexcode(e.hexcode): e.hexcode for e in emoji}
    icons = json.loads((modules / art.package / "icons.json").read_text())
    names = [*icons["icons"], *icons.get("aliases", {})]
    found: dict[str, str] = {}
    chars = modules / art.package / "chars.json"
    if chars.exists():
        for code, name in sorted(json.loads(chars.read_text()).items()):
            if plain_hexcode(code) in known:
                found.setdefault(known[plain_hexcode(code)], name)
    taken = set(found.values())
    if art.name == "fxemoji":
        by_hand = {name: known.get(code, "") for name, code in FXEMOJI_NAMES.items()}
        # Unicode's names before CLDR's: the set is older than CLDR's present ones.
        order = [tables[i] for i in (2, 0, 1, 3)]
        tables = [{key.replace("-", ""): codes for key, codes in table.items()} for table in order]
    else:
        by_hand = {}
    for name in sorted(by_hand):
        if name in names:
            taken.add(name)
            if by_hand[name]:
                found.setdefault(by_hand[name], name)
    for table in tables:
        for name in sorted(names):
            key = name.replace("-", "") if art.name == "fxemoji" else re.sub(r"^flag-for-(flag-)?", "flag-", name)
            codes = table.get(key, set())
            if name not in taken and len(codes) == 1:
                code = next(iter(codes))
                if code not in found:
                    found[code] = name
                    taken.add(name)
    return found


def _resolve(icons: dict[str, Any], name: str) -> tuple[str, float, float, float, float]:
    """An icon's body with its box (left, top, width, height), aliases followed and flips applied."""
    if name in icons["icons"]:
        icon = icons["icons"][name]
        size = [icon.get(key, icons.get(key, default)) for key, default in
                (("left", 0), ("top", 0), ("width", 16), ("height", 16))]  # fmt: skip
        return (icon["body"], *size)
    alias = icons["aliases"][name]
    body, left, top, width, height = _resolve(icons, alias["parent"])
    if alias.get("hFlip"):
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    if set(alias) - {"parent", "hFlip"}:
        raise SystemExit(f"the alias {name} has a transformation that is not known here: {alias}")
    return body, left, top, width, height


def draw(modules: Path, art: ArtSet, names: list[str]) -> Iterator[np.ndarray | None]:
    """The named icons as uint8 [64, 64, 3] on white, None for one that shows nothing. Not square: centred, whole."""
    import resvg_py
    from PIL import Image

    icons = json.loads((modules / art.package / "icons.json").read_text())
    for name in names:
        body, left, top, width, height = _resolve(icons, name)
        side = max(width, height)
        box = f"{left - (side - width) / 2} {top - (side - height) / 2} {side} {side}"
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box}" width="{DRAWN}" height="{DRAWN}">{body}</svg>'
        )
        png = resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True)
        with Image.open(io.BytesIO(bytes(png))) as image:
            pixels = np.asarray(image.convert("RGB").reduce(DRAWN // KEPT))
        yield None if int(pixels.max()) - int(pixels.min()) < BLANK_RANGE else pixels


def encode(pixels: np.ndarray) -> bytes:
    """Lossless WebP of uint8 [h, w, 3]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=100, method=4)
    return buffer.getvalue()
