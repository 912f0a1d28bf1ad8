"""Trust figures against scikit-learn and a slow loop; PCA, t-SNE and UMAP on planted clusters, seeded and small."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness as sk_trustworthiness

from visus.errors import DataError
from visus.measures import (
    layer_maps,
    maps,
    neighbours_kept,
    pca,
    trust,
    trust_figures,
    trustworthiness,
    tsne_map,
    umap_map,
)


def _blobs(n: int = 120, d: int = 20, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return (8 * rng.standard_normal((classes, d))[y] + rng.standard_normal((n, d))).astype(np.float32), y


def _slow_kept(x: np.ndarray, z: np.ndarray, k: int) -> float:
    def near(a: np.ndarray) -> list[set[int]]:
        gaps = ((a[:, None].astype(float) - a[None].astype(float)) ** 2).sum(axis=2)
        np.fill_diagonal(gaps, np.inf)
        return [set(row[:k].tolist()) for row in np.argsort(gaps, axis=1, kind="stable")]

    return float(np.mean([len(a & b) / k for a, b in zip(near(x), near(z), strict=True)]))


@pytest.mark.parametrize("k", [1, 10, 40])
@pytest.mark.parametrize("blocks", [False, True])
def test_trust_is_that_of_scikit_learn_and_of_sets(k: int, blocks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if blocks:
        monkeypatch.setattr(trust, "block_rows", lambda _: 23)
    rng = np.random.default_rng(k)
    x = rng.standard_normal((203, 12))
    z = x[:, :2] + 0.5 * rng.standard_normal((203, 2))
    assert trustworthiness(x, z, k=k) == pytest.approx(sk_trustworthiness(x, z, n_neighbors=k), abs=1e-9)
    assert neighbours_kept(x, z, k=k) == pytest.approx(_slow_kept(x, z, k), abs=1e-12)


def test_trust_of_planted_maps() -> None:
    rng = np.random.default_rng(1)
    flat = rng.standard_normal((300, 2))
    lifted = flat @ np.linalg.qr(rng.standard_normal((9, 9)))[0][:2] + 3
    faithful, random = trust_figures(lifted, [flat, rng.standard_normal((300, 2))], k=10)
    assert (faithful.trustworthiness, faithful.neighbours_kept) == (1.0, 1.0)
    assert random.trustworthiness == pytest.approx(0.5, abs=0.03)
    assert random.neighbours_kept == pytest.approx(10 / 299, abs=0.015)


@pytest.mark.parametrize("shape", [(90, 12), (30, 80)])
def test_pca_is_that_of_scikit_learn_up_to_sign(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(2).standard_normal(shape) * np.linspace(1, 4, shape[1]) + 7
    found, peer = pca(x, dims=6), PCA(6, svd_solver="full").fit(x)
    np.testing.assert_allclose(np.abs(found.z), np.abs(peer.transform(x)), atol=1e-4)
    np.testing.assert_allclose(found.explained, peer.explained_variance_ratio_, rtol=1e-5)
    assert (found.z[np.abs(found.z).argmax(axis=0), range(6)] > 0).all()


def test_wide_and_long_pca_is_randomised_and_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _blobs(200, 60)[0]
    exact = pca(x, dims=3)
    monkeypatch.setattr(maps, "EXACT_WIDTH", 10)
    rough = pca(x, dims=3, seed=1)
    np.testing.assert_allclose(rough.z, exact.z, atol=0.05)
    assert np.array_equal(rough.z, pca(x, dims=3, seed=1).z)


def test_neighbours_for_the_maps_are_exact() -> None:
    x = _blobs(150, 6)[0] + 50
    index, distance = maps.exact_neighbours(x, 12)
    gaps = np.sqrt(((x[:, None].astype(float) - x[None]) ** 2).sum(axis=2))
    np.fill_diagonal(gaps, np.inf)
    np.testing.assert_allclose(distance, np.sort(gaps, axis=1)[:, :12], rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(gaps, index, 1), distance, rtol=1e-9)


def test_maps_keep_planted_clusters_are_seeded_and_carry_their_trust() -> None:
    x, y = _blobs()
    made = layer_maps(x, seed=3, threads=1)
    assert list(made) == ["tsne", "umap"]
    for found in made.values():
        assert found.z.shape == (120, 2)
        assert np.isfinite(found.z).all()
        gaps = ((found.z[:, None] - found.z[None]) ** 2).sum(axis=2)
        np.fill_diagonal(gaps, np.inf)
        assert (y[gaps.argmin(axis=1)] == y).mean() == 1.0
        assert found.trust is not None
        assert found.trust.trustworthiness == pytest.approx(sk_trustworthiness(x, found.z, n_neighbors=10), abs=1e-6)
        assert found.trust.trustworthiness > 0.9
        assert found.trust.neighbours_kept > 0.3
    assert np.array_equal(made["tsne"].z, tsne_map(x, seed=3, threads=1).z)
    assert np.array_equal(made["umap"].z, umap_map(x, seed=3).z)
    assert not np.array_equal(made["umap"].z, umap_map(x, seed=4).z)


def test_both_gradients_of_tsne_are_seeded_and_reach_one_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _blobs(200)[0]
    tree = tsne_map(x, seed=1, threads=1)
    monkeypatch.setattr(maps, "FFT_FROM", 1)
    grid = tsne_map(x, seed=1, threads=1)
    assert (tree.settings["gradient"], grid.settings["gradient"]) == ("bh", "fft")
    assert np.array_equal(grid.z, tsne_map(x, seed=1, threads=1).z)
    assert tree.kl_divergence is not None
    assert grid.kl_divergence == pytest.approx(tree.kl_divergence, rel=0.1)


@pytest.mark.parametrize("n", [5, 6, 12, 51])
def test_few_images_shrink_the_settings_and_say_so(n: int) -> None:
    x = _blobs(n, 7, 2)[0]
    by_tsne, by_umap = tsne_map(x, iterations=50, early_iterations=50, threads=1), umap_map(x)
    assert by_tsne.z.shape == by_umap.z.shape == (n, 2)
    assert np.isfinite(by_tsne.z).all()
    assert np.isfinite(by_umap.z).all()
    assert by_tsne.settings["perplexity"] == pytest.approx((n - 1) / 3)
    assert "perplexity" in by_tsne.notes[0]
    assert by_umap.settings["neighbours"] == min(15, n - 1)
    assert bool(by_umap.notes) == (n <= 15)


def test_duplicates_constants_and_one_feature_are_drawn() -> None:
    for x in (np.ones((20, 4)), np.repeat(np.eye(2), 30, axis=0), np.arange(30.0)[:, None]):
        for found in layer_maps(x, threads=1).values():
            assert np.isfinite(found.z).all()
            assert found.trust is not None


def test_bad_input_is_one_line() -> None:
    x = _blobs()[0]
    hole = x.copy()
    hole[3, 3] = np.nan
    for call in (
        lambda: tsne_map(x[:4]),
        lambda: umap_map(x[:4]),
        lambda: tsne_map(hole),
        lambda: umap_map(x, neighbours=1),
        lambda: tsne_map(x, perplexity=0),
        lambda: layer_maps(x, methods=("pacmap",)),
        lambda: trustworthiness(x, x[1:, :2]),
        lambda: trustworthiness(x, x[:, :2], k=60),
        lambda: neighbours_kept(x, x[:, :2], k=0),
        lambda: pca(x[:0]),
    ):
        with pytest.raises(DataError) as error:
            call()
        assert "\n" not in str(error.value)
