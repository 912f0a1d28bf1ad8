"""Which device a computation runs on: one reading of --device for every room; what the processor multiplies fast."""

from __future__ import annotations

import torch

from visus.errors import SpecError


def choose_device(device: str) -> str:
    """'auto' -> 'cuda' where there is one, else 'cpu'; 'cpu', 'cuda' and 'cuda:N' as they are. Raises SpecError for one that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and number.isdigit())):
        raise SpecError(f"unknown device {device!r}; write --device auto, cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise SpecError(
            f"there is no {device}: this machine shows no CUDA device to PyTorch; write --device cpu or auto"
        )
    if number and int(number) >= torch.cuda.device_count():
        raise SpecError(
            f"there is no {device}; this machine has {torch.cuda.device_count()} CUDA devices, counted from 0"
        )
    return device


def fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AMX, AVX512-BF16), as PyTorch tells; False where it does not tell."""
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
