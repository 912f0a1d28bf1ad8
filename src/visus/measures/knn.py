"""k nearest neighbours: exact, cosine, every k from one search (the protocol of DINO, Caron et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from visus.errors import DataError
from visus.measures import knn_prefilter
from visus.measures._arrays import Array, Floats, Ints, as_array, block_rows, features, labels
from visus.measures.rows import unit_rows
from visus.memory import halving
from visus.progress import task

KS = (1, 5, 10, 20, 100, 200)
TEMPERATURE = 0.07

# A block of similarities is at most ROWS x COLUMNS float32 (64 MiB): near the size at which the product runs at full speed.
ROWS, COLUMNS = 512, 32_768
_GROUP = 16


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of each query, best first: indices int64 [m, k], similarities float32 [m, k]."""

    indices: Ints
    similarities: Array


@dataclass(frozen=True)
class KnnPredictions:
    """Predicted classes int64 [m] by k. `clipped`: the ks that were asked for and are larger than the training set."""

    predictions: dict[int, Ints]
    n_train: int
    clipped: tuple[int, ...]


@dataclass(frozen=True)
class KnnAccuracy:
    """Top-1 accuracy by k over n test images, with the predictions (for intervals and paired tests) and `clipped`."""

    accuracy: dict[int, float]
    predictions: dict[int, Ints]
    correct: dict[int, Array]
    n: int
    n_train: int
    clipped: tuple[int, ...]


def top_k(query: Array, base: Array, k: int, *, exclude_self: bool = False, device: str = "cpu") -> Neighbours:
    """The k rows of base with the largest cosine similarity to each row of query, exactly.

    query: [m, d]; base: [n, d]; k is cut to n (n - 1 with exclude_self, where query and base must be the same rows and
    a row is not its own neighbour). A zero vector has similarity 0 to everything. Memory stays bounded whatever n and m are.
    Exact: the order is that of the similarities returned, which are inner products in float32 of rows scaled to unit length in float64
    and rounded to float32; equal ones are ordered by the lower row of base; no row left out has a larger one. What is approximate is float32
    alone: neighbours whose similarities differ by its rounding (some 1e-7) may change places where sums are made in another order, as on another
    processor. Where it has instructions for bfloat16, these choose what is multiplied in float32, by a bound of their error.
    Raises DataError on NaN, empty arrays or widths that differ.
    """
    query, base = features(query, "query"), features(base, "base")
    if query.shape[1] != base.shape[1]:
        raise DataError(
            f"query has {query.shape[1]} features and base {base.shape[1]}; take both from the same tap of the same model"
        )
    if exclude_self and len(query) != len(base):
        raise DataError("exclude_self needs query and base to be the same rows in the same order")
    if k < 1:
        raise DataError(f"k is {k}; at least 1 neighbour is needed")
    reach = len(base) - 1 if exclude_self else len(base)
    if reach < 1:
        raise DataError("one row has no neighbour but itself; give at least two")
    return inner_top_k(unit_rows(query), unit_rows(base), min(k, reach), exclude_self=exclude_self, device=device)


def inner_top_k(query: Array, base: Array, k: int, *, exclude_self: bool = False, device: str = "cpu") -> Neighbours:
    """As `top_k` for the plain inner product of float32 rows, without checks (1 <= k <= n, finite)."""
    m, n = len(query), len(base)
    with task("searching neighbours", m) as progress:
        if knn_prefilter.pays(m, n, k, device):
            keys, unanswered = knn_prefilter.search(query, base, k, exclude_self=exclude_self, advance=progress.advance)
            found = Neighbours(*knn_prefilter.decode(keys))
            rest = np.flatnonzero(unanswered)
        else:
            found = Neighbours(np.empty((m, k), np.int64), np.empty((m, k), np.float32))
            rest = np.arange(m)
        if len(rest):
            _search(query, base, rest, found, exclude_self=exclude_self, device=device, advance=progress.advance)
    return found


