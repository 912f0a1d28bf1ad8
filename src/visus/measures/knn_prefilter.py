"""The k largest inner products where the processor multiplies bfloat16 several times faster than float32, and exactly all the same.

All products are made in bfloat16, whose error has a bound. What could be among the k largest, whatever the errors are, is multiplied
again in float32, and these products alone decide. Where too much is in doubt, the row is given back unanswered.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from threading import local

import numpy as np
import torch

from visus.device import fast_bfloat16
from visus.measures._arrays import Array, Floats, Ints
from visus.memory import halving

# Rows of base that are searched at once; products of all threads that stand in memory (64 MiB); rows of query that stay in a core's cache.
COLUMNS, PRODUCTS, ROWS = 2**16, 2**25, 512
# From this many products up the work outweighs its preparation.
LEAST = 2**21
_CACHED = 1024  # rows that are rounded at once
_SAMPLE = 1000  # rows whose mean is taken from all
_HUGE = 1e37  # products from here on might not fit in float32
_PIECE = 2**20  # products that are compared at once: the answers stay in the cache
_NEVER = np.iinfo(np.int16).max  # as bfloat16 a NaN: no product reaches it
_LAST = np.iinfo(np.int64).max  # sorts behind every key


def pays(m: int, n: int, k: int, device: str) -> bool:
    """Whether `search` is the faster way to the k largest of n products for each of m rows."""
    return device == "cpu" and 16 * k <= n and m * n >= LEAST and fast_bfloat16()


def search(
    query: Array, base: Array, k: int, *, exclude_self: bool, advance: Callable[[int], None]
) -> tuple[Ints, Array]:
    """Keys of the k largest inner products of every row (int64 [m, k], best first; see `decode`), and which rows have none (bool [m]).

    query: float32 [m, d]; base: float32 [n, d]; both finite, n >= 16 k. advance: is told how many rows more are done.
    A thread takes a block of query through all steps, for half of them are not divided among threads by PyTorch or numpy.
    """
    m, n = len(query), len(base)
    keys, unanswered = np.full((m, k), _LAST, np.int64), np.zeros(m, bool)
    step = -(-n // -(-n // COLUMNS))
    threads = torch.get_num_threads()
    most = max(64, min(ROWS, PRODUCTS // (threads * step) // 64 * 64))
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool, _quiet(threads):
        for left in range(0, n, step):
            if unanswered.all():
                break
            block = _Block(torch.from_numpy(np.ascontiguousarray(base[left : left + step], np.float32)), left, k, pool)

            def run(at: slice, block: _Block = block) -> Array:
                size = min(most, -(-(at.stop - at.start) // threads))
                parts = [slice(start, min(start + size, at.stop)) for start in range(at.start, at.stop, size)]
                jobs = [
                    pool.submit(block.best, query[p], keys[p], unanswered[p], p.start if exclude_self else None)
                    for p in parts
                ]
                wait(jobs)
                # All of them first: where one lacks memory, all are done again.
                for part, (best, none) in zip(parts, [job.result() for job in jobs], strict=True):
                    keys[part], unanswered[part] = best, none
                return unanswered[at]

            for at, lost in halving(m, 4 * threads * most, run, what="searching neighbours"):
                if 2 * int(lost.sum()) > len(lost):
                    # Rows that bfloat16 cannot tell apart: the next would fare no better.
                    unanswered[at.start :] = True
                    break
                if left + step >= n:
                    advance(int((~lost).sum()))
    return keys, unanswered


@contextmanager
def _quiet(threads: int) -> Iterator[None]:
    """Without the warning that sparse matrices are new, and with PyTorch's number of threads as it was afterwards."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def decode(keys: Ints) -> tuple[Ints, Array]:
    """Columns (int64) and products (float32) of keys; the columns are written over the keys."""
    products = _products(keys)
    keys &= 0xFFFFFFFF
    return keys, products


