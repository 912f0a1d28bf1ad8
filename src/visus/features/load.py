"""Loading what was asked for: the store's manifests become one Features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from visus.errors import DataError, StoreError
from visus.features.base import Features
from visus.features.request import Request
from visus.images.base import Quarantined


def load(request: Request, cost: Mapping[str, Any]) -> Features:
    """The features that the store holds of what was asked for. cost: what it took to have them there.

    Raises DataError when not a single image could be decoded, StoreError when the store was changed meanwhile.
    """
    found = request.stored(check=False)
    if found is None:
        raise StoreError(f"{request.root} was changed while it was written; run the same command again")
    first = next(iter(found.values()))
    for manifest in found.values():
        if manifest.quarantine != first.quarantine:
            raise StoreError(
                f"{request.root} holds taps with different rows (files came or went); delete it and run again"
            )
    out = {i for i, _, _ in first.quarantine}
    rows = np.array([i for i in range(len(request.images)) if i not in out], dtype=np.int64)
    if len(rows) == 0:
        raise DataError(
            f"none of the {len(request.images)} images of {request.images.name} can be decoded: {first.quarantine[0][2]}"
        )
    seconds = cost["seconds"]
    return Features(
        folders={tap.name: request.folder(tap) for tap in request.taps},
        rows=rows,
        ids=tuple(request.images.ids[i] for i in rows),
        quarantine=tuple(Quarantined(name, reason) for _, name, reason in first.quarantine),
        cost={
            "engine": first.run.engine,
            "device": first.run.device,
            "batch": first.run.batch,
            "images_per_second": cost["images"] / seconds if seconds else None,
            **cost,
        },
        aliases=dict(request.backbone.aliases),
    )
