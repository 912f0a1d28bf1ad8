"""Which patches stay, against the definitions; areas against numpy's trapezoid; halving points by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from visus.errors import DataError
from visus.measures.masking import (
    PATTERNS,
    area_each,
    area_intervals,
    area_under,
    blank_mask,
    halving,
    kept_at,
    patch_order,
)

GRID = (6, 8)
RATIOS = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_order_names_every_patch_once_and_what_is_kept_shrinks(pattern: str) -> None:
    scores = np.random.default_rng(1).random((5, 48))
    order = patch_order(pattern, GRID, 5, seed=3, scores=scores)
    assert order.shape == (5, 48)
    assert (np.sort(order, axis=1) == np.arange(48)).all()
    for large, small in itertools.pairwise(RATIOS):
        assert all(set(s) < set(b) for s, b in zip(kept_at(order, small), kept_at(order, large), strict=True))


def test_the_most_attended_go_first_and_the_least_attended_go_first() -> None:
    scores = np.array([[0.1, 0.4, 0.2, 0.3]])
    assert kept_at(patch_order("most-attended", (2, 2), 1, scores=scores), 0.5).tolist() == [[0, 2]]
    assert kept_at(patch_order("least-attended", (2, 2), 1, scores=scores), 0.5).tolist() == [[1, 3]]
    with pytest.raises(DataError, match="needs a finite score"):
        patch_order("most-attended", (2, 2), 1)


def test_centre_keeps_the_middle_and_periphery_the_border() -> None:
    assert kept_at(patch_order("centre", (4, 4), 1), 0.25).tolist() == [[5, 6, 9, 10]]
    assert kept_at(patch_order("periphery", (4, 4), 1), 0.75).tolist() == [
        [i for i in range(16) if i not in (5, 6, 9, 10)]
    ]


def test_random_differs_between_pictures_and_repeats_with_the_seed() -> None:
    a, b = patch_order("random", GRID, 3, seed=1), patch_order("random", GRID, 3, seed=1)
    assert (a == b).all()
    assert len({tuple(row) for row in a}) == 3


def test_a_block_is_one_piece_and_square_where_it_fits() -> None:
    order = patch_order("block", (9, 9), 40, seed=0)
    for ratio in RATIOS[1:]:
        for row in kept_at(order, ratio):
            gone = np.ones(81, bool)
            gone[row] = False
            assert ndimage.label(gone.reshape(9, 9))[1] == 1
    middle = order[:, -1]
    inside = [i for i, m in enumerate(middle) if 1 <= m // 9 <= 7 and 1 <= m % 9 <= 7]
    for i in inside:
        gone = sorted(order[i, -9:])
        r, c = divmod(int(middle[i]), 9)
        assert gone == [(r + dr) * 9 + c + dc for dr in (-1, 0, 1) for dc in (-1, 0, 1)]


def test_the_mask_scales_the_patches_to_any_picture() -> None:
    mask = blank_mask(np.array([[0, 5]]), (2, 3), (8, 12))
    assert mask[0, :4, :4].all()
    assert mask[0, 4:, 8:].all()
    assert mask.sum() == 32
    odd = blank_mask(np.array([[0, 3]]), (2, 2), (7, 5))
    assert odd.shape == (1, 7, 5)
    assert odd[0, 0, 0]
    assert odd[0, 6, 4]
    assert not odd[0, 0, 4]


def test_areas_are_trapezoids_and_their_interval_covers() -> None:
    hits = np.random.default_rng(0).random((10, 200)) < np.array(RATIOS)[:, None]
    expected = np.trapezoid(hits.mean(axis=1)[::-1], RATIOS[::-1]) / 0.9
    assert area_under(RATIOS, hits.mean(axis=1)) == pytest.approx(expected, abs=1e-12)
    area, low, high = area_intervals(RATIOS, hits)
    assert area == pytest.approx(expected, abs=1e-12)
    own = np.trapezoid(hits[::-1].astype(float), RATIOS[::-1], axis=0) / 0.9
    assert np.allclose(area_each(RATIOS, hits), own, atol=1e-12)
    error = own.std() / np.sqrt(200)
    assert low == pytest.approx(area - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(area + 1.96 * error, abs=0.1 * error)
    assert area_under(RATIOS, np.ones(10)) == pytest.approx(1)


def test_the_halving_point_lies_on_the_line_between_two_points() -> None:
    assert halving([1.0, 0.5, 0.1], [0.8, 0.6, 0.2]) == pytest.approx(0.5 - 0.4 * (0.2 / 0.4))
    assert halving([0.1, 1.0], [0.0, 1.0]) == pytest.approx(0.55)
    assert halving([1.0, 0.5], [0.8, 0.7]) is None


@pytest.mark.parametrize("ratio", [0, -0.1, 1.1])
def test_a_ratio_that_keeps_nothing_is_refused(ratio: float) -> None:
    with pytest.raises(DataError, match="above 0"):
        kept_at(patch_order("random", GRID, 1), ratio)
    with pytest.raises(DataError, match="choose one of"):
        patch_order("spiral", GRID, 1)
