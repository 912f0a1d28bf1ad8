"""The sources by name, and `load_images`: a spec string -> ImageSet.

Loaders fill LOADERS with the decorator `source`; their modules are imported when one of their names is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from visus.arguments import checked
from visus.errors import DataError, SpecError
from visus.paths import expanded
from visus.spec import Spec, check_address, parse_spec, unknown

if TYPE_CHECKING:
    from visus.images.base import ImageSet

# A loader takes (spec, *, labels: Path | None, download: bool) and raises VisusError.
ImageLoader = Callable[..., "ImageSet"]
LOADERS: dict[str, ImageLoader] = {}

# Where each name is registered. A trailing colon marks a scheme: whatever follows it is the loader's to read.
HOMES = {
    "folder:": "visus.images.folder",
    "parquet:": "visus.images.hub",
    "hf:": "visus.images.hub",
    "cifar10": "visus.images.known",
    "cifar100": "visus.images.known",
    "stl10": "visus.images.known",
    "mnist": "visus.images.known",
    "fashion-mnist": "visus.images.known",
    "visus:digits": "visus.images.digits",
    "visus:emoji": "visus.images.emoji",
}
SCHEMES = ("folder", "parquet", "hf", "visus")
TABLES = (".parquet", ".arrow")
TABLED = ("folder:", "parquet:", "hf:")
CLASSES = ("needed", "wanted", "unused")


def source(name: str) -> Callable[[ImageLoader], ImageLoader]:
    """Register a loader under a name ('mnist', 'visus:digits') or a scheme ('folder:')."""

    def register(loader: ImageLoader) -> ImageLoader:
        LOADERS[name] = loader
        return loader

    return register


@checked
def load_images(
    spec: str,
    *,
    labels: str | Path | None = None,
    label_column: str | None = None,
    groups: str | None = None,
    classes: str = "needed",
    download: bool = False,
) -> ImageSet:
    """Load an image set from a spec string; no pixel is decoded.

    spec: `folder:PATH`, `parquet:PATH`, a plain PATH, `hf:owner/name`, `cifar10`, `cifar100`, `stl10`, `mnist`, `fashion-mnist`,
    `visus:digits`, `visus:emoji`; options behind a '?', as in `cifar10?split=test`. labels: a table of names and labels for
    a folder. label_column, groups: columns of that table, or of a Parquet or hub set: what is a class, and what must not straddle a
    split. classes: of a folder, 'needed', 'wanted' or 'unused' (see visus.images.folder). download: permission to fetch what is not
    on this machine.
    Raises SpecError for an unknown name or option (the nearest are listed), DataError for data that cannot be used as
    they are, OfflineError where something must be fetched and cannot or may not be.
    """
    if classes not in CLASSES:
        raise unknown("classes", classes, CLASSES)
    if labels is not None:
        check_address(str(labels))
    parsed = _parse(spec)
    key = _key(parsed)
    if labels is not None and key != "folder:":
        raise DataError(f"--labels goes with a folder of images only; {parsed.text!r} brings its own labels")
    given = None if labels is None else expanded(labels)
    options = dict(parsed.options)
    for option, flag, value in (("label", "--label-column", label_column), ("groups", "--groups", groups)):
        if value is None:
            continue
        if key not in TABLED:
            raise DataError(f"{flag} names a column of a label file or table; {parsed.text!r} has none")
        if options.setdefault(option, value) != value:
            raise DataError(
                f"{flag} {value} contradicts {option}={options[option]} in {parsed.text!r}; give one of them"
            )
    parsed = replace(parsed, options=options)
    more = {"classes": classes} if key == "folder:" else {}
    images = _loader(key)(parsed, labels=given, download=download, **more)
    if key.endswith(":"):  # files of anybody's; the known sets are bytes
        from visus.images.survey import look
        from visus.images.wordnet_names import named

        look(images)
        images = named(images, expanded(parsed.name) if key in ("folder:", "parquet:") else None)
    return images


def _parse(spec: str) -> Spec:
    text = str(spec)
    check_address(text)
    # A path that exists is taken as it stands, even with a '?' or a colon in it.
    if (
        text.strip()
        and not any(text.startswith(f"{scheme}:") for scheme in SCHEMES)
        and text not in HOMES
        and _exists(text)
    ):
        return Spec("parquet" if text.lower().endswith(TABLES) else "folder", text, None, {}, text)
    parsed = parse_spec(text, SCHEMES, revisions=("hf",))
    if not parsed.scheme and parsed.name not in HOMES and _exists(parsed.name):
        scheme = "parquet" if parsed.name.lower().endswith(TABLES) else "folder"
        return Spec(scheme, parsed.name, None, parsed.options, text)
    return parsed


def _exists(text: str) -> bool:
    try:
        return expanded(text).exists()
    except (OSError, ValueError):  # a name too long for the file system, or one with a null byte
        return False


def _key(spec: Spec) -> str:
    if f"{spec.scheme}:" in HOMES:
        return f"{spec.scheme}:"
    name = f"{spec.scheme}:{spec.name}" if spec.scheme else spec.name
    if name in HOMES:
        return name
    if not spec.scheme and (any(mark in spec.name for mark in "/\\~") or spec.name.startswith(".")):
        raise SpecError(f"there is no folder or file {spec.name!r}; check the path")
    names = [n for n in HOMES if not n.endswith(":")]
    raise unknown("images", name, names, "or a path to a folder, folder:PATH, parquet:PATH, hf:owner/name")


def _loader(key: str) -> ImageLoader:
    if key not in LOADERS:
        module = import_module(HOMES[key])
        if key == "visus:emoji":
            LOADERS.setdefault(key, _plain(module.load_emoji))
    return LOADERS[key]


def _plain(loader: Callable[[Spec], ImageSet]) -> ImageLoader:
    """A loader that needs nothing but its spec, called like the others."""

    def load(spec: Spec, *, labels: Path | None, download: bool) -> ImageSet:
        return loader(spec)

    return load
