"""The sources by name, and `load_images`: a spec string -> ImageSet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from visus.arguments import checked
from visus.errors import DataError, SpecError
from visus.images.base import ImageSet
from visus.images.remarks import remark_on_pixels
from visus.images.wordnet_names import with_names
from visus.lazy import named
from visus.paths import expanded
from visus.spec import Spec, check_address, parse_spec, unknown


@dataclass(frozen=True)
class Loader:
    """What makes an image set of a spec. path: 'module:function', imported when its name is first asked for, since some bring libraries
    that take seconds. takes: what it is given besides the spec, of labels, classes and download. It raises VisusError."""

    path: str
    takes: tuple[str, ...] = ()


_KNOWN = Loader("visus.images.known:load_known", ("download",))
# A trailing colon marks a scheme: whatever follows it is the loader's to read.
LOADERS = {
    "folder:": Loader("visus.images.folder:load_folder", ("labels", "classes")),
    "parquet:": Loader("visus.images.hub:load_tables"),
    "hf:": Loader("visus.images.hub:load_hub", ("download",)),
    "cifar10": _KNOWN,
    "cifar100": _KNOWN,
    "stl10": _KNOWN,
    "mnist": _KNOWN,
    "fashion-mnist": _KNOWN,
    "visus:digits": Loader("visus.images.digits:load_digits"),
    "visus:emoji": Loader("visus.images.emoji:load_emoji"),
}
SCHEMES = ("folder", "parquet", "hf", "visus")
TABLES = (".parquet", ".arrow")
TABLED = ("folder:", "parquet:", "hf:")
CLASSES = ("needed", "wanted", "unused")


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
    loader = LOADERS[key]
    given = {"labels": None if labels is None else expanded(labels), "classes": classes, "download": download}
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
    images: ImageSet = named(loader.path)(parsed, **{name: given[name] for name in loader.takes})
    if key.endswith(":"):  # files of anybody's; the known sets are bytes
        remark_on_pixels(images)
        images = with_names(images, expanded(parsed.name) if key in ("folder:", "parquet:") else None)
    return images


def _parse(spec: str) -> Spec:
    text = str(spec)
    check_address(text)
    # A path that exists is taken as it stands, even with a '?' or a colon in it.
    if (
        text.strip()
        and not any(text.startswith(f"{scheme}:") for scheme in SCHEMES)
        and text not in LOADERS
        and _exists(text)
    ):
        return Spec("parquet" if text.lower().endswith(TABLES) else "folder", text, None, {}, text)
    parsed = parse_spec(text, SCHEMES, revisions=("hf",))
    if not parsed.scheme and parsed.name not in LOADERS and _exists(parsed.name):
        scheme = "parquet" if parsed.name.lower().endswith(TABLES) else "folder"
        return Spec(scheme, parsed.name, None, parsed.options, text)
    return parsed


def _exists(text: str) -> bool:
    try:
        return expanded(text).exists()
    except (OSError, ValueError):  # a name too long for the file system, or one with a null byte
        return False


def _key(spec: Spec) -> str:
    if f"{spec.scheme}:" in LOADERS:
        return f"{spec.scheme}:"
    name = f"{spec.scheme}:{spec.name}" if spec.scheme else spec.name
    if name in LOADERS:
        return name
    if not spec.scheme and (any(mark in spec.name for mark in "/\\~") or spec.name.startswith(".")):
        raise SpecError(f"there is no folder or file {spec.name!r}; check the path")
    names = [n for n in LOADERS if not n.endswith(":")]
    raise unknown("images", name, names, "or a path to a folder, folder:PATH, parquet:PATH, hf:owner/name")