def _search(
    query: Array,
    base: Array,
    chosen: Ints,
    found: Neighbours,
    *,
    exclude_self: bool,
    device: str,
    advance: Callable[[int], None],
) -> None:
    """Fill the chosen rows of `found` by all inner products in float32."""
    n, k = len(base), found.indices.shape[1]
    with torch.inference_mode():
        here = torch.from_numpy(np.ascontiguousarray(base, np.float32)).to(device)

        def run(at: slice) -> tuple[np.ndarray, np.ndarray]:
            rows = torch.from_numpy(np.ascontiguousarray(query[chosen[at]], np.float32)).to(device)
            best: tuple[torch.Tensor, torch.Tensor] | None = None
            for left in range(0, n, COLUMNS):
                scores = rows @ here[left : left + COLUMNS].T
                if exclude_self:
                    own = torch.from_numpy(chosen[at]).to(device) - left
                    mine = (own >= 0) & (own < scores.shape[1])
                    scores[mine.nonzero()[:, 0], own[mine]] = -torch.inf
                value, index = largest(scores, min(k, scores.shape[1]))
                best = _merge(best, (value, index + left), k)
            assert best is not None  # n is at least 1
            return best[0].cpu().numpy(), best[1].cpu().numpy()

        for at, (values, indices) in halving(len(chosen), ROWS, run, what="searching neighbours"):
            found.similarities[chosen[at]], found.indices[chosen[at]] = values, indices
            advance(len(indices))


def knn_predict(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    *,
    n_classes: int,
    ks: Sequence[int] = KS,
    temperature: float = TEMPERATURE,
    exclude_self: bool = False,
    device: str = "cpu",
) -> KnnPredictions:
    """Classes by weighted votes of the k nearest training images, for every k from one search.

    train_x: [n, d]; train_y: int [n] in 0..n_classes-1; test_x: [m, d]. A neighbour of cosine similarity s votes for its
    class with exp(s / temperature); the class with most votes wins, the lowest class number on a tie. A k larger than n
    (n - 1 with exclude_self: test_x is train_x, leave-one-out) is cut to it and named in `clipped`. Zero vectors, ties
    between neighbours, memory: see `top_k`. Raises DataError on NaN, lengths that differ, labels out of range, k < 1.
    Source: Wu et al. 2018; Caron et al. 2021 (eval_knn.py of DINO).
    """
    train_x = features(train_x, "train_x")
    train_y = labels(train_y, len(train_x), "train_y", n_classes=n_classes)
    ks = [int(k) for k in np.ravel(as_array(ks, "ks", real=True))]
    if not ks or min(ks) < 1:
        raise DataError("ks must be one or more whole numbers from 1 up, such as 1,5,10,20,100,200")
    if not temperature > 0:
        raise DataError(f"temperature is {temperature}; it must be above 0 (0.07 is usual)")
    reach = len(train_x) - 1 if exclude_self else len(train_x)
    used = sorted({min(int(k), reach) for k in ks})
    found = top_k(test_x, train_x, max(ks), exclude_self=exclude_self, device=device)
    votes = _vote(found, train_y, n_classes=n_classes, ks=used, temperature=temperature)
    return KnnPredictions(
        predictions=votes, n_train=len(train_x), clipped=tuple(sorted({int(k) for k in ks if k > reach}))
    )


def knn_accuracy(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    test_y: Array,
    *,
    n_classes: int,
    ks: Sequence[int] = KS,
    device: str = "cpu",
) -> KnnAccuracy:
    """Top-1 accuracy of `knn_predict` for every k. test_y: int [m] in 0..n_classes-1. Raises as `knn_predict` does."""
    test_x = as_array(test_x, "test_x")
    test_y = labels(test_y, test_x.shape[0] if test_x.ndim else 0, "test_y", n_classes=n_classes)
    found = knn_predict(train_x, train_y, test_x, n_classes=n_classes, ks=ks, device=device)
    correct = {k: predicted == test_y for k, predicted in found.predictions.items()}
    return KnnAccuracy(
        accuracy={k: float(hit.mean()) for k, hit in correct.items()},
        predictions=found.predictions,
        correct=correct,
        n=len(test_y),
        n_train=found.n_train,
        clipped=found.clipped,
    )


