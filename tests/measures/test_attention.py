"""Entropy, distance and rollout against slow loops; the test of heads against planted truth and Friedman's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from visus.errors import DataError
from visus.measures.attention import entropy, mean_distance, rollout, specialisation


def softmaxed(*shape: int) -> np.ndarray:
    x = np.exp(np.random.default_rng(0).standard_normal(shape))
    return x / x.sum(axis=-1, keepdims=True)


def test_entropy_is_scipys_and_its_ends_are_known() -> None:
    p = softmaxed(4, 7)
    assert np.allclose(entropy(3 * p), stats.entropy(p, axis=-1), atol=1e-12)
    assert entropy(np.ones(49)) == pytest.approx(math.log(49))
    assert entropy(np.eye(5)[0]) == pytest.approx(0)


def test_distance_is_the_loop_over_pairs_of_patches() -> None:
    a, grid, patch = softmaxed(2, 3, 6, 6), (2, 3), (8, 16)
    found = mean_distance(a, grid, patch)
    for i in range(2):
        for h in range(3):
            total = 0.0
            for q in range(6):
                for k in range(6):
                    dy, dx = 8 * (q // 3 - k // 3), 16 * (q % 3 - k % 3)
                    total += a[i, h, q, k] * math.sqrt(dy * dy + dx * dx) / 6
            assert found[i, h] == pytest.approx(total, abs=1e-10)
    assert mean_distance(np.eye(6), grid, patch) == pytest.approx(0)


def test_rollout_is_the_sum_over_all_paths() -> None:
    layers = [softmaxed(2, 4, 4), softmaxed(2, 4, 4) ** 2]
    layers[1] /= layers[1].sum(axis=-1, keepdims=True)
    halves = [0.5 * a.mean(axis=0) + 0.5 * np.eye(4) for a in layers]
    found = rollout(layers)
    for i in range(4):
        for j in range(4):
            assert found[i, j] == pytest.approx(sum(halves[1][i, m] * halves[0][m, j] for m in range(4)), abs=1e-12)
    assert np.allclose(found.sum(axis=1), 1)


def test_heads_that_differ_are_found_and_heads_that_do_not_are_not() -> None:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((60, 4)) + 5 * generator.standard_normal((60, 1))
    same, apart = specialisation(noise), specialisation(noise + np.array([0, 1, 2, 3]))
    assert same.p > 0.05
    assert apart.p == pytest.approx(1e-4)
    assert stats.friedmanchisquare(*noise.T).pvalue > 0.05
    assert stats.friedmanchisquare(*(noise + np.array([0, 1, 2, 3])).T).pvalue < 1e-4
    centred = noise - noise.mean(axis=1, keepdims=True)
    between = sum(60 * centred[:, h].mean() ** 2 for h in range(4))
    assert same.statistic == pytest.approx(between / (centred**2).sum(), abs=1e-12)


def test_the_permutation_p_is_uniform_where_nothing_is_planted() -> None:
    generator = np.random.default_rng(1)
    found = [specialisation(generator.standard_normal((8, 3)), permutations=199, seed=k).p for k in range(200)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_one_head_is_no_specialist_and_one_picture_no_test() -> None:
    assert specialisation(np.random.default_rng(0).random((9, 1))).p == 1
    with pytest.raises(DataError, match="two pictures"):
        specialisation(np.ones((1, 3)))
    with pytest.raises(DataError, match="one layer"):
        rollout([])
