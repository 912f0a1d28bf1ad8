"""Named icons that `make models` trains on beside the emoji of the split by concept: build/icons with a metadata.csv.

python tools/build_icons.py build/icons        (needs resvg-py and Node's npm; the packages take 80 MB)

No icon may show an emoji that the split holds out. An icon is left out when its name says (singular or plural, apart or in one word)
the name, a shortcode or an own keyword of a held-out emoji, or a word that of all emoji only held-out ones bear in their names.
Nothing of the icons ships.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from emoji_sources import draw
from emoji_tables import EMOJI_DATA, ArtSet
from PIL import Image

from visus.images import load_images
from visus.training.captions import keywords
from visus.training.parts import parts_of

SPLIT = "visus:emoji?split=concept&task=all"
# Set, version, author, licence, and what of it: a pattern that names match (the style that is filled or coloured, where there are some).
SETS = (
    ("game-icons", "1.2.4", "GameIcons (Lorc, Delapouite and others)", "CC-BY-3.0", ""),
    ("mdi", "1.2.3", "Pictogrammers", "Apache-2.0", "^(?!.*-outline)"),
    ("icon-park", "1.2.4", "ByteDance", "Apache-2.0", ""),
    ("mingcute", "1.2.8", "MingCute Design", "Apache-2.0", "-fill$"),
    ("fa6-solid", "1.2.4", "Dave Gandy", "CC-BY-4.0", ""),
    ("ph", "1.2.2", "Phosphor Icons", "MIT", "-duotone$"),
    ("healthicons", "1.2.13", "Resolve to Save Lives", "MIT", "^(?!.*(24px|outline|negative))"),
    ("maki", "1.2.5", "Mapbox", "CC0-1.0", ""),
    ("flat-color-icons", "1.2.3", "Icons8", "MIT", ""),
    ("fluent-color", "1.2.21", "Microsoft", "MIT", "-(24|28|32|48)$"),
    ("meteocons", "1.2.4", "Bas Milius", "MIT", "-fill$"),
    ("streamline-emojis", "1.2.4", "Streamline", "CC-BY-4.0", ""),
    ("streamline-color", "1.2.2", "Streamline", "CC-BY-4.0", "^(?!.*-flat$)"),
    ("streamline-plump-color", "1.2.2", "Streamline", "CC-BY-4.0", "^(?!.*-flat$)"),
    ("streamline-ultimate-color", "1.2.2", "Streamline", "CC-BY-4.0", ""),
    ("streamline-kameleon-color", "1.2.2", "Streamline", "CC-BY-4.0", "^(?!.*-duo$)"),
    ("streamline-stickies-color", "1.2.2", "Streamline", "CC-BY-4.0", "^(?!.*-duo$)"),
    ("streamline-cyber-color", "1.2.2", "Streamline", "CC-BY-4.0", ""),
)
# What a name may end in that says how and not what.
ENDS = frozenset({
    "outline", "fill", "filled", "duotone", "duo", "flat", "alt", "bold", "broken", "linear", "line", "thin", "light", "solid", "variant",
    "one", "two", "three", "four", "five", "six",
})  # fmt: skip
MUTE = frozenset({"of", "with", "and", "the", "in", "on", "a", "an", "to", "for", "at", "by", "from", "or"})
NO_PICTURE = re.compile(r"brand|logo|letter|numeric|^alpha\b")
SOURCES = ("cldr", "joypixels", "github", "iamcal", "emojibase", "emojibase-legacy")
INSIDE = 4  # letters: words as long as that are looked for inside other words too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    if (out / "metadata.csv").is_file():
        return
    modules = fetch(out.parent / "icon-packages")
    held = held_out(modules)
    rows: list[tuple[str, str]] = []
    for name, version, author, licence, pattern in SETS:
        art = ArtSet(name, version, author, licence, "train")
        icons = json.loads((modules / art.package / "icons.json").read_text())["icons"]
        called = {i: spoken(i) for i, body in icons.items() if re.search(pattern, i) and not body.get("hidden")}
        named = {said: i for i, said in called.items() if any(map(str.isalpha, said)) and not NO_PICTURE.search(said)}
        kept = {said: i for said, i in named.items() if not held.says(said)}
        (out / name).mkdir(parents=True, exist_ok=True)
        drawn = 0
        for (said, icon), pixels in zip(kept.items(), draw(modules, art, list(kept.values())), strict=True):
            if pixels is not None:
                Image.fromarray(pixels).save(out / name / f"{icon}.png")
                rows.append((f"{name}/{icon}.png", said))
                drawn += 1
        print(f"{name}: {len(named):,} icons, {len(named) - len(kept):,} may show a held-out emoji, {drawn:,} drawn")
    with (out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file_name", "text"), *rows])


def fetch(work: Path) -> Path:
    """Install the pinned packages under `work` without running their scripts; returns the node_modules folder."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "package.json").write_text('{"private": true}\n')
    wanted = ["@".join(EMOJI_DATA), *(f"@iconify-json/{name}@{version}" for name, version, *_ in SETS)]
    quiet = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(["npm", "install", *quiet, *wanted], cwd=work, check=True)
    return work / "node_modules"


