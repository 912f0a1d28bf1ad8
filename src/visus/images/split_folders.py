"""How a folder of pictures is laid out: which of its folders are splits, and which are classes."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from visus.errors import DataError
from visus.images.listing import Listing, looks_like_an_image, show
from visus.progress import note
from visus.spec import unknown

SPLITS = ("train", "validation", "test")
_WORDS = {
    "train": ("train", "training", "trn", "trainset", "traindata", "trainval"),
    "validation": ("val", "valid", "validation", "validate", "dev", "development", "valset", "devset"),
    "test": ("test", "testing", "tst", "testset", "testdata", "holdout"),
    "evaluation": ("eval", "evaluation", "evaluate"),
}
_MEANING = {word: split for split, words in _WORDS.items() for word in words}
# Words beside that of a split which say nothing of their own: "Training Data", "test_images".
_FILLING = frozenset(
    ["data", "set", "dataset", "image", "images", "imgs", "img", "pictures", "photos", "split", "folder", "part"]
)
AGREE = 0.5  # share of the smaller folder's subfolders that must be the other's as well
LOOSE = 0.1  # share of pictures that may lie beside the subfolders and be strays


@dataclass(frozen=True)
class SplitFolder:
    """Where classes stand: the folders below `at` (relative, '' the root), or, with `name`, that one class. split: '' for none."""

    at: str
    split: str = ""
    name: str | None = None


@dataclass(frozen=True)
class FolderLayout:
    """parts: where pictures with a class lie. unclear: why it cannot be told, for a study that needs classes; else ''."""

    parts: tuple[SplitFolder, ...]
    unclear: str = ""

    def place(self, file: str) -> tuple[SplitFolder | None, str | None]:
        """The folder that holds a file (None: outside all of them), and the class folder in it (None: beside the class folders)."""
        best = None
        for part in self.parts:
            inside = not part.at or file.startswith(f"{part.at}/")
            if inside and (best is None or len(part.at) > len(best.at)):
                best = part
        if best is None or best.name is not None:
            return best, None if best is None else best.name
        steps = file[len(best.at) + 1 if best.at else 0 :].split("/")
        return best, steps[0] if len(steps) > 1 else None


def meaning(name: str) -> tuple[str, bool]:
    """(train, validation, test, evaluation or '', whether nothing else is said): 'Training Data' is train, so is 'seg_train', loosely."""
    words = [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", unicodedata.normalize("NFC", name))]
    if not words and name.isascii():
        return "", False
    meant = {_MEANING[w] for w in words if w in _MEANING}
    if len(meant) != 1 or not name.isascii():
        return "", False
    rest = [w for w in words if w not in _MEANING and w not in _FILLING and len(w) > 1]
    return meant.pop(), not rest


def split_names(names: Iterable[str]) -> dict[str, str]:
    """name -> train, validation or test by its meaning among the others; names that mean nothing are left out.

    Evaluation is the test part where there is none, else validation; dev is what is trained on where nothing else is.
    """
    meant = {name: meaning(name)[0] for name in names}
    there = set(meant.values())
    evaluation = "validation" if "test" in there else "test"
    found = {n: evaluation if m == "evaluation" else m for n, m in meant.items() if m}
    if "train" not in there and "test" in found.values():
        for name in found:
            if {"dev", "development", "devset"} & {w.lower() for w in re.findall("[A-Za-z]+", name)}:
                found[name] = "train"
    return found


def key(name: str) -> str:
    """A folder's or class's name by which its Unicode forms are one."""
    return unicodedata.normalize("NFC", name).strip()


def layout_by_options(root: str, found: Listing, options: Mapping[str, str]) -> FolderLayout | None:
    """What the options train=, validation= (or val=) and test= say outright; None without them.

    Raises DataError for a folder that is not there or stands for two splits, SpecError for one that nearly is.
    """
    chosen = {name: options[o] for o, name in (*((s, s) for s in SPLITS), ("val", "validation")) if o in options}
    if not chosen:
        return None
    if "val" in options and "validation" in options:
        raise DataError(f"{root}: val= and validation= are one; give one of them")
    by_key = {key(f): f for f in found.folders}
    parts: list[SplitFolder] = []
    tree = _Tree(found)
    for split, folder in chosen.items():
        at = by_key.get(key(folder.replace("\\", "/").strip("/").removeprefix("./")))
        if at is None:
            raise unknown(f"folder below {root} for {split}:", folder, found.folders)
        if any(_inside(at, s.at) or _inside(s.at, at) for s in parts):
            raise DataError(f"{root}: {folder} stands for two splits; give folders beside each other")
        parts.append(SplitFolder(at, split))
    inner = tree.unwrapped([s.at for s in parts])
    parts = [SplitFolder(inner[s.at], s.split) for s in parts]
    _say(parts)
    return FolderLayout(tuple(parts))


def infer_layout(root: str, found: Listing, *, level: str | None = None, labelled: bool = False) -> FolderLayout:
    """Which folders are splits and which are classes, by names and by what they hold.

    level: 'top' or 'sub', where the user says at which level the classes are. labelled: a label file gives the classes, so that only
    splits are asked for. Raises DataError for two folders that stand for one split.
    """
    tree = _Tree(found)
    base = tree.wrapped("")
    tops = sorted(tree.children(base))
    if level == "top":
        return FolderLayout((SplitFolder(base),))
    if level == "sub":
        if not any(tree.children(t) for t in tops):
            raise DataError(
                f"{root}: no folder of {', '.join(map(show, tops[:3])) or 'it'} holds subfolders; leave ?classes=sub out"
            )
        return FolderLayout(tuple(SplitFolder(t) for t in tops))
    names = {t: t.rpartition("/")[2] for t in tops}
    inner = tree.unwrapped(tops)
    holds = {t: frozenset(key(c.rpartition("/")[2]).casefold() for c in tree.children(inner[t])) for t in tops}
    splits = split_names(names.values())
    agreeing = _agree(list(holds.values()))
    # 'bullet_train' is a split only beside 'bullet_test' with the same subfolders; 'train' and 'Training Data' are ones by their names.
    sure = {t for t in tops if names[t] in splits and (meaning(names[t])[1] or _agree_named(t, names, splits, holds))}
    named = {t: splits[names[t]] for t in tops if t in sure}
    if (
        len(tops) > 1
        and named
        and (len(named) == len(tops) or ("train" in named.values() and len(set(named.values())) > 1))
    ):
        others = [t for t in tops if t not in named]
        if others and not labelled and not any(holds[t] for t in named):
            return FolderLayout((SplitFolder(base),), _ask(root, tops, names, (), tree))
        return _splits(root, named, inner)
    if len(tops) < 2 or labelled:
        return FolderLayout((SplitFolder(base),))
    if (first := _class_first(tops, names, tree)) is not None:
        return first
    common = sorted(set.intersection(*(set(h) for h in holds.values())) or set.union(*(set(h) for h in holds.values())))
    if agreeing and len(set.union(*(set(h) for h in holds.values()))) > 1 and tree.loose(tops) <= LOOSE:
        return FolderLayout((SplitFolder(base),), _ask(root, tops, names, common, tree))
    return FolderLayout((SplitFolder(base),))


def _splits(root: str, named: Mapping[str, str], inner: Mapping[str, str]) -> FolderLayout:
    for split, times in Counter(named.values()).items():
        if times > 1:
            same = [show(t) for t, s in named.items() if s == split]
            raise DataError(
                f"{root} has two {split} folders, {same[0]} and {same[1]}; keep one, or say which: "
                f"folder:{root}?train=FOLDER&test=FOLDER"
            )
    parts = [SplitFolder(inner[t], s) for t, s in named.items()]
    _say(parts)
    return FolderLayout(tuple(parts))


def _say(parts: Sequence[SplitFolder]) -> None:
    note(
        "splits: "
        + ", ".join(f"{show(s.at)}/ is {s.split}" for s in sorted(parts, key=lambda s: SPLITS.index(s.split)))
    )


def _class_first(tops: Sequence[str], names: Mapping[str, str], tree: _Tree) -> FolderLayout | None:
    """The layout CLASS/train, CLASS/test; None where it is none."""
    subs = {t: {c: c.rpartition("/")[2] for c in tree.children(t)} for t in tops}
    splits = split_names({n for s in subs.values() for n in s.values()})
    if len(set(splits.values())) < 2 or any(not s or any(n not in splits for n in s.values()) for s in subs.values()):
        return None
    if any(len({splits[n] for n in s.values()}) < len(s) for s in subs.values()):
        return None
    parts = [SplitFolder(c, splits[n], names[t]) for t in tops for c, n in subs[t].items()]
    note(
        f"splits: {', '.join(f'{show(n)}/ is {s}' for n, s in sorted(splits.items()))}, within each of {len(tops)} class folders"
    )
    return FolderLayout(tuple(parts))


def _ask(root: str, tops: Sequence[str], names: Mapping[str, str], common: Sequence[str], tree: _Tree) -> str:
    shown = ", ".join(show(names[t]) for t in tops[:3]) + (f" and {len(tops) - 3} more" if len(tops) > 3 else "")
    # A folder that is named as the test or the training part is proposed as that.
    order = {"train": 0, "": 1}
    ranked = sorted(tree.largest(tops), key=lambda top: order.get(meaning(names[top])[0], 2))
    tests = [t for t in ranked[1:] if meaning(names[t])[0] == "test"]
    a, b = show(ranked[0]), show((tests or ranked[1:])[0])
    if not common:
        return (
            f"{root} holds {shown}, of which some are named as splits and none holds class folders; say folder:{root}?classes=top where "
            f"they are classes, or ?train=FOLDER&test=FOLDER"
        )
    inside = ", ".join(map(show, common[:3])) + (" ..." if len(common) > 3 else "")
    return (
        f"{root} holds {shown}, each with the subfolders {inside}: which are the classes? Say folder:{root}?train={a}&test={b} where the upper "
        "folders are splits, ?classes=top where they are classes, ?classes=sub where the subfolders are"
    )


def _agree(holds: Sequence[frozenset[str]]) -> bool:
    """Whether all hold subfolders and share at least half of those of the smaller one with the largest, and with each other."""
    if len(holds) < 2 or not all(holds):
        return False
    largest = max(holds, key=len)
    return all(len(h & largest) >= AGREE * min(len(h), len(largest)) for h in holds)


def _agree_named(
    top: str, names: Mapping[str, str], splits: Mapping[str, str], holds: Mapping[str, frozenset[str]]
) -> bool:
    like = [holds[t] for t in holds if names[t] in splits and splits[names[t]] != splits[names[top]]]
    return any(_agree([holds[top], h]) for h in like)


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


class _Tree:
    """The folders that hold pictures, by what they hold. Pictures are told by their names alone."""

    def __init__(self, found: Listing) -> None:
        self._children: dict[str, set[str]] = {}
        self._direct: Counter[str] = Counter()
        self._below: Counter[str] = Counter()
        for file in found.files:
            if not looks_like_an_image(file):
                continue
            at = file.rpartition("/")[0]
            self._direct[at] += 1
            while at:
                self._below[at] += 1
                above = at.rpartition("/")[0]
                self._children.setdefault(above, set()).add(at)
                at = above

    def children(self, at: str) -> set[str]:
        """The folders in `at` that hold pictures at any depth."""
        return self._children.get(at, set())

    def wrapped(self, at: str) -> str:
        """The folder that `at` only wraps, but for a few strays: its single subfolder, which has subfolders itself, and so on."""
        while len(self.children(at)) == 1:
            (only,) = self.children(at)
            if not self.children(only) or self._direct[at] > LOOSE * self._below[only]:
                break
            at = only
        return at

    def unwrapped(self, tops: Sequence[str]) -> dict[str, str]:
        """folder -> what it only wraps, as seg_train/seg_train, or train/images beside test/images.

        A single class is no wrapping: its name stands in another folder beside others, or the others hold single ones as well. Where they
        hold classes, a folder with a single one of another name holds pictures without a class (Tiny ImageNet's val/images).
        """
        among = {key(c.rpartition("/")[2]) for t in tops if len(self.children(t)) > 1 for c in self.children(t)}
        inner = {}
        for top in tops:
            only = next(iter(self.children(top)), "") if len(self.children(top)) == 1 else ""
            wraps = only and not self._direct[top] and key(only.rpartition("/")[2]) not in among
            inner[top] = self.wrapped(top) if wraps else top
        if any(len(self.children(at)) > 1 for at in inner.values()):
            classes = {
                key(c.rpartition("/")[2]).casefold()
                for at in inner.values()
                if len(self.children(at)) > 1
                for c in self.children(at)
            }
            for top, at in inner.items():
                only = next(iter(self.children(at)), "") if len(self.children(at)) == 1 and not self._direct[at] else ""
                if only and key(only.rpartition("/")[2]).casefold() not in classes:
                    inner[top] = only
        return inner

    def largest(self, tops: Sequence[str]) -> list[str]:
        """The folders by how many pictures they hold, most first."""
        return sorted(tops, key=lambda top: (-self._below[top], top))

    def loose(self, tops: Sequence[str]) -> float:
        """Share of the pictures below `tops` that lie in them directly."""
        return sum(self._direct[t] for t in tops) / max(sum(self._below[t] for t in tops), 1)