def largest(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of each row, sorted, equal ones by the lower column. scores: [b, n].

    Sorting is what costs. The columns are dealt into groups of _GROUP; the k + 1 groups with the largest maxima hold the
    k + 1 largest values (were one elsewhere, each of these groups would have a maximum at least as large), so that only
    their members are searched.
    """
    rows, n = scores.shape
    extra = min(k + 1, n)  # one more, to see whether the border runs through a tie
    width = n // _GROUP
    if extra * 2 >= width or scores.is_cuda:
        value, index = scores.topk(extra, dim=1)
    else:
        # Column c stands in group c % width: the strided maximum is a plain loop over contiguous rows, hence fast.
        # The columns behind the last whole round of groups are searched with the chosen ones.
        main = scores[:, : width * _GROUP].view(rows, _GROUP, width)
        groups = main.amax(dim=1).topk(extra, dim=1, sorted=False).indices
        members = torch.gather(main, 2, groups[:, None, :].expand(-1, _GROUP, -1)).view(rows, -1)
        rest = scores[:, width * _GROUP :]
        value, place = torch.cat([members, rest], dim=1).topk(extra, dim=1)
        inside = place.clamp(max=members.shape[1] - 1)
        column = torch.gather(groups, 1, inside % extra) + (inside // extra) * width
        index = torch.where(place < members.shape[1], column, place - members.shape[1] + width * _GROUP)
    tied = (value[:, 1:] == value[:, :-1]).any(dim=1)
    value, index = value[:, :k], index[:, :k]
    if bool(tied.any()):
        where = tied.nonzero()[:, 0]
        value, index = value.clone(), index.clone()
        for part in torch.split(where, 64):
            value[part], index[part] = _select_tied(scores[part], value[part, -1:], k)
    return value, index


def _select_tied(scores: torch.Tensor, border: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `largest`, for rows with equal values: all above the border value, then the first of those equal to it."""
    above = scores > border
    equal = scores == border
    room = k - above.sum(dim=1, keepdim=True)
    keep = above | (equal & (equal.cumsum(dim=1) <= room))
    index = keep.nonzero()[:, 1].view(len(scores), k)
    value, order = torch.sort(torch.gather(scores, 1, index), dim=1, descending=True, stable=True)
    return value, torch.gather(index, 1, order)


def _merge(
    best: tuple[torch.Tensor, torch.Tensor] | None, new: tuple[torch.Tensor, torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of two sorted lists; on a tie the first list, whose rows come first in base, wins."""
    if best is None:
        return new
    value, order = torch.sort(torch.cat([best[0], new[0]], dim=1), dim=1, descending=True, stable=True)
    return value[:, :k], torch.gather(torch.cat([best[1], new[1]], dim=1), 1, order[:, :k])


def _vote(
    found: Neighbours, train_y: Ints, *, n_classes: int, ks: Sequence[int], temperature: float
) -> dict[int, Ints]:
    """Predictions by k (sorted ks), adding to the votes of one k those of the neighbours up to the next."""
    m = len(found.indices)
    predictions = {k: np.empty(m, np.int64) for k in ks}
    step = block_rows(8 * (2 * n_classes + 3 * ks[-1]))
    for start in range(0, m, step):
        near = train_y[found.indices[start : start + step]]
        similarity = found.similarities[start : start + step].astype(np.float64)
        # Relative to the nearest neighbour: the same winner, and no overflow at a small temperature.
        weight = np.exp((similarity - similarity[:, :1]) / temperature)
        flat = near + n_classes * np.arange(len(near))[:, None]
        votes: Floats = np.zeros(len(near) * n_classes)
        done = 0
        for k in ks:
            votes += np.bincount(flat[:, done:k].ravel(), weights=weight[:, done:k].ravel(), minlength=len(votes))
            predictions[k][start : start + step] = votes.reshape(-1, n_classes).argmax(axis=1)
            done = k
    return predictions
