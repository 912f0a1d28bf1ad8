"""Laying one map over another: planted rotations, scipy's own Procrustes, what must not change."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist

from visus.errors import DataError
from visus.measures import align, unit_radius


def _map(n: int = 40, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 2)) @ np.diag([3.0, 1.0]) + rng.standard_normal(2) * 5


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.7, 3.0])
def test_a_turned_scaled_moved_or_mirrored_copy_is_recovered(angle: float, mirrored: bool) -> None:
    reference = _map()
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    copy = 7.5 * reference @ turn @ np.diag([-1.0 if mirrored else 1.0, 1.0]) + [100.0, -3.0]
    np.testing.assert_allclose(align(copy, reference), reference, atol=1e-10)


def test_the_turn_is_the_best_one_and_the_map_keeps_its_shape() -> None:
    points, reference = unit_radius(_map(seed=1)), unit_radius(_map(seed=2))
    found = align(points, reference)
    error = ((found - reference) ** 2).sum()
    for angle in np.linspace(0, 2 * np.pi, 721):
        for flip in (-1.0, 1.0):
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [flip, 1.0]
            assert ((points @ turn - reference) ** 2).sum() >= error - 1e-9
    np.testing.assert_allclose(pdist(found), pdist(points), rtol=1e-10)
    # scipy's version scales by least squares as well; its axes are the same.
    a, b, _ = procrustes(reference, points)
    np.testing.assert_allclose(unit_radius(b), found, atol=1e-9)
    np.testing.assert_allclose(unit_radius(a), reference, atol=1e-9)


def test_every_map_has_the_mean_and_radius_of_the_reference() -> None:
    points, reference = 50 * _map(seed=3), _map(seed=4)
    found = align(points, reference)
    np.testing.assert_allclose(found.mean(0), reference.mean(0), atol=1e-9)
    assert found.var(0).sum() == pytest.approx(reference.var(0).sum())
    one = unit_radius(points)
    np.testing.assert_allclose(one.mean(0), 0, atol=1e-12)
    assert np.sqrt((one**2).sum(1).mean()) == pytest.approx(1)


def test_points_on_one_spot_stay_on_one_spot() -> None:
    spot = np.full((6, 2), 1 / 3)
    assert not unit_radius(spot).any()
    reference = _map(6)
    np.testing.assert_allclose(align(spot, reference), np.tile(reference.mean(0), (6, 1)))


@pytest.mark.parametrize("bad", [np.zeros((3, 2)), np.full((4, 2), np.nan)])
def test_other_images_and_nan_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError):
        align(bad, _map(4))
