"""Too little memory: how it shows, and a pass over many rows that goes on in smaller parts.

Stands alone at the root, so that whatever computes in batches may use it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from visus.errors import DataError
from visus.progress import log

T = TypeVar("T")
# Messages of errors that have no class of their own: the CPU's allocator, CUDA's driver, cuBLAS and cuDNN, OpenVINO.
SIGNS = (
    "can't allocate memory", "out of memory", "alloc_failed", "cublas_status_alloc", "cudnn_status_alloc",
    "failed to allocate", "bad allocation", "bad_alloc",
)  # fmt: skip


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was too little, of the machine or of a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in said for sign in SIGNS)


def free_cached() -> None:
    """Give back what PyTorch's CUDA allocator keeps for later; nothing where CUDA was not used."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def halving(n: int, size: int, run: Callable[[slice], T], *, what: str, least: int = 1) -> Iterator[tuple[slice, T]]:
    """Rows 0 to n - 1 through `run`, in order, `size` at a time; out of memory, in half as many from there on.

    run: a slice -> anything; called again for the first half of a slice that was too large, so it must not have kept anything of it.
    what: what runs, for the log and the error. least: rows that `run` needs. Raises DataError when even these are too many.
    """
    start = 0
    while start < n:
        part = slice(start, min(start + size, n))
        found, failed = _tried(run, part)
        if failed is None:
            yield part, found  # type: ignore[misc]
            start = part.stop
            continue
        # Outside the except block: a traceback holds the tensors of the pass that failed.
        rows = part.stop - part.start
        free_cached()
        if rows <= least:
            raise DataError(
                f"{what}: out of memory with {rows} at a time ({failed}); free some, or use a smaller model"
            )
        size = max(rows // 2, least)
        log(f"{what}: out of memory with {rows} at a time; goes on with {size}")


def roomier(run: Callable[[str], T], device: str, *, what: str) -> T:
    """What `run` gives on `device`; where a GPU has too little memory for it, on the CPU, which is logged.

    For a computation whose parts all stand in memory at once, so that it cannot go on in halves.
    """
    if device == "cpu":
        return run(device)
    found, failed = _tried(lambda _: run(device), slice(0))
    if failed is None:
        return found  # type: ignore[return-value]
    free_cached()
    log(f"{what}: out of memory on {device} ({failed}); goes on on the CPU")
    return run("cpu")


def _tried(run: Callable[[slice], T], part: slice) -> tuple[T | None, str | None]:
    try:
        return run(part), None
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return None, lines[0][:120]
