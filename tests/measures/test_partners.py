"""Equal rows, partners and connected groups against slow loops; intervals of grouped shares against a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from visus.errors import DataError
from visus.measures.gap import modality_gap
from visus.measures.gap_shape import contrastive_loss
from visus.measures.intervals import grouped_wilson, wilson
from visus.measures.partners import connected_groups, either, partners, precision_of, same_rows
from visus.measures.retrieval import chance_at, partner_ranks


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def partition(code: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(code == c).tolist()) for c in np.unique(code)}


@pytest.mark.parametrize(("n", "copies"), [(200, 3), (8, 400), (3, 1)])
def test_same_rows_are_those_of_a_slow_comparison(n: int, copies: int) -> None:
    rng = np.random.default_rng(0)
    base = unit(rng.normal(size=(n, 24))).astype(np.float32)
    owner = rng.permutation(np.repeat(np.arange(n), copies))
    x = base[owner] * (1 + 1e-6 * rng.normal(size=(n * copies, 24))).astype(np.float32)
    x *= rng.uniform(0.5, 2, (len(x), 1)).astype(np.float32)  # direction alone counts
    assert partition(same_rows(x)) == partition(owner)


def test_rows_near_one_another_stay_apart_and_one_hots_too() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 16)).astype(np.float32)
    assert len(set(same_rows(np.concatenate([x, x + np.float32(1e-3)])))) == 100
    assert len(set(same_rows(np.eye(300)))) == 300
    assert len(set(same_rows(x, noise=10.0))) == 50  # never more than a share of the spread
    assert set(same_rows(np.ones((5, 3)))) == {0}
    with pytest.raises(DataError, match="NaN"):
        same_rows(np.full((3, 2), np.nan))


def test_the_precision_is_found_whatever_type_holds_the_numbers() -> None:
    x = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    half = x.astype(np.float16)
    brain = (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
    found = [
        precision_of(a)
        for a in (x, x.astype(float), half, half.astype(float), brain, np.rint(40 * x), np.rint(40 * x).astype(np.int8))
    ]
    assert found == ["float32", "float32", "float16", "float16", "bfloat16", "float32", "float32"]


def test_groups_are_the_components_of_a_slow_walk() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 60, 80), rng.integers(0, 60, 80)
    reached = {i: {i} for i in range(80)}
    for _ in range(80):
        for i in range(80):
            for j in range(80):
                if a[i] == a[j] or b[i] == b[j]:
                    reached[i] = reached[j] = reached[i] | reached[j]
    assert partition(connected_groups(a, b)) == {frozenset(r) for r in reached.values()} == partition(either(a, b))
    joined = partners(a, b)
    for i, image in enumerate(np.unique(a)):
        assert set(np.unique(b)[joined[[i]].indices]) == set(b[a == image])
    with pytest.raises(DataError, match="no pairs"):
        partners(a, b[:5])


def test_ranks_of_partners_gap_and_loss_are_slow_loops() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 12, 40), rng.integers(0, 15, 40)
    images, texts = unit(rng.normal(size=(12, 6))), unit(rng.normal(size=(15, 6)))
    x, y = images[a], texts[b]
    ka, kb = np.unique(a), np.unique(b)
    own = {(i, j) for i, j in zip(a, b, strict=True)}
    found = partner_ranks(images[ka], texts[kb], partners(a, b))
    for i, rank in zip(ka, found, strict=True):
        scores = {j: images[i] @ texts[j] for j in kb}
        best = max(scores[j] for j in kb if (i, j) in own)
        assert rank == sum(1 for j in kb if (i, j) not in own and scores[j] >= best)
    others = [x[i] @ y[j] for i in range(40) for j in range(40) if (a[i], b[j]) not in own]
    assert modality_gap(x, y, keys=b, image_keys=a).unpaired == pytest.approx(np.mean(others))
    loss = 0.0
    for i in range(40):
        for z, mine in (
            ([5 * x[i] @ y[j] for j in range(40) if j == i or (a[i], b[j]) not in own], 5 * x[i] @ y[i]),
            ([5 * x[j] @ y[i] for j in range(40) if j == i or (a[j], b[i]) not in own], 5 * x[i] @ y[i]),
        ):
            loss += np.log(np.sum(np.exp(z))) - mine
    assert contrastive_loss(x, y, 5.0, keys=b, image_keys=a) == pytest.approx(loss / 80)
    none = csr_array(np.array([[True, False], [False, False]]))
    with pytest.raises(DataError, match="holds nothing for 1 of the queries, the first in row 1"):
        partner_ranks(images[:2], texts[:2], none)


def test_chance_is_a_blind_order() -> None:
    rng = np.random.default_rng(4)
    own = np.array([1, 3, 5])
    hits = [(np.argsort(rng.random(20))[:5] < r).any() for _ in range(20_000) for r in own]
    assert chance_at(own, 20, 5) == pytest.approx(np.mean(hits), abs=0.01)
    assert chance_at([1], 4, 10) == 1.0
    with pytest.raises(DataError, match="not defined"):
        chance_at([0], 4, 1)


def test_intervals_of_groups_are_wilsons_of_independent_rows_and_wider_where_rows_agree() -> None:
    rng = np.random.default_rng(5)
    y = rng.random(200) < 0.3
    assert grouped_wilson(y, np.arange(200)) == pytest.approx(wilson(int(y.sum()), 200))
    low, high = grouped_wilson(np.repeat(y, 5), np.repeat(np.arange(200), 5))
    assert (low, high) == pytest.approx(
        wilson(int(y.sum()), 200), abs=0.003
    )  # five copies of one answer say no more than one
    assert grouped_wilson(np.ones(50, bool), np.repeat(np.arange(10), 5)) == pytest.approx(wilson(10, 10))
    covered = []
    for _ in range(400):
        rates = rng.beta(1, 1, 60)
        bounds = grouped_wilson((rng.random((60, 5)) < rates[:, None]).ravel(), np.repeat(np.arange(60), 5))
        covered.append(bounds[0] <= 0.5 <= bounds[1])
    assert 0.92 <= np.mean(covered) <= 0.98
    with pytest.raises(DataError, match="3 hits and 2 groups"):
        grouped_wilson([True] * 3, [0, 1])