def _products(keys: Ints) -> Array:
    bits = ~(keys >> 32).astype(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    return bits.view(np.float32)


class _Block:
    """Consecutive rows of base, rounded once, and the search in them for one block of query after another."""

    def __init__(self, base: torch.Tensor, left: int, k: int, pool: ThreadPoolExecutor) -> None:
        self.base, self.left, self.k = base, left, k
        self.rounded = _round(base, pool)
        # Maxima of groups bound the k-th largest product from below: closely, where the groups are many more than k.
        self.group = max(g for g in (1, 2, 4, 8, 16) if g == 1 or 4 * self.k * g <= len(base))
        self.own = local()

    @torch.inference_mode()
    def best(self, query: Array, keys: Ints, unanswered: Array, start: int | None) -> tuple[Ints, Array]:
        """`keys` and `unanswered` of a block of query with these rows of base too. start: the block's first row, where it is not its own
        neighbour."""
        n, rows = len(self.base), len(query)
        exact = torch.from_numpy(np.ascontiguousarray(query, np.float32))
        near = exact.bfloat16()
        products = self._room(n * rows).view(n, rows)
        # Of numbers above zero the bits are in the order of the numbers, and integers are compared several times faster.
        bits = products.view(torch.int16)
        torch.mm(self.rounded.rows, near.T, out=products)
        if start is not None:
            own = torch.arange(start, start + rows) - self.left
            inside = ((own >= 0) & (own < n)).nonzero()[:, 0]
            bits[own[inside], inside] = torch.iinfo(torch.int16).min
        width = n // self.group
        peaks = bits[: width * self.group].view(self.group, width, rows).amax(dim=0)
        slack = self.rounded.slack(exact, near)
        known = None
        if self.left:
            known = _products(keys[:, -1]) - (exact @ self.rounded.mean).numpy().astype(np.float64) - slack
        borders = _borders(peaks.T.contiguous().numpy(), self.k, slack, known)
        borders[unanswered] = _NEVER
        found = self._first(exact, *_reaching(bits.numpy(), borders))
        if self.left:
            found = np.sort(np.concatenate([keys, found], axis=1), axis=1)[:, : self.k]
        return found, borders == _NEVER

    def _room(self, size: int) -> torch.Tensor:
        """This thread's memory for products: to get it anew would cost as much as to fill it."""
        room: torch.Tensor | None = getattr(self.own, "room", None)
        if room is None or len(room) < size:
            room = self.own.room = _empty(size)
        return room[:size]

    def _first(self, query: torch.Tensor, row: Ints, column: Ints) -> Ints:
        """Keys int64 [m, k] of the largest float32 products of pairs: rows of base (in order) and of query."""
        n, m = len(self.base), len(query)
        # By rows of base, each of which then comes from memory once; the block of query stays in the cache.
        pairs = torch.sparse_csr_tensor(
            torch.from_numpy(np.concatenate([[0], np.bincount(row, minlength=n).cumsum()])),
            torch.from_numpy(column),
            torch.zeros(len(column)),
            (n, m),
            check_invariants=False,
        )
        products = torch.sparse.sampled_addmm(pairs, self.base, query.T, beta=0).values().numpy()
        # One number sorts by the row of query, then by the larger product (the bits of a float, put in order), then by the lower row of base.
        products += np.float32(0)  # -0.0 becomes 0.0
        bits = products.view(np.int32)
        sorted_by = (~(bits ^ ((bits >> 31) & 0x7FFFFFFF))).astype(np.int64)
        sorted_by += 2**31
        sorted_by <<= 16
        sorted_by |= row
        sorted_by |= column << 48
        sorted_by.sort()
        keys = np.full((m, self.k), _LAST, np.int64)
        counts = np.bincount(column, minlength=m)
        some = np.arange(self.k) < counts[:, None]
        first = sorted_by[((counts.cumsum() - counts)[:, None] + np.arange(self.k))[some]]
        keys[some] = (((first >> 16) - 2**31 & 0xFFFFFFFF) << 32) | ((first & 0xFFFF) + self.left)
        return keys


@dataclass(frozen=True)
class _Rounded:
    """Rows less `mean` in bfloat16 [n, d]. Largest norms: of a row as it was given, less the mean, and of what rounding took from it."""

    rows: torch.Tensor
    mean: torch.Tensor
    given: float
    centred: float
    lost: float

    def slack(self, exact: torch.Tensor, near: torch.Tensor) -> Floats:
        """float64 [m]: how far a product of `near` may be from the float32 product of `exact` with the row as it was given, less that
        with the mean.

        By Cauchy and Schwarz |a.b - a'.b'| <= |a - a'| |b| + |a'| |b - b'|; to it come the rounding of both float32 sums, of the
        centring and of the norms (a generous multiple of d 2^-24), and what is lost where numbers are too small for float32.
        """
        d = exact.shape[1]
        tiny, unit = d**0.5 * 2.0**-62, (d + 8) * 2.0**-22
        size, rounded, off = (_norms(x) for x in (exact, near.float(), exact - near.float()))
        bound = (off + tiny) * (self.centred + tiny) + (rounded + tiny) * (self.lost + tiny)
        found: Floats = bound * (1 + unit) + unit * (size + tiny) * (self.given + self.centred + tiny)
        return np.where(size * self.given < _HUGE, found, np.inf)


def _round(base: torch.Tensor, pool: ThreadPoolExecutor) -> _Rounded:
    # Whatever is taken from all rows alike changes no order; near their mean, it makes errors small. A part of the rows tells it.
    mean = base[:: max(1, len(base) // _SAMPLE)].mean(dim=0)
    rows = _empty(base.numel()).view(base.shape)

    @torch.inference_mode()
    def fill(at: slice) -> list[float]:
        less = base[at] - mean
        rows[at] = less
        return [float(_norms(x).max()) for x in (base[at], less, less - rows[at].float())]

    parts = [slice(start, start + _CACHED) for start in range(0, len(base), _CACHED)]
    given, centred, lost = (max(x) for x in zip(*pool.map(fill, parts), strict=True))
    return _Rounded(rows, mean, given, centred, lost)


def _empty(size: int) -> torch.Tensor:
    """bfloat16 [size], not filled: in the large pages that numpy asks for (small ones take as long to get as to fill), and where a line of
    the cache begins (which the product needs to be fast)."""
    room = np.empty(size + 32, np.int16)
    offset = -room.ctypes.data % 64 // 2
    return torch.from_numpy(room[offset : offset + size]).view(torch.bfloat16)


def _norms(x: torch.Tensor) -> Floats:
    found: Floats = torch.linalg.vector_norm(x, dim=1).numpy().astype(np.float64)
    return found


def _borders(peaks: Array, k: int, slack: Floats, known: Floats | None) -> Array:
    """int16 [m]: what the bits of a rounded product must reach, that it may be among the k largest; _NEVER where that is too common.

    peaks: int16 [m, w], maxima of groups: at least k products reach the k-th largest of them, t. Before they were rounded these were
    at least t - 2^-8 t, and exactly they are at least that less the slack; what is less than that less twice the slack is exactly less.
    Rounding keeps the order, so that the border may be rounded too. known: a border already known from other rows of base.
    """
    width = peaks.shape[1]
    bits = np.partition(peaks, width - k, axis=1)[:, width - k]
    reached = (bits.astype(np.int32) << 16).view(np.float32).astype(np.float64)
    border = reached * (1 - 2.0**-8) - 2 * slack
    if known is not None:
        border = np.maximum(border, known)
    certain = (border > 0) & (border < _HUGE)
    narrow: Array = (
        torch.from_numpy(np.where(certain, border, 0).astype(np.float32)).bfloat16().view(torch.int16).numpy()
    )
    common = 2 * (peaks >= narrow[:, None]).sum(axis=1) > width
    # Below zero the bits are in the opposite order.
    return np.where(certain & ~common, narrow, _NEVER).astype(np.int16)


def _reaching(products: Array, borders: Array) -> tuple[Ints, Ints]:
    """Rows (in order) and columns of what reaches the border of its column. products: int16 [n, m]."""
    n, m = products.shape
    step = max(1, _PIECE // m)
    mask = np.empty((step, m), bool)
    found = []
    for start in range(0, n, step):
        part = products[start : start + step]
        found.append(_true(np.greater_equal(part, borders, out=mask[: len(part)])) + start * m)
    flat = np.concatenate(found)
    row, column = np.divmod(flat, m)
    return row, column


def _true(mask: Array) -> Ints:
    """As `np.flatnonzero` of a contiguous bool array of which little is True: eight at a time."""
    flat = mask.reshape(-1)
    whole = len(flat) // 8 * 8
    words = flat[:whole].view(np.int64)
    some = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words[some].view(bool))
    found: Ints = some[inside >> 3]
    found <<= 3
    found += inside & 7
    return np.concatenate([found, np.flatnonzero(flat[whole:]) + whole]) if whole < len(flat) else found
