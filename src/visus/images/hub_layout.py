"""How tables lie in a data set's repository: its configurations, which are never merged, and the splits of each.

Three layouts, as the hub has them: the card (README.md) says which files belong to which configuration and split; folders named by
configuration and files by split (`cropped/train-00000-of-00002.parquet`, `data/train-...` for the only one); and the hub's own conversion
(`default/train/0000.parquet`, on the branch refs/convert/parquet). Source: Hugging Face, "Structure your repository".
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from visus.errors import DataError
from visus.images.listing import walk

ENDINGS = (".parquet", ".arrow")
SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_PLAIN = ("", "data", "dataset")  # folders and names that say neither configuration nor split
_OF = re.compile(r"(?P<name>.*?)-?(?P<k>\d{5})-of-(?P<n>\d{5})(-\w+)?")
_PARTIAL = "partial-"  # the hub's conversion holds the first gigabytes of a large set


@dataclass(frozen=True)
class TableLayout:
    """configs: name -> split -> files, in order; '' is a name where there is none. chosen: what the card calls the default. names: config ->
    column -> class names that the card gives. doubts: what a reader should know of a config's files."""

    configs: Mapping[str, Mapping[str, tuple[Path, ...]]]
    chosen: str | None = None
    names: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    doubts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def layout_of(root: Path) -> TableLayout:
    """The configurations of a folder of tables. Raises DataError where it holds none, or its card cannot be read."""
    files = sorted(f for f in (root / f for f in walk(root).files) if f.suffix.lower() in ENDINGS and f.is_file())
    card = _card(root)
    configs, chosen = _by_card(root, files, card)
    configs = configs or _by_folder(root, files)
    return TableLayout(configs, chosen, _class_names(card), {c: _doubts(splits) for c, splits in configs.items()})


def choose(layout: TableLayout, wanted: str | None, *, name: str, how: str) -> str:
    """The configuration that is meant. how: what to write to choose one. Raises DataError: several and none chosen, or an unknown one."""
    known = sorted(layout.configs)
    if wanted is not None:
        # The only configuration has no name of its own where its files lie in data/ or at the top.
        if wanted not in known and wanted == "default" and known == [""]:
            return ""
        if wanted not in known:
            raise DataError(
                f"{name} has no configuration {wanted!r} here; it has {', '.join(k or 'default' for k in known)}"
            )
        return wanted
    if len(known) > 1 and layout.chosen in known:
        return str(layout.chosen)
    if len(known) > 1:
        raise DataError(
            f"{name} has {len(known)} configurations, which are not one data set: {', '.join(k or 'default' for k in known)}; "
            f"choose one, as {how.format(known[0] or 'default')}"
        )
    return known[0]


def split_of(path: PurePosixPath) -> tuple[str, str]:
    """(split, configuration) that a table's path tells, relative to its repository; '' for what it does not tell."""
    folders = [f for f in path.parts[:-1] if f.lower() not in _PLAIN]
    bare = folders[-1].lower().removeprefix(_PARTIAL) if folders else ""
    inside = SPLITS.get(bare, "")
    above = "/".join(folders[:-1] if inside else folders)
    found = _OF.fullmatch(path.stem)
    name = found["name"] if found else path.stem
    words = [w.lower() for w in re.split(r"[-_.]", name) if w and not w.isdigit()]
    if path.suffix.lower() == ".arrow" and words and words[-1] in SPLITS:
        return SPLITS[words[-1]], above  # cifar10-train.arrow, as `datasets` keeps them
    if len(words) == 1 and words[0] in SPLITS:
        return SPLITS[words[0]], above
    if len(words) == 2 and words[0] in ("parquet", "data") and words[1] in SPLITS:
        return SPLITS[words[1]], above
    if inside:
        return inside, above
    # cifar_train.parquet, train_extra.parquet: one split's word among others, where the name counts no files of a split of its own.
    if not found and len(meant := {SPLITS[w] for w in words if w in SPLITS}) == 1:
        return meant.pop(), above
    if found and name.lower() not in (*_PLAIN, "part", "shard"):
        return _split(name), above  # a split of one's own
    return "", above


def _split(name: str) -> str:
    return SPLITS.get(name.lower(), name)


def _by_folder(root: Path, files: Iterable[Path]) -> dict[str, dict[str, tuple[Path, ...]]]:
    told = [(f, *split_of(PurePosixPath(f.relative_to(root).as_posix()))) for f in files]
    # default/train/0000.parquet beside default/unsupervised/0000.parquet: a folder beside a split's is a split.
    homes = {config for _, split, config in told if split}
    configs: dict[str, dict[str, tuple[Path, ...]]] = {}
    for file, split, config in told:
        above, _, last = config.rpartition("/")
        if not split and last and above in homes and config not in homes:
            split, config = last, above
        splits = configs.setdefault(config, {})
        splits[split] = (*splits.get(split, ()), file)
    return configs


