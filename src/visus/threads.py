"""Threads: how many this process should use, and the one place that tells every library so.

Two OpenMP threads on a machine with one free core wait for each other by spinning, and run many times slower than one. So a run
takes as many threads as cores are free when it starts, and its OpenMP teams wait without spinning.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import joblib
import psutil
from threadpoolctl import threadpool_limits

from visus.errors import SpecError
from visus.progress import log

# Long enough for ten ticks of the kernel's clock on each core.
SAMPLE_SECONDS = 0.15
# Read by OpenMP, OpenBLAS, MKL and numba when they are first loaded.
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Threads:
    """count: threads to use. cores: cores that this process may use. busy: of those, what others used when it was asked (0 where not asked)."""

    count: int
    cores: int
    busy: float = 0.0


_chosen: ContextVar[Threads | None] = ContextVar("visus_threads", default=None)


def cores() -> int:
    """Cores that this process may use: its affinity and the quota of its container, as joblib finds them."""
    return max(1, int(joblib.cpu_count()))


def count() -> int:
    """Threads to use here: what `using` chose, else one for each core that this process may use."""
    chosen = _chosen.get()
    return cores() if chosen is None else chosen.count


def free(seconds: float = SAMPLE_SECONDS) -> Threads:
    """Watch the machine for `seconds` (this process sleeps meanwhile): one thread for each core that is free, at least one.

    Time of niced processes counts as free: they give way.
    """
    most = cores()
    mine = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    idle = 0.0
    shares = psutil.cpu_times_percent(seconds, percpu=True)
    for number, share in enumerate(shares):
        if mine is None or number in mine:
            idle += (share.idle + getattr(share, "iowait", 0.0) + getattr(share, "nice", 0.0)) / 100
    there = len(shares if mine is None else mine)
    return Threads(min(most, max(1, round(idle))), most, busy=max(0.0, there - idle))


@contextmanager
def using(wanted: int | None = None) -> Iterator[Threads]:
    """Let everything inside use `wanted` threads, or as many as cores are free now; put every setting back afterwards.

    Libraries that are loaded already are told by their own functions (PyTorch, BLAS, OpenMP, numba), those that come later by their
    environment variables; a variable that the user has set stays. Raises SpecError unless wanted is at least 1.
    """
    if wanted is not None and wanted < 1:
        raise SpecError(f"--threads must be at least 1, not {wanted}")
    chosen = free() if wanted is None else Threads(min(wanted, cores()), cores())
    if wanted is not None and chosen.count < wanted:
        log(f"{chosen.count} threads instead of {wanted}: this process may use {chosen.cores} cores")
    given = {name: os.environ.get(name) for name in (*_VARIABLES, "OMP_WAIT_POLICY")}
    with ExitStack() as stack:
        stack.callback(_restore, given)
        for name in _VARIABLES:
            os.environ.setdefault(name, str(chosen.count))
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        _tell_loaded(chosen.count, given, stack)
        token = _chosen.set(chosen)
        stack.callback(_chosen.reset, token)
        yield chosen


def _tell_loaded(count: int, given: dict[str, str | None], stack: ExitStack) -> None:
    """Set the number of threads of libraries that are loaded already, and leave on `stack` what puts them back."""
    stack.enter_context(threadpool_limits(_at_most(given["OPENBLAS_NUM_THREADS"], count), user_api="blas"))
    stack.enter_context(threadpool_limits(_at_most(given["OMP_NUM_THREADS"], count), user_api="openmp"))
    if torch := sys.modules.get("torch"):
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(_at_most(given["OMP_NUM_THREADS"], count))
    if numba := sys.modules.get("numba"):
        stack.callback(numba.set_num_threads, numba.get_num_threads())
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


def _at_most(given: str | None, count: int) -> int:
    """The user's own variable where it asks for fewer."""
    return min(count, int(given)) if given and given.isdecimal() and int(given) > 0 else count


def _restore(given: dict[str, str | None]) -> None:
    for name, value in given.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
