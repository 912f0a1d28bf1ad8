"""`visus:emoji`: openly licensed emoji art as an image-text set that ships with the lab (see docs/emoji.md)."""

from __future__ import annotations

import threading
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from visus.errors import SpecError, StoreError
from visus.images.base import ImageSet
from visus.spec import Spec, check_options, unknown

CLASSES = (
    "bird", "building", "clothing", "dessert", "drink", "face", "flag", "fruit", "hand", "insect", "mammal", "meal",
    "person", "plant", "sea animal", "sport", "tool", "vegetable", "vehicle", "weather",
)  # fmt: skip
STYLES = {
    "twemoji": "flat", "fluent-emoji-flat": "flat", "fluent-emoji": "glossy 3d", "noto": "shaded", "noto-v1": "shaded", "emojione": "bright",
    "fxemoji": "muted",
}  # fmt: skip
META = ("emoji", "name", "artist", "group", "subgroup", "licence")
_COLUMNS = (*META, "hexcode", "keywords", "hand", "class", "concept", "split_artist", "split_concept", "task")


def emoji_file() -> Path:
    """The Parquet file that ships with the lab."""
    return Path(str(files("visus") / "data" / "emoji.parquet"))


class EmojiSource:
    """The pictures of the Parquet file as encoded WebP, by row; read from several threads, pickled without its data.

    path: the file. Its schema's metadata carries the digest of all pictures, written when it was built.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._bytes: pa.ChunkedArray | None = None

    def __len__(self) -> int:
        return int(_open(str(self.path)).metadata.num_rows)

    def read(self, i: int) -> bytes:
        """The i-th picture's bytes. The column of pictures (some 17 MB) is read at the first call. Raises StoreError."""
        with self._lock:
            if self._bytes is None:
                self._bytes = read_image_bytes(self.path)
        return self._bytes[i].as_py()  # type: ignore[no-any-return]

    def digest(self) -> str:
        """SHA-256 over every picture's length and bytes in order, as the file's metadata states it. Raises StoreError."""
        stated = (_open(str(self.path)).schema_arrow.metadata or {}).get(b"visus.digest")
        if stated is None:
            raise StoreError(f"{self.path} carries no digest; build it again with tools/build_emoji.py")
        return stated.decode()  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]


def _open(path: str) -> Any:
    """The open Parquet file (its footer only). Raises StoreError when it is missing or damaged."""
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(f"cannot read {path}: {error}; install visus again") from error


def read_image_bytes(path: Path) -> pa.ChunkedArray:
    try:
        return pc.struct_field(_open(str(path)).read(columns=["image.bytes"])["image"], "bytes")
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(f"cannot read the pictures of {path}: {error}; install visus again") from error


@lru_cache(maxsize=1)
def _columns(path: str) -> dict[str, list[Any]]:
    """Every column but the pictures, as lists."""
    table = _open(path).read(columns=list(_COLUMNS))
    return {name: table[name].to_pylist() for name in _COLUMNS}


def load_emoji(spec: Spec) -> ImageSet:
    """The emoji set; loading decodes nothing and reads no picture.

    Options. split: 'artist' (default; groups are None: the split is between hands) or 'concept' (groups are the concepts).
    task: 'class' (default; the pictures of the default class task, labelled with its 20 classes) or 'all' (every picture,
    labelled with the emoji's Unicode group, because most have none of the 20 classes). artist: only these, by comma.
    captions: the name, the keywords in one line, and other ways to say it, with its kind and the artist's style. Raises SpecError on an option or
    value that is not known, StoreError when the file cannot be read.
    """
    check_options(spec, ("split", "task", "artist"))
    split = _choice(spec, "split", ("artist", "concept"))
    task = _choice(spec, "task", ("class", "all"))
    path = emoji_file()
    columns = _columns(str(path))
    keep = np.array(columns["task"], bool) if task == "class" else np.ones(len(columns["name"]), bool)
    if "artist" in spec.options:
        keep &= np.isin(columns["artist"], _artists(spec, columns["artist"]))
    rows = np.flatnonzero(keep).astype(np.int64)

    def chosen(name: str) -> list[Any]:
        column = columns[name]
        return [column[i] for i in rows]

    names, keywords, sides = chosen("name"), chosen("keywords"), np.array(chosen(f"split_{split}"))
    kinds = chosen("class" if task == "class" else "group")
    classes = CLASSES if task == "class" else tuple(sorted(set(columns["group"])))
    position = {c: i for i, c in enumerate(classes)}
    groups = np.unique(chosen("concept"), return_inverse=True)[1].astype(np.int64) if split == "concept" else None
    declared = {side: np.flatnonzero(sides == side) for side in ("train", "validation", "test")}
    ids = tuple(
        f"{artist}/{code.lower()} {name}"
        for artist, code, name in zip(chosen("artist"), chosen("hexcode"), names, strict=True)
    )
    return ImageSet(
        name=spec.text or "visus:emoji",
        source=EmojiSource(path),
        rows=rows,
        ids=ids,
        labels=np.array([position[k] for k in kinds], np.int64),
        classes=classes,
        groups=groups,
        captions=tuple(map(captions, names, keywords, chosen("subgroup"), chosen("artist"))),
        declared={side: at.astype(np.int64) for side, at in declared.items() if len(at)},
        meta={name: chosen(name) for name in META},
    )


def captions(name: str, keywords: list[str], subgroup: str, artist: str) -> tuple[str, ...]:
    """Texts for one picture, the name first: 'grinning face', 'face, grin', 'grinning face emoji', ..., 'a flat picture of ...'."""
    spoken = f"flag of {name.removeprefix('flag: ')}" if name.startswith("flag: ") else name
    words = (", ".join(keywords),) if keywords else ()
    kind = subgroup.replace("-", " ")
    return (
        spoken,
        *words,
        f"{spoken} emoji",
        f"a small drawing, {spoken}",
        f"{spoken}, {kind}",
        f"a picture of the kind {kind}",
        f"a {STYLES[artist]} picture of {spoken}",
    )


def _choice(spec: Spec, option: str, known: tuple[str, ...]) -> str:
    value = spec.options.get(option, known[0])
    if value not in known:
        raise unknown(f"{option} in {spec.text!r}:", value, known)
    return value


def _artists(spec: Spec, known: list[str]) -> list[str]:
    wanted = [name.strip() for name in spec.options["artist"].split(",") if name.strip()]
    if not wanted:
        raise SpecError(f"{spec.text!r} names no artist; known: {', '.join(sorted(set(known)))}")
    for name in wanted:
        if name not in known:
            raise unknown(f"artist in {spec.text!r}:", name, known)
    return wanted
