"""Retrieval between two sets of unit vectors: the rank of what belongs to a query, and recall among the first k."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from visus.errors import DataError
from visus.measures._arrays import Array, block_rows
from visus.measures._arrays import features as checked

Ints = npt.NDArray[np.int64]


def ranks(queries: Array, base: Array, keys: npt.ArrayLike, base_keys: npt.ArrayLike) -> Ints:
    """int64 [n]: how many rows of `base` beat the best one that bears the query's key, by inner product (0: it comes first).

    queries: float [n, d]. base: float [m, d]. keys, base_keys: int64 [n], [m]; every query's key stands in the base. Equal scores of
    others count against the query (the pessimistic rule), so that constant vectors score nothing. In blocks of rows.
    Raises DataError: widths that differ, a key that the base lacks.
    """
    queries, base = checked(queries, "queries"), checked(base, "base")
    keys, base_keys = np.asarray(keys, np.int64), np.asarray(base_keys, np.int64)
    if queries.shape[1] != base.shape[1]:
        raise DataError(f"the queries have {queries.shape[1]} dimensions, the base {base.shape[1]}; they must agree")
    if len(keys) != len(queries) or len(base_keys) != len(base):
        raise DataError(
            f"{len(keys)} and {len(base_keys)} keys were given for {len(queries)} queries and {len(base)} rows"
        )
    missing = np.setdiff1d(keys, base_keys)
    if len(missing):
        raise DataError(f"the base holds nothing for {len(missing)} of the keys asked for, the first: {missing[0]}")
    return _ranks(queries, base, lambda part: keys[part, None] == base_keys)


def partner_ranks(queries: Array, base: Array, partners: Any) -> Ints:
    """int64 [n]: as `ranks`, where any number of rows of the base may be right for a query, and a row for any number of queries.

    queries: float [n, d]. base: float [m, d]. partners: scipy.sparse CSR of bool [n, m], at least one in every row. The rank is that of the best
    partner, so that recall@k counts a query with any partner among the first k, as Karpathy and Fei-Fei (2015) and CLIP on COCO and Flickr30k.
    Raises DataError: shapes that differ, a query without a partner.
    """
    queries, base = checked(queries, "queries"), checked(base, "base")
    if queries.shape[1] != base.shape[1]:
        raise DataError(f"the queries have {queries.shape[1]} dimensions, the base {base.shape[1]}; they must agree")
    if partners.shape != (len(queries), len(base)):
        raise DataError(f"partners are {list(partners.shape)} for {len(queries)} queries and {len(base)} rows")
    alone = np.flatnonzero(np.asarray(partners.sum(axis=1)).reshape(-1) == 0)
    if len(alone):
        raise DataError(f"the base holds nothing for {len(alone)} of the queries, the first in row {int(alone[0])}")
    return _ranks(queries, base, lambda part: partners[part].toarray())


def _ranks(queries: Array, base: Array, own: Callable[[slice], Array]) -> Ints:
    found = np.empty(len(queries), np.int64)
    base_t = np.ascontiguousarray(base.T, np.float32)
    rows = block_rows(base.shape[0] * 9)
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        scores = np.asarray(queries[part], np.float32) @ base_t
        mine = own(part)
        best = np.where(mine, scores, -np.inf).max(axis=1, keepdims=True)
        found[part] = ((scores >= best) & ~mine).sum(axis=1)
    return found


def recall_at(ranks: npt.ArrayLike, k: int) -> float:
    """Share of queries whose own row is among the first k. Raises DataError when k < 1 or there are no queries."""
    values = np.asarray(ranks)
    if k < 1 or not len(values):
        raise DataError(f"recall@{k} of {len(values)} queries is not defined")
    return float(np.mean(values < k))


def chance_at(partners: npt.ArrayLike, among: int, k: int) -> float:
    """Recall@k of a blind order: the mean over queries of 1 - C(m - r, k) / C(m, k).

    partners: int [n], the number r of rows that are right for each query. among: rows m of the base. Raises DataError unless 1 <= r <= m and k >= 1.
    """
    r = np.asarray(partners, np.int64)
    if k < 1 or not len(r) or r.min() < 1 or r.max() > among:
        raise DataError(f"recall@{k} among {among} rows is not defined for {len(r)} queries")
    miss = np.ones(len(r))
    for i in range(min(k, among)):
        miss *= np.maximum(among - r - i, 0) / (among - i)
    return float(1 - miss.mean())


def average_precision(scores: Array, relevant: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """float64 [k]: average precision of every class for several labels an image; NaN for a class without a positive.

    scores: float [n, k]; relevant: bool [n, k]. Not interpolated (scikit-learn's average_precision_score). Raises DataError on shapes that differ.
    """
    z, y = checked(scores, "scores"), np.asarray(relevant, bool)
    if z.shape != y.shape:
        raise DataError(f"scores {z.shape} and labels {y.shape} must have the same shape, [images, classes]")
    return np.array([average_precision_score(y[:, k], z[:, k]) if y[:, k].any() else np.nan for k in range(z.shape[1])])
