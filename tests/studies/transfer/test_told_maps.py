"""What is told of maps, on points made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.studies.told import check

from visus.figures import Map
from visus.studies.transfer import maps
from visus.studies.transfer.maps import LayerMap, MapsMeasures

N = 12
TRUST = {"trustworthiness": 0.91, "neighbours_kept": 0.42}


def one(
    method: str = "tsne", model: str = "a", *, notes: tuple[str, ...] = (), trust: dict[str, float] = TRUST
) -> LayerMap:
    points = np.random.default_rng(0).normal(size=(N, 2)).astype(np.float32)
    return LayerMap(model, "blocks.3", "late (blocks.3)", method, points, 50, notes, trust)


def measures(*found: LayerMap) -> MapsMeasures:
    ids = tuple(f"{i}.png" for i in range(N))
    sprite = np.zeros((N, maps.THUMBNAIL, maps.THUMBNAIL, 3), np.uint8)
    several = len({m.model for m in found}) > 1
    return MapsMeasures(found, np.arange(N) % 2, ids, ("cat", "dog"), sprite, 3, several)


def test_a_map_says_how_it_was_made_and_how_far_to_believe_it() -> None:
    made = check(maps, measures(one()))
    (figure,) = made.figures
    assert isinstance(figure, Map)
    assert figure.key == "tsne/a/blocks.3"
    assert figure.title == "t-SNE: late (blocks.3)"
    assert figure.caption == "t-SNE of 12 test images, after PCA to 50 dimensions, seed 3."
    assert figure.trust == TRUST
    assert [(m.key, m.value, m.n) for m in made.metrics] == [
        ("a/late/tsne/trustworthiness", 0.91, N),
        ("a/late/tsne/neighbours-kept", 0.42, N),
    ]
    assert made.tables == ()
    assert made.findings == ()


@pytest.mark.parametrize(("method", "name"), [("tsne", "t-SNE"), ("umap", "UMAP")])
def test_several_models_are_named(method: str, name: str) -> None:
    made = check(maps, measures(one(method, "a"), one(method, "b")))
    assert [f.title for f in made.figures] == [f"{name}: a · late (blocks.3)", f"{name}: b · late (blocks.3)"]


def test_maps_share_their_thumbnails() -> None:
    first, second = check(maps, measures(one("tsne"), one("umap"))).figures
    assert isinstance(first, Map)
    assert isinstance(second, Map)
    assert first.sprite is second.sprite


def test_notes_are_sentences_of_the_caption_and_a_map_may_lack_trust() -> None:
    made = check(maps, measures(one(notes=("perplexity lowered to 4",), trust={})))
    assert made.figures[0].caption.endswith("seed 3. Perplexity lowered to 4.")
    assert made.metrics == ()
