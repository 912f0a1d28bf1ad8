"""Two forked processes ask for the same features at once; prints what each saw as JSON. Run by test_robust.py."""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import torch
from tests.features import tiny

from visus.features import extract
from visus.progress import Silent, reporting


class Log(Silent):
    def __init__(self, lines: list[str], entered: Any, other_waits: Any) -> None:
        self.lines, self.entered, self.other_waits = lines, entered, other_waits

    def log(self, message: str) -> None:
        self.lines.append(message)
        if "another process" in message:
            self.other_waits.set()

    def advance(self, task: int, steps: int) -> None:
        # Whoever computes holds the lock until the other one has met it.
        self.entered.set()
        self.other_waits.wait(60)


def ask(store: str, second: bool, entered: Any, other_waits: Any, answers: Any) -> None:
    if second:
        entered.wait(60)
    images, model, lines = tiny.noise(60), tiny.backbone(), []
    with reporting(Log(lines, entered, other_waits)):
        features = extract(images, model, ["head"], engine="torch", batch=4, shard_rows=8, workers=2, store=Path(store))
    answers.put((features.cost["cached"], len(images.source.reads), lines, features["head"].tolist()))  # type: ignore[attr-defined]


def main(store: str) -> None:
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    entered, other_waits, answers = context.Event(), context.Event(), context.SimpleQueue()
    children = [
        context.Process(target=ask, args=(store, second, entered, other_waits, answers)) for second in (False, True)
    ]
    for child in children:
        child.start()
    got = [answers.get() for _ in children]
    for child in children:
        child.join()
    print(  # noqa: T201
        json.dumps(
            {
                "cached": [g[0] for g in got],
                "reads": [g[1] for g in got],
                "log": [line for g in got for line in g[2]],
                "equal": got[0][3] == got[1][3],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
