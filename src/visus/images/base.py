"""ImageSet: what is looked at. An immutable, lazily decoded sequence of pictures with labels, groups and captions."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import xxhash
from PIL import Image

from visus.errors import ReadError
from visus.images.check import check
from visus.images.decode import decode
from visus.images.deep import ValueRange
from visus.images.errors import GoneError
from visus.images.protocols import Source
from visus.images.reading import retrying
from visus.images.split import Splits, sampled, split
from visus.images.value_range import measure_range


@dataclass(frozen=True)
class Quarantined:
    """A picture set aside: its id (as the user knows it: relative path, row) and the reason in a few words."""

    id: str
    reason: str


class SharedRange:
    """The range of values of a source's deep images, measured once for all its subsets. known: None until it is asked for."""

    def __init__(self, known: ValueRange | None = None) -> None:
        self.known, self.lock = known, threading.Lock()

    def __reduce__(self) -> tuple[type[SharedRange], tuple[ValueRange | None]]:
        return (SharedRange, (self.known,))


@dataclass(frozen=True)
class ImageSet:
    """An immutable, lazily decoded sequence of images.

    name: the spec it came from. source: where pixels come from. rows: int64 [n], position of each item in the source.
    ids: n unique names. labels: int64 [n] into classes, or None. groups: int64 [n], what must not straddle a split, or
    None. captions: n tuples of texts, or None. declared: split name ('train', 'validation', 'test') -> int64 positions in
    this set, empty when the set declares none. quarantine: files set aside when loading. meta: further columns by name.
    shared_range: the range of the whole source's values, shared by all its subsets. wordnet: the WordNet id of each class ('' of one
    without), where classes are named by such ids.
    """

    name: str
    source: Source
    rows: np.ndarray
    ids: tuple[str, ...]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    captions: tuple[tuple[str, ...], ...] | None = None
    declared: Mapping[str, np.ndarray] = field(default_factory=dict)
    quarantine: tuple[Quarantined, ...] = ()
    meta: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shared_range: SharedRange = field(default_factory=SharedRange, compare=False, repr=False)
    wordnet: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a set that contradicts itself. Raises DataError."""
        check(self)

    def __len__(self) -> int:
        return len(self.rows)

    def decode(self, i: int) -> Image.Image:
        """The i-th picture the way a person sees it: RGB, upright, first frame, on white.

        Raises DecodeError; ReadError where the disk or memory fails, which is never held against the picture.
        """
        try:
            raw = retrying(lambda: self.source.read(int(self.rows[i])), self.ids[i])
        except OSError as error:
            raise GoneError(f"cannot be read: {error.strerror or error}") from error
        try:
            return decode(raw, value_range=self.value_range)
        except ReadError as error:
            raise ReadError(f"{self.ids[i]}: {error}") from error

    def value_range(self) -> ValueRange:
        """The range of values of all pictures of the source with more than 8 bits: measured when it is first asked for, then known."""
        with self.shared_range.lock:
            if self.shared_range.known is None:
                self.shared_range.known = measure_range(self.source)
            return self.shared_range.known

    @cached_property
    def source_digest(self) -> str:
        """Content hash of the whole source: the same for the set and all its subsets."""
        return self.source.digest()

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of the pictures in order and their ids (the cache's key). Labels are not part of it."""
        h = xxhash.xxh3_128(self.source_digest.encode())
        h.update(np.ascontiguousarray(self.rows, dtype=np.int64).tobytes())
        for name in self.ids:
            h.update(name.encode("utf-8", "surrogateescape") + b"\0")
        return str(h.hexdigest())

    def subset(self, indices: np.ndarray) -> ImageSet:
        """The pictures at `indices` (int64 or bool), in that order; declared splits are carried over."""
        indices = np.asarray(indices)
        if indices.dtype == bool:
            indices = np.flatnonzero(indices)
        indices = indices.astype(np.int64)
        where = np.full(len(self), -1, np.int64)
        where[indices] = np.arange(len(indices))
        declared = {name: where[at][where[at] >= 0] for name, at in self.declared.items()}
        return replace(
            self,
            rows=self.rows[indices],
            ids=tuple(self.ids[i] for i in indices),
            labels=None if self.labels is None else self.labels[indices],
            groups=None if self.groups is None else self.groups[indices],
            captions=None if self.captions is None else tuple(self.captions[i] for i in indices),
            declared=declared,
            meta={key: [column[i] for i in indices] for key, column in self.meta.items()},
        )

    def limit(self, n: int | None, *, seed: int, by_class: bool = False) -> ImageSet:
        """At most n pictures: a class-stratified random sample (every class keeps its share), in the original order.

        Declared splits keep their shares as well. n None or >= len: the set itself. Raises DataError when n < 1.
        """
        chosen = sampled(self, n, seed=seed, by_class=by_class)
        return self if chosen is None else self.subset(chosen)

    def split(self, *, seed: int) -> Splits:
        """Train, validation folds and test by protocol P0 (see visus.images.split.Splits)."""
        return split(self, seed=seed)
