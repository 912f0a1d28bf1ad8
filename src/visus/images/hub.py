"""Hugging Face data sets (`hf:owner/name`) and local Parquet or Arrow files, through `datasets`; pictures stay encoded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.utils
from datasets import Dataset, DatasetDict, get_dataset_config_names, load_dataset
from datasets import config as settings
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from datasets.naming import camelcase_to_snakecase
from datasets.packaged_modules.cache.cache import Cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from visus import paths
from visus.errors import DataError, OfflineError, SpecError
from visus.images.base import ImageSet
from visus.images.download import reachable
from visus.images.hub_layout import ENDINGS, SPLITS, TableLayout, choose, layout_of
from visus.images.reading import is_permanent, read_failed
from visus.images.tables import OPTIONS, Part, build
from visus.paths import expanded
from visus.progress import caution, note, task
from visus.spec import Spec, check_options


def load_tables(spec: Spec) -> ImageSet:
    """A Parquet or Arrow file, or a folder of them (`parquet:PATH`); files or subfolders named train, validation, test are splits.

    Options: image=COLUMN, label=COLUMN, groups=COLUMN, split=NAME, config=NAME. A folder with a data set's card (README.md), or with subfolders
    that each have splits of their own, has several configurations, of which one is read. Raises DataError where there is no such path, no
    image column, no row, several configurations and none chosen.
    """
    check_options(spec, OPTIONS)
    root = expanded(spec.name)
    if root.is_file():
        return build(spec, [Part("", _opened(root), (root,))], {})
    layout = layout_of(root) if root.is_dir() else TableLayout({})
    if not layout.configs:
        what = "holds no .parquet or .arrow file" if root.is_dir() else "does not exist"
        raise DataError(f"{spec.name} {what}; check the path")
    wanted = spec.options.get("config")
    if wanted is None and len(layout.configs) > 1 and not any(s for splits in layout.configs.values() for s in splits):
        # Subfolders without a split among them are a way to keep many files.
        return build(spec, _load({"": tuple(f for splits in layout.configs.values() for f in splits[""])}), {})
    config = choose(layout, wanted, name=spec.name, how="parquet:PATH?config={}")
    for doubt in layout.doubts.get(config, ()):
        caution(f"{spec.text}: {doubt}.")
    return build(spec, _load(layout.configs[config]), layout.names.get(config or "default", {}))


def load_hub(spec: Spec, *, download: bool) -> ImageSet:
    """A data set of the Hugging Face hub: from the caches of this machine, else downloaded when `download` is given.

    `hf:owner/name@CONFIG` or `hf:owner/name@REVISION`; options config=NAME, split=NAME, image=COLUMN, label=COLUMN, groups=COLUMN. Configurations are
    never merged: of several, one must be chosen. Splits named train, validation and test become declared ones. Raises
    OfflineError within 5 s when it is not here and may not or cannot be fetched; DataError listing the configurations.
    """
    check_options(spec, OPTIONS)
    found = _cached(spec)
    if found is not None:
        return build(spec, *found)
    if not download:
        raise OfflineError(f"{spec.text} is not on this machine; pass --download, or {_by_hand(spec)}")
    return build(spec, _downloaded(spec), {})


def _by_hand(spec: Spec) -> str:
    return f"fetch its Parquet files elsewhere and give their folder as parquet:PATH (hf download {spec.name} --repo-type dataset)"


def _opened(file: Path) -> Any:
    try:
        if file.suffix.lower() == ".arrow":
            return Dataset.from_file(str(file))
        return Dataset.from_parquet(str(file), cache_dir=str(paths.home() / "datasets"))
    except (DatasetGenerationError, OSError, ValueError) as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno is not None and not is_permanent(cause):
                raise read_failed(str(file), cause.strerror or str(cause)) from error
            cause = cause.__cause__
        raise DataError(f"cannot read {file}: damaged or not a table; remove it or fetch it again") from error


def _load(splits: Mapping[str, tuple[Path, ...]]) -> list[Part]:
    parts = []
    with task("reading tables", sum(map(len, splits.values()))) as t:
        for split, files in splits.items():
            for file in files:
                parts.append(Part(split, _opened(file), (file,)))
                t.advance()
    return parts


Tables = tuple[list[Part], dict[str, tuple[str, ...]]]


def _cached(spec: Spec) -> Tables | None:
    """From what `datasets` or the hub's client have kept on this machine; None when they have nothing. Asks no network."""
    wanted, revision = spec.options.get("config"), spec.revision
    layout = _snapshot(spec, None)
    kept = _kept(spec)
    names = {*kept, *(layout.configs if layout else ())}
    if revision is not None and wanted is None and revision in (names if names != {""} else {"default"}):
        if _snapshot(spec, revision) is not None:
            raise SpecError(
                f"{spec.name} has a configuration and a revision {revision!r}; choose with ?config={revision}"
            )
        wanted, revision = revision, None
    elif revision is not None:
        layout, kept = _snapshot(spec, revision), []
        if layout is None and wanted is None and names:
            said = ", ".join(sorted(name or "default" for name in names))
            raise DataError(
                f"hf:{spec.name} has no configuration and no revision {revision!r} on this machine; its configurations: {said}"
            )
        if layout is None:
            return None
    if layout is None and not kept:
        return None
    both = TableLayout(
        {**{k: {} for k in kept}, **(layout.configs if layout else {})}, layout.chosen if layout else None
    )
    config = choose(both, wanted, name=f"hf:{spec.name}", how=f"hf:{spec.name}@{{}}")
    if len(both.configs) > 1:
        note(f"configuration: {config or 'default'} of {', '.join(k or 'default' for k in sorted(both.configs))}")
    if layout is not None and config in layout.configs:
        if doubts := layout.doubts.get(config):
            raise DataError(
                f"hf:{spec.name} is not whole: {'; '.join(doubts)}; fetch the rest, or give its folder as parquet:PATH to use what is here"
            )
        return _load(layout.configs[config]), dict(layout.names.get(config or "default", {}))
    return _from_kept(spec, config), {}


