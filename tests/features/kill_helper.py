"""Forks children that extract, and kills them at seeded moments; prints what happened as JSON. Run by test_robust.py.

PyTorch is loaded once, here, and no operation of it runs before the forks: a fork with OpenMP threads would hang.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from tests.features import tiny

from visus.features import extract

KILLS = 20
N = 120


def run(store: Path, model: object, images: object, stop_at: int | None) -> None:
    """A child: extract; with `stop_at`, kill itself by SIGKILL at that many-th write, half of the bytes on disk."""
    written = 0
    honest = Path.write_bytes

    def write(self: Path, data: bytes) -> int:
        nonlocal written
        written += 1
        if written == stop_at:
            honest(self, bytes(data)[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(self, data)

    # A kill leaves the page cache as it is: waiting for the disk would only make the test slow.
    os.fsync = lambda _file: None
    Path.write_bytes = write  # type: ignore[method-assign]
    extract(images, model, ["stem", "head"], engine="torch", batch=4, shard_rows=8, workers=2, store=store)  # type: ignore[arg-type]


def fork(store: Path, model: object, images: object, stop_at: int | None = None, delay: float | None = None) -> int:
    """Run a child to its end, or to its kill after `delay` seconds; its wait status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(store, model, images, stop_at)
            code = 0
        finally:
            os._exit(code)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rng = random.Random(0)
    images, model = tiny.noise(N), tiny.backbone()
    images.fingerprint, model.fingerprint  # noqa: B018  (computed once for all children)
    begun = time.monotonic()
    assert fork(folder / "straight", model, images) == 0
    whole = time.monotonic() - begun
    kills, half, at_kill, number = 0, 0, [], 0
    while kills < KILLS:
        store = folder / f"killed-{number}"
        while True:
            # Every second kill at a random write, the others at a random time; a child that ends first is a round's end.
            timed = kills % 2 == 0
            last = kills == KILLS
            status = fork(
                store,
                model,
                images,
                stop_at=None if timed or last else rng.randrange(1, 24),
                delay=rng.uniform(0.2, 0.9) * whole if timed and not last else None,
            )
            if status == 0:
                break
            assert status == -signal.SIGKILL, status
            kills += 1
            at_kill.append(len(list(store.rglob("part-*.parquet"))))
            half += bool(list(store.rglob(".*.tmp")))
        number += 1
    print(json.dumps({"kills": kills, "rounds": number, "shards_at_kill": at_kill, "half_written": half}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
