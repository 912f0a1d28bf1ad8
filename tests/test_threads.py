"""Threads follow the cores that are free; every setting comes off again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import torch
from threadpoolctl import threadpool_info

from visus import threads
from visus.errors import SpecError
from visus.progress import Silent, reporting


def _busy(monkeypatch: pytest.MonkeyPatch, *idle: float, cores: int | None = None) -> None:
    shares = [SimpleNamespace(idle=i, iowait=0.0, nice=0.0) for i in idle]
    monkeypatch.setattr(psutil, "cpu_times_percent", lambda interval, percpu: shares)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(len(idle))), raising=False)
    monkeypatch.setattr(threads, "cores", lambda: len(idle) if cores is None else cores)


@pytest.mark.parametrize(
    ("idle", "expected"),
    [
        ((99, 98), 2),
        ((97, 2), 1),
        ((50, 47), 1),
        ((3, 1), 1),
        ((0, 0, 0, 100, 90, 95, 100, 98), 5),
        ((90, 70, 95, 80), 3),
    ],
)
def test_a_thread_for_each_free_core_and_at_least_one(
    monkeypatch: pytest.MonkeyPatch, idle: tuple[float, ...], expected: int
) -> None:
    _busy(monkeypatch, *idle)
    assert threads.free(0).count == expected


def test_a_container_with_a_quota_below_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    _busy(monkeypatch, *[100.0] * 16, cores=2)
    assert threads.free(0) == threads.Threads(2, 2, 0.0)


def test_niced_work_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    _busy(monkeypatch, 0, 0)
    shares = [SimpleNamespace(idle=2.0, iowait=0.0, nice=97.0)] * 2
    monkeypatch.setattr(psutil, "cpu_times_percent", lambda interval, percpu: shares)
    assert threads.free(0).count == 2


def test_real_busy_processes_are_seen() -> None:
    spin = "while True: pass"
    others = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(threads.cores())]
    try:
        time.sleep(0.3)
        found = threads.free()
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert found.count == 1
    assert found.busy > 0.5 * threads.cores()


def test_what_is_loaded_is_told_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    torch.set_num_threads(2)
    blas = [pool["num_threads"] for pool in threadpool_info()]
    try:
        with threads.using(1) as chosen:
            assert (chosen.count, threads.count(), torch.get_num_threads()) == (1, 1, 1)
            assert os.environ["OMP_NUM_THREADS"] == "1"
            assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
            assert all(pool["num_threads"] == 1 for pool in threadpool_info())
        assert torch.get_num_threads() == 2
        assert [pool["num_threads"] for pool in threadpool_info()] == blas
        assert "OMP_NUM_THREADS" not in os.environ
        assert "OMP_WAIT_POLICY" not in os.environ
        assert threads.count() == 3
    finally:
        torch.set_num_threads(1)


def test_the_users_own_variable_is_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with threads.using(8) as chosen:
        assert chosen.count == 8
        assert torch.get_num_threads() == 1
        assert os.environ["OMP_NUM_THREADS"] == "1"


def test_more_threads_than_cores_are_cut_and_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    class Heard(Silent):
        def log(self, message: str) -> None:
            heard.append(message)

    monkeypatch.setattr(threads, "cores", lambda: 2)
    with reporting(Heard()), threads.using(64) as chosen:
        assert chosen.count == 2
    assert heard == ["2 threads instead of 64: this process may use 2 cores"]
    with pytest.raises(SpecError, match="--threads must be at least 1, not 0"), threads.using(0):
        pass
