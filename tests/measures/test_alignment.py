"""Alignment against scipy, an independent judge, and planted truth; the shape of a gap against slow definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes, sqrtm
from scipy.stats import ortho_group
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold

from visus.errors import DataError
from visus.measures.alignment import KINDS, fit, halves, rotation, short_of
from visus.measures.gap import modality_gap
from visus.measures.gap_shape import PairLoss, cone_width, contrastive_loss, gap_shift, raw_gap
from visus.measures.retrieval import average_precision, ranks, recall_at


def clouds(
    n: int = 300, d: int = 12, *, noise: float | None = 0.3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, texts that are a rotated noisy copy of them away from the origin (noise None: that have nothing to do with them), the rotation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + 0.5
    r = ortho_group.rvs(d, random_state=seed)
    y = rng.normal(size=(n, d)) if noise is None else x @ r + noise * rng.normal(size=(n, d))
    return x.astype(np.float32), (y + 0.2).astype(np.float32), r


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def first(images: np.ndarray, texts: np.ndarray) -> float:
    """Recall@1 by a slow loop: the own text beats every other strictly."""
    hits = 0
    for i in range(len(images)):
        scores = [float(images[i] @ t) for t in texts]
        hits += all(scores[i] > s for j, s in enumerate(scores) if j != i)
    return hits / len(images)


def test_procrustes_is_scipys_and_moves_images_by_it() -> None:
    x, y, _ = clouds()
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    r = orthogonal_procrustes(unit(x64), unit(y64))[0]
    assert np.allclose(rotation(unit(x64), unit(y64)), r)
    assert np.allclose(fit("procrustes", x, y).images(x), unit(x64) @ r, atol=1e-12)
    assert np.allclose(fit("procrustes", x, y).texts(y), unit(y64))
    raw = orthogonal_procrustes(x64, y64)[0]
    assert np.allclose(fit("procrustes-raw", x, y).images(x), unit(x64) @ raw, atol=1e-12)


@pytest.mark.parametrize("kind", ["procrustes", "procrustes-raw"])
def test_a_rotation_of_both_sides_changes_no_score_and_no_rank(kind: str) -> None:
    x, y, _ = clouds()
    a = fit(kind, x[:100], y[:100], both=True)
    before, after = unit(x.astype(np.float64)) @ unit(y.astype(np.float64)).T, a.images(x) @ a.texts(y).T
    assert np.abs(before - after).max() < 1e-12
    keys = np.arange(len(x))
    assert (ranks(a.images(x), a.texts(y), keys, keys) == ranks(unit(x), unit(y), keys, keys)).mean() > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_figures_are_those_of_a_reimplementation(kind: str) -> None:
    x, y, _ = clouds(n=120)
    used, others = halves(120, 60, np.arange(120), seed=3)
    a = fit(kind, x[used], y[used])
    ux, uy = (unit(v.astype(np.float64)) for v in (x, y))
    if kind.startswith("procrustes"):
        source = (x[used], y[used]) if kind.endswith("raw") else (ux[used], uy[used])
        u, _, vt = np.linalg.svd(source[0].astype(np.float64).T @ source[1].astype(np.float64))
        images, texts = ux[others] @ (u @ vt), uy[others]
    elif kind == "centring":
        images, texts = unit(ux[others] - ux[used].mean(0) + uy[used].mean(0)), uy[others]
    elif kind == "ridge":
        search = GridSearchCV(
            Ridge(),
            {"alpha": np.logspace(-4, 3, 15)},
            scoring="neg_mean_squared_error",
            cv=KFold(5, shuffle=True, random_state=0),
        ).fit(ux[used], uy[used])
        images, texts = unit(search.predict(ux[others])), uy[others]
    else:

        def whiten(fitted: np.ndarray, new: np.ndarray) -> np.ndarray:
            found = LedoitWolf().fit(fitted)
            return unit((new - fitted.mean(0)) @ np.linalg.inv(sqrtm(found.covariance_)).real)

        r = orthogonal_procrustes(whiten(ux[used], ux[used]), whiten(uy[used], uy[used]))[0]
        images, texts = whiten(ux[used], ux[others]) @ r, whiten(uy[used], uy[others])
    assert np.abs(a.images(x[others]) - images).max() < 1e-6
    assert np.abs(a.texts(y[others]) - texts).max() < 1e-6
    keys = np.arange(len(others))
    assert recall_at(ranks(a.images(x[others]), a.texts(y[others]), keys, keys), 1) == first(images, texts)


@pytest.mark.parametrize("kind", ["procrustes", "ridge", "whitening"])
def test_a_rotated_copy_is_recovered_and_independent_clouds_are_not(kind: str) -> None:
    x, y, _ = clouds(n=400, d=32, noise=0.2)
    keys = np.arange(200)
    a = fit(kind, x[:200], y[:200])
    assert recall_at(ranks(a.images(x[200:]), a.texts(y[200:]), keys, keys), 1) > 0.9
    x, y, _ = clouds(n=200, d=128, noise=None)
    few, keys = slice(0, 40), np.arange(40)
    a = fit(kind, x[few], y[few])  # fewer pairs than dimensions: the fiction of P12
    inside = recall_at(ranks(a.images(x[few]), a.texts(y[few]), keys, keys), 1)
    held = recall_at(ranks(a.images(x[40:80]), a.texts(y[40:80]), keys, keys), 1)
    if kind != "ridge":  # whose penalty, chosen on pairs left out, refuses to learn from noise
        assert inside > 0.9
    assert held < 0.15
    assert short_of(40, 128)
    assert not short_of(400, 128)


def test_centring_closes_the_distance_of_centroids() -> None:
    x, y, _ = clouds()
    before = modality_gap(x, y).centroid_distance
    a = fit("centring", x, y)
    moved = np.linalg.norm(a.images(x).mean(0) - a.texts(y).mean(0))
    assert moved < 0.2 * before


def test_groups_stay_on_one_side() -> None:
    groups = np.repeat(np.arange(30), 4)
    used, others = halves(120, 50, groups, seed=1)
    assert len(used) >= 50
    assert len(used) + len(others) == 120
    assert not set(groups[used]) & set(groups[others])


def test_cones_raw_gap_and_loss_are_slow_loops() -> None:
    x, y, _ = clouds(n=40)
    ux, uy = unit(x.astype(np.float64)), unit(y.astype(np.float64))
    cosines = [float(ux[i] @ ux[j]) for i in range(40) for j in range(40) if i != j]
    centre = ux.mean(0) / np.linalg.norm(ux.mean(0))
    cone = cone_width(x)
    assert cone.cosine == pytest.approx(np.mean(cosines))
    assert cone.angle == pytest.approx(np.mean([np.degrees(np.arccos(r @ centre)) for r in ux]))
    raw = raw_gap(x, y)
    assert raw.centroid_distance == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)), rel=1e-5)
    assert raw.image_norm == pytest.approx(np.mean([np.linalg.norm(r) for r in x]), rel=1e-6)
    loss = 0.0
    for a, b in ((ux, uy), (uy, ux)):
        for i in range(40):
            z = [7.0 * float(a[i] @ b[j]) for j in range(40)]
            loss -= z[i] - np.log(np.sum(np.exp(z)))
    assert contrastive_loss(ux, uy, 7.0) == pytest.approx(loss / 80)


def test_the_losses_leave_out_what_says_the_same_and_the_sigmoid_is_the_slow_loop() -> None:
    x, y, _ = clouds(n=30)
    ux, uy = unit(x.astype(np.float64)), unit(y.astype(np.float64))
    keys = np.arange(30) % 20
    uy = uy[keys]
    soft = sigmoid = 0.0
    for i in range(30):
        others = [j for j in range(30) if j == i or keys[j] != keys[i]]
        for a, b in ((ux, uy), (uy, ux)):
            soft -= (7.0 * float(a[i] @ b[i]) - np.log(sum(np.exp(7.0 * float(a[i] @ b[j])) for j in others))) / 60
        for j in others:
            z = 7.0 * float(ux[i] @ uy[j]) - 2.0
            sigmoid += np.log1p(np.exp(-z if i == j else z)) / 30
    assert contrastive_loss(ux, uy, 7.0, keys=keys) == pytest.approx(soft)
    assert contrastive_loss(ux, uy, 7.0, keys=keys, bias=-2.0) == pytest.approx(sigmoid)


def test_the_sweeps_loss_is_of_a_seeded_sample() -> None:
    x, y, _ = clouds(n=60)
    judged = np.sort(np.random.default_rng(4).permutation(60)[:20])
    step = gap_shift(x, y, loss=PairLoss(5.0), score=lambda a, b, c: 0.0, most=20, steps=3, reach=1.0, seed=4)[0]
    ux, uy = (unit(v.astype(np.float64))[judged] for v in (x, y))
    assert step.loss == pytest.approx(contrastive_loss(ux, uy, 5.0))


def test_the_sweep_starts_at_the_plain_figures_and_meets_at_one() -> None:
    x, y, _ = clouds(n=60)
    other = y[:3]
    seen = []
    steps = gap_shift(
        x,
        y,
        loss=PairLoss(5.0),
        score=lambda a, b, along: seen.append(along(other)) or float((a * b).sum(1).mean()),
        steps=5,
        reach=1.0,
    )
    assert [s.shift for s in steps] == [0.0, 0.5, 1.0, 1.5, 2.0]
    plain = modality_gap(x, y)
    assert steps[0].centroid_distance == pytest.approx(plain.centroid_distance)
    assert steps[0].score == pytest.approx(plain.paired)
    assert steps[0].loss == pytest.approx(contrastive_loss(unit(x.astype(np.float64)), unit(y.astype(np.float64)), 5.0))
    assert min(s.centroid_distance for s in steps) == steps[2].centroid_distance < 0.1 * plain.centroid_distance
    ux, uy = unit(x.astype(np.float64)), unit(y.astype(np.float64))
    moved = unit(uy[:3] + 0.25 * (ux.mean(0) - uy.mean(0)))
    assert np.allclose(seen[1], moved)


def test_average_precision_counts_by_hand() -> None:
    scores = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.7, 0.3, 0.0], [0.6, 0.4, 0.0]], np.float32)
    relevant = np.array([[1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]], bool)
    found = average_precision(scores, relevant)
    assert found[0] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found[1] == 1.0
    assert np.isnan(found[2])


def test_bad_pairs_are_told() -> None:
    x, y, _ = clouds(n=20)
    with pytest.raises(DataError, match="not pairs"):
        fit("procrustes", x, y[:19])
    with pytest.raises(DataError, match="12 dimensions, texts 5"):
        fit("ridge", x, y[:, :5])
    zero = y.copy()
    zero[3] = 0
    with pytest.raises(DataError, match="row 3 of texts is all zeros"):
        fit("centring", x, zero)
    nan = x.copy()
    nan[2, 1] = np.nan
    with pytest.raises(DataError):
        fit("procrustes", nan, y)
    with pytest.raises(DataError, match="choose from procrustes"):
        fit("magic", x, y)
    with pytest.raises(DataError, match="fit on fewer"):
        halves(20, 20, np.arange(20))
    with pytest.raises(DataError, match="no pairs"):
        gap_shift(x, y[:5], loss=PairLoss(1.0), score=lambda a, b, c: 0.0)
    with pytest.raises(DataError, match="same shape"):
        average_precision(x, np.ones((3, 3), bool))


def test_the_seed_draws_the_folds_of_ridge() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 6)), rng.normal(size=(24, 6))
    moved = [fit("ridge", x, y, seed=seed).images(x) for seed in (0, 0, *range(1, 12))]
    np.testing.assert_array_equal(moved[0], moved[1])
    assert any(not np.array_equal(moved[0], other) for other in moved[2:])


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None])
def test_a_seed_that_is_none_is_refused_in_one_line(seed: object) -> None:
    with pytest.raises(DataError, match=r"^seed is .*; give a whole number from 0 up$"):
        halves(10, 5, np.arange(10), seed=seed)  # type: ignore[arg-type]
