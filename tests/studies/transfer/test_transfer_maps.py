"""Maps of layers: which images are drawn and what is kept of each map, with drawing itself stood in for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.studies.told import check
from tests.studies.transfer.layer_samples import images, score

from visus.studies.transfer import maps

TRUST = SimpleNamespace(trustworthiness=0.9, neighbours_kept=0.4)


def drawn(x: np.ndarray, *, seed: int, threads: int) -> dict[str, Any]:
    """In place of t-SNE and UMAP: the first two columns, so that the rows can be told."""
    z = x[:, :2].astype(np.float32)
    return {
        "tsne": SimpleNamespace(z=z, settings={"pca": x.shape[1]}, notes=["perplexity lowered"], trust=TRUST),
        "umap": SimpleNamespace(z=-z, settings={"pca": x.shape[1]}, notes=[], trust=None),
    }


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "layer_maps", drawn)
    monkeypatch.setattr(maps, "thumbnails", lambda images, rows, size: np.zeros((len(rows), size, size, 3), np.uint8))


def measured(*layers: tuple[str, str], n_test: int = 12, seed: int = 0) -> maps.MapsMeasures:
    """Of (model, tap) pairs; the first value of a feature vector is the image's row."""
    data = images(n_test)
    data.y[:] = np.random.default_rng(2).integers(0, 3, len(data.y))  # no pattern that other rows repeat
    scores = [score(data, tap, 0.5, model=model) for model, tap in layers]
    x = np.stack([np.arange(len(data.y)), data.y, np.zeros(len(data.y))], axis=1).astype(np.float32)
    return maps.measure(data, scores, {(s.model, s.tap): x for s in scores}, seed=seed)


def test_only_test_images_are_drawn_each_with_its_own_name_and_label() -> None:
    m = measured(("a", "early"))
    rows = m.maps[0].points[:, 0].astype(int)
    assert rows.tolist() == list(range(60, 72))
    assert m.ids == tuple(f"{i:03}.png" for i in rows)
    assert m.labels.tolist() == m.maps[0].points[:, 1].astype(int).tolist()
    assert len(m.thumbnails) == 12


def test_of_many_test_images_a_seeded_sample_is_drawn_the_same_for_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "MOST", 7)
    m = measured(("a", "early"), ("a", "late"))
    first, second, *_ = (one.points[:, 0].astype(int).tolist() for one in m.maps)
    assert first == second == sorted(set(first))
    assert len(first) == 7
    assert min(first) >= 60
    assert m.ids == tuple(f"{i:03}.png" for i in first)
    assert m.ids == measured(("a", "early")).ids
    assert m.ids != measured(("a", "early"), seed=1).ids


def test_layers_of_one_method_stand_side_by_side() -> None:
    m = measured(("a", "early"), ("a", "late"))
    assert [(one.method, one.tap) for one in m.maps] == [
        ("tsne", "early"), ("tsne", "late"), ("umap", "early"), ("umap", "late")
    ]  # fmt: skip
    assert not m.several
    assert len({f.key for f in check(maps, m).figures}) == 4


def test_a_map_keeps_its_notes_its_dimensions_and_its_trust_where_there_is_one() -> None:
    m = measured(("a", "late"), ("b", "late"))
    tsne, umap = m.maps[0], m.maps[2]
    assert (tsne.pca, tsne.notes, umap.notes) == (3, ("perplexity lowered",), ())
    assert tsne.trust == {"trustworthiness": 0.9, "neighbours_kept": 0.4}
    assert umap.trust == {}
    assert m.several
    assert [x.key for x in check(maps, m).metrics] == [
        f"{model}/late/tsne/{name}" for model in "ab" for name in ("trustworthiness", "neighbours-kept")
    ]
