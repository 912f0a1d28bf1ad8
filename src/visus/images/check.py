"""What every image set must fulfil, whoever builds it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from visus.errors import DataError
from visus.images.protocols import ImageColumns


def check(images: ImageColumns) -> None:
    """Raise DataError unless the ids are unique, all columns have one length, and labels and declared splits are in range."""
    n = len(images.rows)
    columns = {"ids": images.ids, "labels": images.labels, "groups": images.groups, "captions": images.captions}
    for what, column in [*columns.items(), *((f"meta {key!r}", c) for key, c in images.meta.items())]:
        if column is not None and len(column) != n:
            raise DataError(f"{images.name}: {len(column)} {what} for {n} images; they must be as many")
    if len(set(images.ids)) != n:
        name, times = Counter(images.ids).most_common(1)[0]
        raise DataError(f"{images.name}: the name {name!r} stands for {times} images; names must be unique")
    if n and (int(np.min(images.rows)) < 0 or int(np.max(images.rows)) >= len(images.source)):
        raise DataError(f"{images.name}: rows outside its source of {len(images.source)} images")
    if images.labels is not None and n:
        low, high = int(np.min(images.labels)), int(np.max(images.labels))
        if low < 0 or high >= len(images.classes):
            raise DataError(
                f"{images.name}: label {low if low < 0 else high} is outside its {len(images.classes)} classes"
            )
    for name, at in images.declared.items():
        if name not in ("train", "validation", "test"):
            raise DataError(f"{images.name}: unknown split {name!r}; declare train, validation or test")
        if len(at) and (int(np.min(at)) < 0 or int(np.max(at)) >= n):
            raise DataError(f"{images.name}: its {name} split points outside the {n} images")
