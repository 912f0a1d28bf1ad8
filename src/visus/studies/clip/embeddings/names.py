"""Which array of a file is what: the names that people give to images, texts, their identities and the links between them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from visus.errors import DataError
from visus.studies.clip.embeddings.formats import Column

_VECTOR = r"(emb|embs|embed|embeds|embedding|embeddings|feat|feats|feature|features|vec|vecs|vector|vectors|encoding|encodings)"
_IMAGE = r"(images?|imgs?|vision|visual|pictures?|photos?|pixels?)"
_TEXT = r"(texts?|txts?|captions?|caps?|sentences?|language|titles?)"
_BEFORE, _BEHIND = (
    r"((clip|siglip|open_?clip|all|norm|normed|normali[sz]ed)_)?",
    r"(_(norm|normed|(un)?normali[sz]ed|np|array|list|all))?",
)
_ID = r"(ids?|keys?|paths?|names?|files?|filenames?|file_names?|urls?)"
_ROW = r"(index|idx|idxs|indices|rows?|map)"
ROLES: Mapping[str, re.Pattern[str]] = {
    "images": re.compile(rf"{_BEFORE}({_IMAGE}(_{_VECTOR})?|{_VECTOR}_{_IMAGE}){_BEHIND}"),
    "texts": re.compile(rf"{_BEFORE}({_TEXT}(_{_VECTOR})?|{_VECTOR}_{_TEXT}){_BEHIND}"),
    "image_ids": re.compile(rf"{_IMAGE}_?{_ID}|{_IMAGE}_{_ROW}|file_?names?|file_?paths?"),
    "text_ids": re.compile(rf"{_TEXT}_?{_ID}|{_TEXT}_{_ROW}|sent_?ids?"),
    "text_image": re.compile(rf"{_TEXT}(_to|2)?_?{_IMAGE}(_{_ROW}|_{_ID})?"),
    "image_text": re.compile(rf"{_IMAGE}(_to|2)?_?{_TEXT}(_{_ROW}|_{_ID})?"),
    "labels": re.compile(r"labels?|targets?"),
    "ids": re.compile(r"ids?|keys?"),
}
PLAIN = {"images": ("images", "image"), "texts": ("texts", "text"), "labels": ("labels", "label")}
KNOWN = ("classes", "class_texts", "scale")
SCALES = ("logit_scale", "temperature")  # known where they are one number: a column of that name is something else


@dataclass(frozen=True)
class NamedArrays:
    """Arrays by role (those of ROLES, 'captions': in words, and KNOWN), with the name that each has in the file, and the names not used."""

    found: Mapping[str, np.ndarray]
    names: Mapping[str, str]
    ignored: tuple[str, ...] = field(default=())


def by_role(columns: Mapping[str, Column], path: Path) -> NamedArrays:
    """What each array is. Raises DataError where a role is open: no images or texts, or several arrays that may be them."""
    plain = {name: _plain(name) for name in columns}
    found: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}
    for role in ("images", "texts"):
        name = _one(role, _vectors(columns, plain, role), columns, path)
        if name is None:
            _refuse(role, columns, plain, path)
            continue
        names[role] = name
    for role in ("text_image", "image_text", "image_ids", "text_ids", "labels", "ids"):
        able = [
            n for n in columns if ROLES[role].fullmatch(plain[n]) and n not in names.values() and _listed(columns[n])
        ]
        name = _one(role, able, columns, path)
        if name is not None:
            names[role] = name
    words = [
        n for n in columns
        if ROLES["texts"].fullmatch(plain[n]) and n not in names.values() and _kind(columns[n]) == "U"
    ]  # fmt: skip
    if len(words) == 1:
        names["captions"] = words[0]
    for name in KNOWN:
        if name in columns:
            names[name] = name
    for name in SCALES:
        column = columns.get(name)
        if isinstance(column, np.ndarray) and column.size == 1:
            names[name] = name
    for role, name in names.items():
        column = columns[name]
        if isinstance(column, DataError):
            raise column
        found[role] = column
    return NamedArrays(found, names, tuple(n for n in columns if n not in names.values()))


def _plain(name: str) -> str:
    """imageEmbeddings, image-embeddings, 'image embeddings' -> image_embeddings."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_")


def _kind(column: Column) -> str:
    return "" if isinstance(column, DataError) else column.dtype.kind


def _listed(column: Column) -> bool:
    return isinstance(column, DataError) or column.ndim >= 1


def _vectors(columns: Mapping[str, Column], plain: Mapping[str, str], role: str) -> list[str]:
    """Names of the role that hold vectors: numbers [n, d] or [n, k, d]."""
    return [
        name for name, column in columns.items()
        if ROLES[role].fullmatch(plain[name]) and isinstance(column, np.ndarray) and column.ndim in (2, 3) and column.dtype.kind in "fiu"
    ]  # fmt: skip


def _one(role: str, names: list[str], columns: Mapping[str, Column], path: Path) -> str | None:
    if len(names) > 1:
        exact = [n for n in names if n in PLAIN.get(role, ())][:1]
        if not exact:
            raise DataError(
                f"{path} holds {', '.join(sorted(names))}, each of which may be the {role}; name the one that is meant {role!r}"
            )
        return exact[0]
    return names[0] if names else None


def _refuse(role: str, columns: Mapping[str, Column], plain: Mapping[str, str], path: Path) -> None:
    for name, column in columns.items():
        if ROLES[role].fullmatch(plain[name]):
            if isinstance(column, DataError):
                raise column
            raise DataError(
                f"{path}: {name} is {column.dtype} {list(column.shape)}; it must be numbers [n, d], n of at least 4 and d of at least 2"
            )
    raise DataError(
        f"{path} holds {', '.join(sorted(columns)) or 'nothing'}, but no {role!r}; save images, texts[, labels]"
    )
