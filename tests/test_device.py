"""One reading of --device for every room."""

from __future__ import annotations

import pytest
import torch

import visus
from visus.device import choose_device
from visus.errors import SpecError


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (choose_device("auto"), choose_device("cpu")) == ("cpu", "cpu")
    for device in ("cuda", "cuda:0"):
        with pytest.raises(
            SpecError,
            match=f"there is no {device}: this machine shows no CUDA device to PyTorch; write --device cpu or auto",
        ):
            choose_device(device)


def test_with_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [choose_device(d) for d in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    with pytest.raises(SpecError, match="there is no cuda:2; this machine has 2 CUDA devices, counted from 0"):
        choose_device("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "mps", "cpu:0", "cuda:", "cuda:one", "", "CUDA"])
def test_a_device_that_is_none(device: str) -> None:
    with pytest.raises(SpecError, match=r"unknown device .*; write --device auto, cpu, cuda or cuda:N"):
        choose_device(device)


@pytest.mark.parametrize("study", ["predict", "extract", "transfer", "vit", "clip", "vae", "train"])
def test_every_command_says_the_same_of_the_same_mistake(study: str, tmp_path: object) -> None:
    given = {
        "predict": {"images": ["visus:digits"]},
        "train": {"kind": "vit", "images": "visus:digits", "out": str(tmp_path)},
    }
    with pytest.raises(SpecError, match="unknown device 'gpu'; write --device auto, cpu, cuda or cuda:N"):
        getattr(visus, study)(**{"images": "visus:digits", **given.get(study, {})}, device="gpu", limit=20)
