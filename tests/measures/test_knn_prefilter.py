"""The search by bfloat16 against float64 brute force: what its bound must hold through, and where it must give up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visus.measures import knn, knn_prefilter, top_k
from visus.measures.rows import unit_rows


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a processor with bfloat16, for small cases too. Products are the same by emulation, only slower."""
    monkeypatch.setattr(knn_prefilter, "LEAST", 0)
    monkeypatch.setattr(knn_prefilter, "fast_bfloat16", lambda: True)
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads


def _rows(kind: str, n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    if kind == "positive":
        x = np.maximum(x, 0) + 3
    elif kind == "nearly one":  # apart by less than bfloat16 tells, and some by less than float32
        x = 1 + 10.0 ** rng.integers(-8, -3, (n, 1)) * x
    elif kind == "duplicates":
        x = x[rng.integers(0, max(1, n // 50), n)]
    elif kind == "zeros":
        x[rng.random(n) < 0.3] = 0
    elif kind == "whole":
        x = rng.integers(-2, 3, (n, d)).astype(np.float64)
    elif kind == "any norm":
        x *= 10.0 ** rng.uniform(-6, 6, (n, 1))
    elif kind == "sorted":
        x = np.sort(rng.integers(0, 5, n))[:, None] * 2 + 0.3 * x
    return x.astype(np.float32)


KINDS = ("normal", "positive", "nearly one", "duplicates", "zeros", "whole", "any norm", "sorted")


def _hold(query: np.ndarray, base: np.ndarray, found: knn.Neighbours, *, exclude_self: bool = False) -> None:
    """Each neighbour that is not float64's is one by the rounding of float32, and equal ones are in the order of their rows."""
    wide = query.astype(np.float64) @ base.astype(np.float64).T
    scale = (
        np.linalg.norm(query.astype(np.float64), axis=1)[:, None]
        * np.linalg.norm(base.astype(np.float64), axis=1).max()
    )
    rounding = (query.shape[1] + 8) * 2.0**-23 * scale + 1e-37
    if exclude_self:
        np.fill_diagonal(wide, -np.inf)
    k = found.indices.shape[1]
    picked = np.take_along_axis(wide, found.indices, 1)
    assert (np.abs(picked - found.similarities) <= rounding).all()  # also: none is itself
    assert (np.abs(picked - -np.sort(-wide, axis=1)[:, :k]) <= 2 * rounding).all()
    assert all(len(set(row)) == k for row in found.indices.tolist())
    fall = found.similarities[:, :-1] - found.similarities[:, 1:]
    assert (fall >= 0).all()
    assert ((fall > 0) | (np.diff(found.indices, axis=1) > 0)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exclude_self", [False, True])
def test_every_kind_of_rows_has_the_neighbours_of_float64(kind: str, exclude_self: bool) -> None:
    x = _rows(kind, 1203, 24, seed=1)
    query = x if exclude_self else _rows(kind, 333, 24, seed=2)
    for a, b in ((query, x), (unit_rows(query), unit_rows(x))):
        for k in (1, 20, 75):
            _hold(a, b, knn.inner_top_k(a, b, k, exclude_self=exclude_self), exclude_self=exclude_self)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 200),
    st.integers(16, 900),
    st.integers(1, 70),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_shape_has_the_neighbours_of_float64(
    kind: str, m: int, n: int, d: int, share: float, exclude_self: bool, seed: int
) -> None:
    base = _rows(kind, n, d, seed)
    query = base if exclude_self else _rows(kind, m, d, seed + 1)
    k = max(1, int(share * (n - exclude_self)))
    for most in (k, max(1, min(k, n // 16))):  # the second is searched by bfloat16
        _hold(query, base, knn.inner_top_k(query, base, most, exclude_self=exclude_self), exclude_self=exclude_self)


@pytest.mark.parametrize(
    ("n", "d", "k", "columns"), [(4000, 16, 60, 2**16), (4001, 5, 3, 700), (3000, 1, 20, 1000), (2049, 7, 2, 2**16)]
)
def test_where_float32_is_exact_ties_go_to_the_lower_row(
    n: int, d: int, k: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn_prefilter, "COLUMNS", columns)
    base, query = _rows("whole", n, d, seed=3), _rows("whole", 200, d, seed=4)
    expected = np.argsort(-(query.astype(np.int64) @ base.astype(np.int64).T), axis=1, kind="stable")[:, :k]
    assert np.array_equal(knn.inner_top_k(query, base, k).indices, expected)
    own = knn.inner_top_k(base[:500], base[:500], 20, exclude_self=True).indices
    products = base[:500].astype(np.int64) @ base[:500].astype(np.int64).T
    np.fill_diagonal(products, np.iinfo(np.int64).min // 2)
    assert np.array_equal(own, np.argsort(-products, axis=1, kind="stable")[:, :20])


def test_a_planted_row_just_above_the_border_is_found_however_bfloat16_rounds() -> None:
    # Row 0 of base beats the others by 1e-5, far below what bfloat16 tells apart.
    rng = np.random.default_rng(5)
    query = unit_rows(rng.standard_normal((64, 300)))
    others = unit_rows(rng.standard_normal((4000, 300)))
    for at in range(0, 64, 7):
        rest = others - (others @ query[at])[:, None] * query[at]
        cosine = np.full(4000, 0.5)
        cosine[rng.integers(4000)] += 1e-5
        base = (cosine[:, None] * query[at] + (1 - cosine[:, None] ** 2) ** 0.5 * unit_rows(rest)).astype(np.float32)
        assert knn.inner_top_k(query, base, 1).indices[at, 0] == int(cosine.argmax())


@pytest.mark.parametrize("columns", [2**16, 1100])
def test_features_with_structure_are_answered_and_rows_that_are_one_are_not(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn_prefilter, "COLUMNS", columns)
    for kind in ("normal", "positive", "duplicates"):
        x = unit_rows(_rows(kind, 4000, 64, seed=6))
        told: list[int] = []
        keys, unanswered = knn_prefilter.search(x, x, 20, exclude_self=True, advance=told.append)
        assert unanswered.mean() < 0.02
        assert sum(told) == (~unanswered).sum()
        index, similarity = knn_prefilter.decode(keys)
        answered = np.flatnonzero(~unanswered)
        wide = x @ x.T
        np.fill_diagonal(wide, -1)
        np.testing.assert_allclose(similarity[answered], -np.sort(-wide[answered], axis=1)[:, :20], atol=1e-6)
        assert (index[answered] != answered[:, None]).all()
    same = np.ones((4000, 64), np.float32) / 8
    assert knn_prefilter.search(same, same, 20, exclude_self=False, advance=told.append)[1].all()
    assert (knn.inner_top_k(same[:300], same, 20).indices == np.arange(20)).all()


def test_numbers_at_the_ends_of_float32() -> None:
    x = _rows("normal", 900, 12, seed=7)
    for scale in (1e-40, 1e-25, 1e-18, 1e17, 1e18):
        scaled = (x * np.float32(scale)).astype(np.float32)
        found = knn.inner_top_k(scaled[:50], scaled, 10)
        _hold(scaled[:50], scaled, found)
    with np.errstate(over="ignore"):
        huge = knn.inner_top_k(np.full((70, 12), 3e38, np.float32), np.full((900, 12), 3e38, np.float32), 5)
    assert (huge.indices == np.arange(5)).all()
    assert top_k(x * np.float32(1e30), x, 30).indices.tolist() == top_k(x, x, 30).indices.tolist()


def test_blocks_threads_and_too_little_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    query, base = _rows("positive", 700, 40, seed=8), _rows("positive", 3000, 40, seed=9)
    whole = knn.inner_top_k(query, base, 50)
    threads = torch.get_num_threads()
    mm, failed = torch.mm, []

    def small(a: torch.Tensor, b: torch.Tensor, **settings: torch.Tensor) -> torch.Tensor:
        if b.shape[1] > 40:
            failed.append(b.shape[1])
            raise MemoryError("bad allocation")
        return mm(a, b, **settings)

    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            for rows, columns in ((17, 2**16), (512, 900), (64, 1700)):
                monkeypatch.setattr(knn_prefilter, "ROWS", rows)
                monkeypatch.setattr(knn_prefilter, "COLUMNS", columns)
                found = knn.inner_top_k(query, base, 50)
                assert np.array_equal(found.indices, whole.indices)
                assert np.array_equal(found.similarities, whole.similarities)
            monkeypatch.setattr(torch, "mm", small)
            assert np.array_equal(knn.inner_top_k(query, base, 50).indices, whole.indices)
            monkeypatch.setattr(torch, "mm", mm)
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert failed