def _card(root: Path) -> dict[str, Any]:
    """What stands between the dashes at the head of README.md; empty where there is none."""
    try:
        text = (root / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    found = re.match(r"\s*---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        body = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        raise DataError(f"{root / 'README.md'}: its head is not YAML; mend it or remove it") from error
    return body if isinstance(body, dict) else {}


def _by_card(
    root: Path, files: list[Path], card: Mapping[str, Any]
) -> tuple[dict[str, dict[str, tuple[Path, ...]]], str | None]:
    entries = [
        e for e in card.get("configs") or [] if isinstance(e, dict) and (e.get("data_files") or e.get("data_dir"))
    ]
    configs: dict[str, dict[str, tuple[Path, ...]]] = {}
    chosen = None
    for entry in entries:
        name = str(entry.get("config_name", "default"))
        chosen = name if entry.get("default") else chosen
        base = str(entry.get("data_dir") or "").strip("/")
        splits: dict[str, tuple[Path, ...]] = {}
        if not entry.get("data_files"):  # a folder alone, whose files tell their splits
            here = [f for f in files if _matches(f.relative_to(root).as_posix(), "", base)]
            for file in here:
                split = split_of(PurePosixPath(file.relative_to(root / base).as_posix()))[0]
                splits[split] = (*splits.get(split, ()), file)
        for split, patterns in _patterns(entry.get("data_files") or []):
            meant = tuple(f for f in files if any(_matches(f.relative_to(root).as_posix(), base, p) for p in patterns))
            if meant:
                splits[_split(split)] = (*splits.get(_split(split), ()), *meant)
        if splits:
            configs[name] = splits
    return configs, chosen


def _patterns(said: Any) -> list[tuple[str, list[str]]]:
    """(split, patterns) of a card's data_files: one pattern, a list of them, a mapping, or a list of split and path."""
    if isinstance(said, str):
        return [("train", [said])]
    if isinstance(said, dict):
        return [(str(split), _listed(paths)) for split, paths in said.items()]
    if all(isinstance(entry, str) for entry in said):
        return [("train", [str(entry) for entry in said])]
    return [(str(e.get("split", "train")), _listed(e.get("path"))) for e in said if isinstance(e, dict)]


def _listed(paths: Any) -> list[str]:
    return [str(p) for p in paths] if isinstance(paths, list) else [str(paths)]


def _matches(path: str, base: str, pattern: str) -> bool:
    """Whether a path is meant by a pattern: '*' within a folder, '**' through folders, a folder's name for all in it."""
    pattern = pattern.removeprefix("./").strip("/")
    pattern = f"{base}/{pattern}" if base else pattern
    if not any(c in pattern for c in "*?["):
        return path == pattern or path.startswith(f"{pattern}/")
    regular = (
        re.escape(pattern)
        .replace(r"\*\*/", "(?:.*/)?")
        .replace(r"\*\*", ".*")
        .replace(r"\*", "[^/]*")
        .replace(r"\?", "[^/]")
    )
    return bool(re.fullmatch(regular, path)) or ("[" in pattern and fnmatch.fnmatchcase(path, pattern))


def _class_names(card: Mapping[str, Any]) -> dict[str, dict[str, tuple[str, ...]]]:
    """config -> column -> class names, of the card's dataset_info; of files that were converted without their features."""
    infos = card.get("dataset_info") or []
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for info in infos if isinstance(infos, list) else [infos]:
        for feature in (info.get("features") or []) if isinstance(info, dict) else []:
            kind = feature.get("dtype") if isinstance(feature, dict) else None
            names = (kind.get("class_label") or {}).get("names") if isinstance(kind, dict) else None
            if isinstance(names, dict):
                names = [names[k] for k in sorted(names, key=lambda k: int(k))]
            if isinstance(names, list):
                of = found.setdefault(str(info.get("config_name", "default")), {})
                of[str(feature.get("name"))] = tuple(map(str, names))
    return found


def _doubts(splits: Mapping[str, tuple[Path, ...]]) -> tuple[str, ...]:
    """Splits of which files are missing, by their own count ('00000-of-00003'), or of which the hub converted a part."""
    said = []
    for split, files in splits.items():
        counts: dict[tuple[str, int], set[int]] = {}
        for file in files:
            if found := _OF.fullmatch(file.stem):
                counts.setdefault((f"{file.parent}/{found['name']}", int(found["n"])), set()).add(int(found["k"]))
        for (_, n), here in counts.items():
            if len(here) < n:
                said.append(f"{len(here)} of {n} files of {split or 'its table'} are here")
        if any(file.parent.name.startswith(_PARTIAL) for file in files):
            said.append(f"the hub's conversion holds the beginning of {split} only")
    return tuple(said)
