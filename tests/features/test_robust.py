"""Kills, two processes at once, full disks, damaged shards: the store comes out whole, and the same bytes every time."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.features import tiny

from visus.errors import StoreError
from visus.features import extract, plan
from visus.features import manifest as manifests
from visus.features.manifest import part

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = {"engine": "torch", "batch": 4, "shard_rows": 8, "workers": 2}


def content(store: Path) -> dict[str, bytes]:
    """Every file of a store but locks and what a run took."""
    skip = (manifests.COST, ".lock")
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file() and p.name not in skip}


def helper(name: str, *arguments: str) -> dict[str, Any]:
    """Run a forking script of this folder in a process of its own; what it prints as JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    command = [sys.executable, str(Path(__file__).with_name(name)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_kill_9_at_twenty_random_moments_leaves_the_same_bytes(tmp_path: Path) -> None:
    report = helper("kill_helper.py", str(tmp_path))
    assert report["kills"] == 20
    assert report["rounds"] == len(list(tmp_path.glob("killed-*"))) > 0
    # Every second kill strikes in the middle of a write, and leaves half of a file.
    assert 10 <= report["half_written"] <= 20
    # Kills landed across the run: before the first shard and after some.
    assert len(set(report["shards_at_kill"])) >= 4
    straight = content(tmp_path / "straight")
    assert len(straight) == 2 * (15 + 1)
    for number in range(report["rounds"]):
        assert content(tmp_path / f"killed-{number}") == straight


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4, 5])
def test_a_run_that_dies_between_two_taps_leaves_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    images, model = tiny.noise(40), tiny.backbone()
    extract(images, model, ["stem", "head"], store=tmp_path / "straight", **SETTINGS)
    honest, written = manifests.Manifest.write, []

    def dying(self: manifests.Manifest, folder: Path) -> None:
        written.append(folder)
        if len(written) == dies_at:
            raise KeyboardInterrupt
        honest(self, folder)

    monkeypatch.setattr(manifests.Manifest, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        extract(images, model, ["stem", "head"], store=tmp_path / "cut", **SETTINGS)
    monkeypatch.setattr(manifests.Manifest, "write", honest)
    extract(images, model, ["stem", "head"], store=tmp_path / "cut", **SETTINGS)
    assert content(tmp_path / "cut") == content(tmp_path / "straight")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_of_two_processes_one_computes_and_the_other_uses_it(tmp_path: Path) -> None:
    report = helper("race_helper.py", str(tmp_path))
    assert sorted(report["cached"]) == [False, True]
    assert sum(report["reads"]) == 60
    assert sum("another process" in line for line in report["log"]) == 1
    assert report["equal"]
    costs = list(tmp_path.rglob(manifests.COST))
    assert len(costs) == 1
    assert len(costs[0].read_text().splitlines()) == 1


@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_shard_is_found_and_computed_again(tmp_path: Path, harm: str) -> None:
    images, model = tiny.noise(30), tiny.backbone()
    first = extract(images, model, ["stem", "head"], store=tmp_path, **SETTINGS)
    before = content(tmp_path)
    victim = first.folders["head"] / part(2)
    data = bytearray(victim.read_bytes())
    if harm == "gone":
        victim.unlink()
    else:
        data[len(data) // 2] ^= 1
        victim.write_bytes(data if harm == "flip" else data[:-9])
    reads = images.source.reads  # type: ignore[attr-defined]
    reads.clear()
    again = extract(images, model, ["stem", "head"], store=tmp_path, **SETTINGS)
    assert sorted(reads) == list(range(16, 24))
    assert again.cost["cached"] is False
    assert content(tmp_path) == before


def test_a_damaged_manifest_starts_the_tap_again(tmp_path: Path) -> None:
    images, model = tiny.noise(10), tiny.backbone()
    first = extract(images, model, ["head"], store=tmp_path, **SETTINGS)
    before = content(tmp_path)
    (manifests.side(first.folders["head"]) / manifests.MANIFEST).write_text('{"format": 1, "run"')
    extract(images, model, ["head"], store=tmp_path, **SETTINGS)
    assert content(tmp_path) == before


def test_other_versions_never_finish_a_begun_tap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, model = tiny.noise(30), tiny.backbone()
    first = extract(images, model, ["head"], store=tmp_path, **SETTINGS)
    (first.folders["head"] / part(1)).unlink()
    monkeypatch.setattr(plan, "versions", lambda engine: {"torch": "0.4"})
    again = extract(images, model, ["head"], store=tmp_path, **SETTINGS)
    made = manifests.read(again.folders["head"])
    assert made is not None
    assert made.run.versions == {"torch": "0.4"}
    assert len(images.source.reads) == 60  # type: ignore[attr-defined]


def test_a_full_disk_is_said_and_the_next_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, model = tiny.noise(40), tiny.backbone()
    extract(images, model, ["head"], store=tmp_path / "straight", **SETTINGS)
    honest, written = Path.write_bytes, []

    def full(self: Path, data: Any) -> int:
        if ".parquet" in self.name:
            written.append(self.name)
            if len(written) == 3:
                honest(self, bytes(data)[:10])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return honest(self, data)

    store = tmp_path / "full"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreError, match="No space left on device; free some space") as caught:
            extract(images, model, ["head"], store=store, **SETTINGS)
    assert "\n" not in str(caught.value)
    assert not list(store.rglob(".*.tmp"))
    assert len(list(store.rglob("part-*.parquet"))) == 2
    reads = images.source.reads  # type: ignore[attr-defined]
    reads.clear()
    extract(images, model, ["head"], store=store, **SETTINGS)
    assert len(reads) == 24
    assert content(store) == content(tmp_path / "straight")


def test_a_small_tmpfs_fills_up(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(mount)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no permission to mount a tmpfs: {made.stderr.strip()}")
    try:
        images, model = tiny.noise(200), tiny.backbone()
        with pytest.raises(StoreError, match="No space left on device"):
            extract(images, model, ["eyes"], pool="flatten", store=mount / "store", **SETTINGS)
        assert not list(mount.rglob(".*.tmp"))
        kept = len(list(mount.rglob("part-*.parquet")))
        assert kept > 0
        subprocess.run(["mount", "-o", "remount,size=8m", str(mount)], check=True)
        reads = images.source.reads  # type: ignore[attr-defined]
        reads.clear()
        features = extract(images, model, ["eyes"], pool="flatten", store=mount / "store", **SETTINGS)
        assert len(reads) <= 200 - 8 * (kept - 1)
        assert features["eyes"].shape == (200, 3 * tiny.SIZE * tiny.SIZE)
    finally:
        subprocess.run(["umount", str(mount)], check=False)


def test_taps_that_stopped_at_different_shards_finish_alike(tmp_path: Path) -> None:
    images, model = tiny.noise(30), tiny.backbone()
    first = extract(images, model, ["stem", "head"], store=tmp_path, **SETTINGS)
    before = content(tmp_path)
    (first.folders["stem"] / part(3)).unlink()
    (first.folders["head"] / part(1)).unlink()
    # Only 'head' is asked for, and yet it leaves the network together with 'stem', as it did at first.
    extract(images, model, ["head"], store=tmp_path, **SETTINGS)
    extract(images, model, ["stem", "head"], store=tmp_path, **SETTINGS)
    assert content(tmp_path) == before