def _snapshot(spec: Spec, revision: str | None) -> TableLayout | None:
    """The layout of a snapshot in the hub's cache; None where it is not here. Raises DataError where it holds no tables."""
    try:
        root = Path(
            huggingface_hub.snapshot_download(spec.name, repo_type="dataset", revision=revision, local_files_only=True)
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise SpecError(f"{spec.text!r} is no name of the hub; write hf:owner/name") from error
    layout = layout_of(root)
    if layout.configs:
        return layout
    if any(p.is_file() and p.name.lower() != "readme.md" and not p.name.startswith(".") for p in root.rglob("*")):
        raise DataError(
            f"hf:{spec.name} is here, but holds no {' or '.join(ENDINGS)} file; fetch its revision "
            f"refs/convert/parquet, or give its images as folder:{root}"
        )
    return None


def _kept(spec: Spec) -> list[str]:
    """The configurations that `datasets` has built on this machine."""
    owner, _, name = spec.name.rpartition("/")
    folder = "___".join([*([owner] if owner else []), camelcase_to_snakecase(name)])
    builds = expanded(settings.HF_DATASETS_CACHE) / folder
    return sorted({p.parents[2].name for p in builds.glob("*/*/*/dataset_info.json")})


def _from_kept(spec: Spec, name: str) -> list[Part]:
    try:
        builder = Cache(
            cache_dir=str(settings.HF_DATASETS_CACHE), dataset_name=spec.name.rpartition("/")[2], repo_id=spec.name,
            config_name=name, version="auto", hash="auto",
        )  # fmt: skip
        tables = dict(builder.as_dataset())
    except (ValueError, OSError) as error:
        raise DataError(f"{spec.text}: what `datasets` keeps of it cannot be read; remove it from its cache") from error
    return _parts(tables)


def _parts(tables: dict[str, Any]) -> list[Part]:
    """Tables of `datasets` by split, with the files where each lies."""
    return [
        Part(SPLITS.get(split.lower(), split), table, tuple(Path(f["filename"]) for f in table.cache_files))
        for split, table in tables.items()
    ]


def _downloaded(spec: Spec) -> list[Part]:
    if settings.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise OfflineError(
            f"{spec.text} is not on this machine and HF_HUB_OFFLINE forbids fetching it; unset it, or {_by_hand(spec)}"
        )
    if reason := reachable(settings.HF_ENDPOINT):
        raise OfflineError(f"cannot fetch {spec.text} from {settings.HF_ENDPOINT} ({reason}); {_by_hand(spec)}")
    # The hub's HTTP library has changed its name from one version to the next; its errors are no OSErrors.
    client = getattr(huggingface_hub.utils, "httpx", None)
    transport = (client.HTTPError,) if client is not None else ()
    try:
        wanted, revision = spec.options.get("config"), spec.revision
        if revision is not None and wanted is None and revision in get_dataset_config_names(spec.name):
            wanted, revision = revision, None
        known = TableLayout({name: {} for name in get_dataset_config_names(spec.name, revision=revision)})
        chosen = choose(known, wanted, name=f"hf:{spec.name}", how=f"hf:{spec.name}@{{}}")
        loaded = load_dataset(spec.name, chosen, revision=revision)
    except DatasetNotFoundError as error:
        raise SpecError(f"the hub has no data set {spec.name!r}, or it is not open to you; check the name") from error
    except (*transport, HfHubHTTPError, OSError) as error:
        raise OfflineError(
            f"fetching {spec.text} failed ({type(error).__name__}); try again to resume, or {_by_hand(spec)}"
        ) from error
    except (DatasetGenerationError, ValueError) as error:
        raise DataError(f"{spec.text}: {str(error).splitlines()[0][:200]}") from error
    return _parts(dict(loaded) if isinstance(loaded, DatasetDict) else {"train": loaded})
