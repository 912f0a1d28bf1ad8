"""The nearest images of a set to a text or a picture: the quickest way to see what a space holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visus.errors import DataError
from visus.paths import expanded
from visus.studies.common.schema1 import Figure, Result, Table

if TYPE_CHECKING:
    from visus.images import ImageSet
    from visus.models.dual import DualEncoder

SIDE = 96


def search(
    encoder: DualEncoder,
    imageset: ImageSet,
    queries: Sequence[str],
    *,
    shown: int,
    device: str,
    download: bool,
    seed: int,
) -> Result:
    """The `shown` nearest images to every query, by cosine. A query that names a picture file is a picture, any other a text.

    Raises DataError for an empty query or one that looks like a file and is none.
    """
    from visus.images.thumbnails import thumbnails
    from visus.measures.knn import top_k
    from visus.measures.rows import unit_rows
    from visus.models.dual_reading import warn_of_spelled
    from visus.studies.clip.pairs import embed
    from visus.studies.clip.texts import warn_of_cuts

    vectors = np.concatenate([_query(encoder, q, device=device, download=download) for q in queries])
    images, rows, quarantine, _ = embed(encoder, imageset, device=device)
    found = top_k(vectors, images, min(shown, len(images)))
    everyone = unit_rows(images)
    mean = unit_rows(vectors) @ everyone.mean(axis=0)
    groups, captions, cells, said = [], [], [], []
    chosen: list[int] = []
    for k, query in enumerate(queries):
        for place, (i, cosine) in enumerate(zip(found.indices[k], found.similarities[k], strict=True)):
            at = int(rows[i])
            chosen.append(at)
            groups.append(query)
            name = imageset.captions[at][0] if imageset.captions is not None else imageset.ids[at]
            captions.append(f"{float(cosine):.2f} {name}")
            label = None if imageset.labels is None else imageset.classes[imageset.labels[at]]
            cells.append((query, place + 1, imageset.ids[at], name, label, float(cosine)))
        said.append(
            f"Nearest to {query!r}: {captions[-len(found.indices[k])].partition(' ')[2]} (cosine {found.similarities[k][0]:.2f}; "
            f"the mean over all {len(images):,} images is {mean[k]:.2f})."
        )
    figure = Figure(
        "found",
        "gallery",
        "Nearest images",
        f"By cosine in the space of {encoder.spec}, nearest first, of {len(images):,} images.",
        {"images": "found_pictures", "captions": captions, "groups": groups},
    )
    table = Table(
        ("query", "place", "image", "text", "class", "cosine"), tuple(cells), title="Nearest images",
        note="Cosines of texts and of pictures are not comparable: see the gap."
    )  # fmt: skip
    warnings: tuple[str, ...] = (
        (f"The weights of {encoder.spec} are a random initialisation: what is near means nothing.",)
        if encoder.random
        else ()
    )
    written = [q for q in queries if not _is_picture(q)]
    warnings += tuple(warn_of_cuts(encoder, written, "queries"))
    warn_of_spelled(encoder.words, written, "queries")
    if quarantine:
        warnings += (f"{len(quarantine)} files could not be decoded and are not searched.",)
    return Result(
        "clip",
        f"{imageset.name} searched with {encoder.spec}",
        tuple(said),
        {"found": table},
        (figure,),
        {"found_pictures": thumbnails(imageset, np.array(chosen), SIDE)},
        warnings,
        {
            "model": encoder.spec,
            "images": imageset.name,
            "images fingerprint": imageset.fingerprint,
            "queries": list(queries),
            "device": device,
            "seed": seed,
        },
    )


def _is_picture(query: str) -> bool:
    from visus.studies.common.inputs import FILES

    return Path(query).suffix.lower() in FILES


def _query(encoder: DualEncoder, query: str, *, device: str, download: bool) -> np.ndarray:
    """float32 [1, d]."""
    from visus.studies.common.inputs import gather

    if _is_picture(query):
        if not expanded(query).is_file():
            raise DataError(f"there is no file {query}; check the path")
        picture, _ = gather([query], limit=None, seed=0, download=download)
        return encoder.encode_images(picture, device=device)
    return encoder.encode_texts([query], device=device)