def spoken(icon: str) -> str:
    """An icon's name as words, without the endings that tell styles and numbers: 'apple-alt-2' -> 'apple'."""
    words = re.split(r"[-_ ]+", icon.lower())
    while len(words) > 1 and (words[-1] in ENDS or re.fullmatch(r"\d+(px)?", words[-1])):
        words.pop()
    return " ".join(words)


def stem(word: str) -> str:
    """The singular, roughly."""
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("ses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def stems(text: str) -> frozenset[str]:
    """The words of a text that mean something, in the singular."""
    return frozenset(stem(w) for w in re.findall(r"[a-z]+", text.lower()) if w not in MUTE and len(w) > 1)


@dataclass(frozen=True)
class HeldOut:
    """What names an emoji of the validation or test part: sets of words that belong together, as words and run into one."""

    together: frozenset[frozenset[str]]
    run: frozenset[str]

    def says(self, name: str) -> bool:
        """Whether an icon of this name may show one of them."""
        said, whole = stems(name), "".join(re.findall(r"[a-z]+", name.lower()))
        return any(words <= said for words in self.together) or any(word in whole for word in self.run)


def held_out(modules: Path) -> HeldOut:
    """The words of all emoji that the split holds out."""
    images = load_images(SPLIT)
    parts, captions = parts_of(images, seed=0), images.captions or ()
    codes = [plain("-".join(f"{ord(c):04X}" for c in text)) for text in images.meta["emoji"]]
    known = {codes[i]: captions[i] for i in parts.train}
    hidden = {codes[i]: captions[i] for i in np.concatenate([parts.validation, parts.test])}
    short = shortcodes(modules)
    seen = {stems(text) for code, said in known.items() for text in (said[0], *short.get(code, ()))}
    words = {word for text in seen for word in text}
    listed = {word for said in known.values() for word in own_keywords(said)}
    together = {stems(text) for code, said in hidden.items() for text in (said[0], *short.get(code, ()))}
    together |= {
        stems(k) for said in hidden.values() for k in own_keywords(said) if k not in listed and stems(k) not in seen
    }
    together |= {frozenset([word]) for said in hidden.values() for word in stems(said[0]) if word not in words}
    together.discard(frozenset())
    run = {"".join(re.findall(r"[a-z]+", said[0].lower())) for said in hidden.values()}
    run |= {next(iter(words)) for words in together if len(words) == 1}
    return HeldOut(frozenset(together), frozenset(word for word in run if len(word) >= INSIDE))


def own_keywords(captions: Iterable[str]) -> list[str]:
    """The keywords of an emoji."""
    return [word for listed in keywords(list(captions)) for word in listed.split(", ")]


def plain(code: str) -> str:
    """A hexcode without variation selectors."""
    return code.replace("-FE0F", "")


def shortcodes(modules: Path) -> dict[str, set[str]]:
    """hexcode -> what chats call it."""
    found: dict[str, set[str]] = {}
    for source in SOURCES:
        file = modules / EMOJI_DATA[0] / "en" / "shortcodes" / f"{source}.json"
        for code, names in json.loads(file.read_text()).items():
            found.setdefault(plain(code), set()).update([names] if isinstance(names, str) else names)
    return found


if __name__ == "__main__":
    main()
