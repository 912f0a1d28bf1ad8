"""Ranks and recall against a full sort, with ties; the gap against its definition and on planted clouds."""

from __future__ import annotations

import numpy as np
import pytest

from visus.errors import DataError
from visus.measures import retrieval
from visus.measures.gap import modality_gap, split_groups
from visus.measures.retrieval import ranks, recall_at


def slow_ranks(queries: np.ndarray, base: np.ndarray, keys: np.ndarray, base_keys: np.ndarray) -> list[int]:
    found = []
    for q, key in zip(queries, keys, strict=True):
        scores = base @ q
        best = max(scores[base_keys == key])
        found.append(sum(1 for s, k in zip(scores, base_keys, strict=True) if k != key and s >= best))
    return found


def test_ranks_are_those_of_a_slow_loop_with_ties_and_several_rows_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(-2, 3, (40, 6)).astype(np.float32)  # small whole numbers: many ties
    queries = rng.integers(-2, 3, (90, 6)).astype(np.float32)
    base_keys = rng.integers(0, 15, 40)
    keys = rng.choice(base_keys, 90)
    expected = slow_ranks(queries, base, keys, base_keys)
    assert ranks(queries, base, keys, base_keys).tolist() == expected
    monkeypatch.setattr(retrieval, "block_rows", lambda row_bytes: 7)
    assert ranks(queries, base, keys, base_keys).tolist() == expected


def test_recall_counts_the_first_k_and_constant_vectors_score_nothing() -> None:
    assert [recall_at(np.array([0, 1, 4, 9, 30]), k) for k in (1, 5, 10)] == [0.2, 0.6, 0.8]
    same = np.ones((20, 3), np.float32)
    assert recall_at(ranks(same, same, np.arange(20), np.arange(20)), 10) == 0.0


def test_bad_input_says_what_is_wrong() -> None:
    x = np.ones((3, 2), np.float32)
    with pytest.raises(DataError, match="dimensions"):
        ranks(x, np.ones((3, 4), np.float32), np.arange(3), np.arange(3))
    with pytest.raises(DataError, match="holds nothing for 1"):
        ranks(x, x, np.array([0, 1, 7]), np.arange(3))
    with pytest.raises(DataError, match="recall@0"):
        recall_at(np.arange(3), 0)
    with pytest.raises(DataError, match="no pairs"):
        modality_gap(np.ones((5, 2)), np.ones((6, 2)))


def test_the_gap_is_its_definition() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 8)), rng.normal(size=(30, 8)) + 0.5
    u, v = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    gap = modality_gap(3 * x, y)
    cosines = u @ v.T
    assert gap.centroid_distance == pytest.approx(np.linalg.norm(u.mean(0) - v.mean(0)), abs=1e-6)
    assert gap.paired == pytest.approx(np.diag(cosines).mean(), abs=1e-6)
    assert gap.unpaired == pytest.approx(cosines[~np.eye(30, dtype=bool)].mean(), abs=1e-6)


def test_pairs_of_one_text_are_no_others_and_stand_on_one_side() -> None:
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 6, 40)
    x, y = rng.normal(size=(40, 8)), rng.normal(size=(6, 8))[keys]
    u, v = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    gap = modality_gap(x, y, keys=keys)
    assert gap.unpaired == pytest.approx((u @ v.T)[keys[:, None] != keys].mean(), abs=1e-6)
    inside, outside = split_groups(keys, np.bincount(keys, minlength=6), 0)
    assert sorted([*inside, *outside]) == list(range(40))
    assert not set(keys[inside]) & set(keys[outside])
    assert gap.held == len(outside)
    assert np.isnan(modality_gap(x, y, keys=np.zeros(40, int)).unpaired)
    assert modality_gap(x, y, keys=np.arange(40)) == modality_gap(x, y)
    with pytest.raises(DataError, match="39 keys were given for 40 pairs"):
        modality_gap(x, y, keys=keys[:39])


def test_two_cones_are_separable_and_one_cloud_is_not() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(400, 16)), rng.normal(size=(400, 16))
    assert modality_gap(x, y).separable < 0.6
    assert modality_gap(x + 3, y - 3).separable > 0.99
