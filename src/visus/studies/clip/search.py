"""What lies nearest to a text or an image: the quickest way to see what a space holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visus.errors import DataError
from visus.figures import Gallery
from visus.images import ImageSet, Quarantined
from visus.images.gather import FILES, gather
from visus.images.thumbnails import thumbnails
from visus.measures.knn import top_k
from visus.measures.rows import unit_rows
from visus.models.dual import DualEncoder
from visus.models.dual_reading import warn_of_spelled
from visus.paths import expanded
from visus.result import AnyFigure, Column, Finding, Metric, Table, key_of
from visus.studies.clip.encoding import embed
from visus.studies.clip.texts import warn_of_cuts

KEY = "search"
QUESTION = "What lies nearest to each query?"
SIDE = 96


@dataclass(frozen=True)
class Hit:
    """An image near a query, place 1 the nearest. text: its first caption, or its name. label: its class, or None."""

    query: str
    place: int
    id: str
    text: str
    label: str | None
    cosine: float


@dataclass(frozen=True)
class Nearest:
    """The hits of one query, nearest first; mean: its cosine with all images, on average."""

    query: str
    hits: tuple[Hit, ...]
    mean: float


@dataclass(frozen=True)
class SearchMeasures:
    """name: of the space. n: images searched. pictures: uint8 [hits, s, s, 3], of all queries' hits in order. warnings: of the queries' texts.
    quarantine: what could not be searched."""

    name: str
    n: int
    nearest: tuple[Nearest, ...]
    pictures: np.ndarray
    warnings: tuple[str, ...] = ()
    quarantine: tuple[Quarantined, ...] = ()

    @property
    def hits(self) -> tuple[Hit, ...]:
        """Of all queries."""
        return tuple(hit for one in self.nearest for hit in one.hits)


def measure(
    encoder: DualEncoder, imageset: ImageSet, queries: Sequence[str], *, shown: int, device: str, download: bool
) -> SearchMeasures:
    """The `shown` nearest images to every query, by cosine. A query that names an image file is an image, any other a text.

    Raises DataError for an empty query or one that looks like a file and is none.
    """
    vectors = np.concatenate([_vector(encoder, q, device=device, download=download) for q in queries])
    embedded = embed(encoder, imageset, device=device)
    found = top_k(vectors, embedded.vectors, min(shown, len(embedded.vectors)))
    means = unit_rows(vectors) @ unit_rows(embedded.vectors).mean(axis=0)
    rows = embedded.rows[found.indices]
    nearest = []
    for query, at, cosines, mean in zip(queries, rows, found.similarities, means, strict=True):
        hits = (
            _hit(imageset, query, k + 1, int(i), float(c)) for k, (i, c) in enumerate(zip(at, cosines, strict=True))
        )
        nearest.append(Nearest(query, tuple(hits), float(mean)))
    written = [q for q in queries if not _is_image(q)]
    warnings = warn_of_cuts(encoder, written, "queries")
    warn_of_spelled(encoder.words, written, "queries")
    return SearchMeasures(
        encoder.spec,
        len(embedded.vectors),
        tuple(nearest),
        thumbnails(imageset, rows.reshape(-1), SIDE),
        tuple(warnings),
        embedded.quarantine,
    )


def _hit(imageset: ImageSet, query: str, place: int, i: int, cosine: float) -> Hit:
    text = imageset.captions[i][0] if imageset.captions is not None else imageset.ids[i]
    label = None if imageset.labels is None else imageset.classes[imageset.labels[i]]
    return Hit(query, place, imageset.ids[i], text, label, cosine)


def _is_image(query: str) -> bool:
    return Path(query).suffix.lower() in FILES


def _vector(encoder: DualEncoder, query: str, *, device: str, download: bool) -> np.ndarray:
    """float32 [1, d]."""
    if _is_image(query):
        if not expanded(query).is_file():
            raise DataError(f"there is no file {query}; check the path")
        image, _ = gather([query], limit=None, seed=0, download=download)
        return encoder.encode_images(image, device=device)
    return encoder.encode_texts([query], device=device)


def cosine_key(m: SearchMeasures, k: int) -> str:
    """Of the nearest image of the k-th query, from 0."""
    return key_of(m.name, "search", f"query-{k + 1}", "cosine")


def metrics(m: SearchMeasures) -> tuple[Metric, ...]:
    """The cosine of each query's nearest image."""
    return tuple(
        Metric(cosine_key(m, k), one.hits[0].cosine, n=m.n, split="all", label=f"cosine of the nearest image to {one.query!r}")
        for k, one in enumerate(m.nearest)
    )  # fmt: skip


def tables(m: SearchMeasures) -> tuple[Table, ...]:
    """Every hit of every query."""
    return (
        Table(
            key="found",
            title="Nearest images",
            columns=(
                Column("query", "query"), Column("place", "place"), Column("image", "image"), Column("text", "text"),
                Column("class", "class"), Column("cosine", "cosine"),
            ),
            rows=[(h.query, h.place, h.id, h.text, h.label, h.cosine) for h in m.hits],
            note="Cosines of texts and of pictures are not comparable: see the gap.",
        ),
    )  # fmt: skip


def figures(m: SearchMeasures) -> tuple[AnyFigure, ...]:
    """The hits, a row a query."""
    return (
        Gallery(
            key="found",
            title="Nearest images",
            caption=f"By cosine in the space of {m.name}, nearest first, of {m.n:,} images.",
            images=m.pictures,
            captions=[f"{h.cosine:.2f} {h.text}" for h in m.hits],
            groups=[h.query for h in m.hits],
        ),
    )


def findings(m: SearchMeasures) -> tuple[Finding, ...]:
    """The nearest image of every query, beside the mean over all."""
    return tuple(
        Finding(
            f"Nearest to {one.query!r}: {one.hits[0].text} (cosine {one.hits[0].cosine:.2f}; the mean over all {m.n:,} images is {one.mean:.2f}).",
            (cosine_key(m, k),),
            ("found",),
        )
        for k, one in enumerate(m.nearest)
    )
