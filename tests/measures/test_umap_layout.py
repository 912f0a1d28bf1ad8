"""UMAP in parts against umap-learn whole: its graph, its layout, what its loading leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from visus.measures import maps, trust_figures
from visus.measures.umap_layout import fuzzy_graph, umap_layout

FRESH = """
import sys
import numpy as np
from visus.measures import umap_map
z = umap_map(np.random.default_rng(0).standard_normal((60, 5)))
assert np.isfinite(z.z).all()
print([m for m in sys.modules if m.split(".")[0] in ("umap", "pynndescent")])
import umap
assert umap.UMAP and umap.distances and umap.layouts
"""


def _neighbours(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    index, distance = maps.exact_neighbours(x, k - 1)
    own = np.arange(len(x))[:, None]
    return np.concatenate([own, index], 1), np.concatenate([0.0 * own, distance], 1).astype(np.float32)


def _data(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    if kind == "duplicates":
        return np.repeat(rng.standard_normal((n // 5, 6)), 5, axis=0).astype(np.float32)
    apart = {"overlapping": 1.0, "apart": 8.0}[kind]
    return (apart * rng.standard_normal((6, 20))[rng.integers(0, 6, n)] + rng.standard_normal((n, 20))).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("kind", "n"), [("overlapping", 300), ("apart", 200), ("duplicates", 150), ("overlapping", 60)]
)
def test_graph_and_layout_are_those_of_umap_learn(kind: str, n: int) -> None:
    x = _data(kind, n)
    index, distance = _neighbours(x, 15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import umap  # after the filter: it warns of TensorFlow

        # A given start: eigenvectors differ in their last bit from call to call, and from there the layouts go apart.
        start = maps.pca(x, dims=2).z
        start = start + 1e-3 * np.random.default_rng(0).standard_normal(start.shape).astype(np.float32)
        settings = {"n_neighbors": 15, "min_dist": 0.1, "random_state": 3, "n_jobs": 1}
        peer = umap.UMAP(precomputed_knn=(index.copy(), distance.copy()), init=start, **settings).fit(x)
        spectral = umap.UMAP(precomputed_knn=(index.copy(), distance.copy()), **settings).fit_transform(x)
        graph = fuzzy_graph(index, distance)
        same = umap_layout(x, peer.graph_.copy(), min_dist=0.1, seed=3, start=start)
        ours = umap_layout(x, graph, min_dist=0.1, seed=3)
    assert abs(graph - peer.graph_).max() < 1e-5
    # From one graph and one start the same layout, bit by bit; from its own spectral start one as good.
    assert np.array_equal(same, peer.embedding_)
    mine, theirs = trust_figures(x, [ours, spectral], k=10)
    assert mine.trustworthiness == pytest.approx(theirs.trustworthiness, abs=0.02)
    assert mine.neighbours_kept == pytest.approx(theirs.neighbours_kept, abs=0.06)


def test_loading_leaves_no_umap_behind_and_a_home_that_cannot_be_written_is_no_matter(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for home in (tmp_path / "home", blocked):
        run = subprocess.run(
            [sys.executable, "-c", FRESH], capture_output=True, text=True, check=False, env=_environment(home)
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip() == "[]"
    assert list((tmp_path / "home" / "caches" / "numba").rglob("*.nbi"))


def _environment(home: Path) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {"VISUS_HOME": str(home)}
