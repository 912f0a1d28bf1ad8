"""Looking inside a vision transformer: what dropping patches saves, and what attention costs, against transformers' own way.

python benchmarks/vit.py [--quick] [--dry] [--masking] [--runs N]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _common import alternate, fair_environment, median_ratio, record

THREADS = "2"
RATIOS = tuple(round(1 - k / 10, 1) for k in range(10))
SIZES = {224: 8, 518: 2}
"""Pixels a side and the batch: 224 is ViT's own, 518 is DINOv2's own, where the matrices weigh more."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small case, nothing recorded")
    parser.add_argument("--dry", action="store_true", help="nothing recorded")
    parser.add_argument("--masking", action="store_true", help="the masking curve alone, nothing recorded")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory", choices=("none", "last", "all", "eager"), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=224, help=argparse.SUPPRESS)
    args = parser.parse_args()
    fair_environment()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = THREADS
    # Where a core is taken by another process, threads that wait by spinning would slow PyTorch's loop down many times.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if args.memory:
        print(peak_of(args.memory, args.size, quick=args.quick))
        return
    rows, runs = [], 1 if args.quick else args.runs
    rows += masking(runs, quick=args.quick)
    if args.masking:
        print(*rows, sep="\n")
        return
    rows += dropping(runs, quick=args.quick)
    for size in SIZES:
        rows += capturing(runs, size, quick=args.quick)
    for size in SIZES:
        peaks = {what: peak_of_process(what, size, quick=args.quick) for what in ("none", "last", "all", "eager")}
        for what, name in {
            "last": "CLS row of the last layer",
            "all": "whole matrices of all layers",
            "eager": "transformers' eager output_attentions",
        }.items():
            above = round(peaks[what] - peaks["none"])
            rows.append(row(f"{size} px: {name}, peak memory above a forward's, MB", above, 0, "-"))
    notes = [
        f"ViT-B of transformers, random weights, patches of 16 px at 224 px (197 tokens, batch {SIZES[224]}) and of 14 px "
        f"at 518 px (1,370 tokens, batch {SIZES[518]}), float32, {THREADS} threads; DeiT-S of timm for dropping; medians "
        f"of {runs} runs, in turn.",
        "Peer of attention: the same network with attn_implementation='eager' and output_attentions=True, which makes "
        "the matrices of all layers; ours the last layer's CLS row beside fused attention.",
        "Masking: visus:emoji-vit on 300 pictures of 64 px, nine ratios by dropped tokens and nine by blanked pixels; the plain loop is "
        "PyTorch's at its best batch of 16, 32 and 64; making the network ready is counted, tracing it for the first time is not.",
        "Memory: the peak of a fresh process while it does the thing once, its mark reset after one plain forward.",
    ]
    record("Inside vision transformers (benchmarks/vit.py)", rows, notes, dry=args.quick or args.dry)


def row(what: str, ours: float, peer: float, target: str) -> dict[str, Any]:
    return {"what": what, "visus": ours, "against": peer or "", "ratio": ours / peer if peer else "", "target": target}


def masking(runs: int, *, quick: bool) -> list[dict[str, Any]]:
    """A pattern's two curves as `visus vit` measures them, against a plain loop over batches in PyTorch."""
    import numpy as np
    import torch

    from visus.measures.masking import kept_at, patch_order
    from visus.models import load_backbone
    from visus.models.tokens import forward_kept
    from visus.models.vit import vit_layout
    from visus.studies.vit.engine import Engine
    from visus.studies.vit.masking.curves import hidden

    torch.set_num_threads(int(THREADS))
    backbone = load_backbone("visus:emoji-vit")
    inside = vit_layout(backbone)
    n = 32 if quick else 300
    raw = np.random.default_rng(0).integers(0, 256, (n, *backbone.preprocess.size, 3), dtype=np.uint8)
    order = patch_order("random", inside.grid, n)
    paint = np.full((1, 1, 1, 3), 127, np.uint8)
    ratios = RATIOS[1:3] if quick else RATIOS[1:]
    kept = [kept_at(order, r) for r in ratios]
    blank = [hidden(raw, paint, order, inside.grid, r) for r in ratios]
    seen: dict[str, Any] = {}

    def engine() -> None:
        ours = Engine(backbone, raw, inside.patches)
        seen["visus"] = [ours.outputs(raw, k) for k in kept] + [ours.outputs(b) for b in blank]

    def loop(size: int = 64) -> None:
        parts = [slice(i, i + size) for i in range(0, n, size)]

        def batch(pixels: Any, at: slice) -> Any:
            return backbone.preprocess.normalize(torch.from_numpy(pixels[at]))

        with torch.inference_mode():
            dropped = [[forward_kept(backbone, batch(raw, at), torch.from_numpy(k[at])) for at in parts] for k in kept]
            blanked = [[backbone.output(batch(b, at)) for at in parts] for b in blank]
        seen["loop"] = [torch.cat(found).numpy() for found in dropped + blanked]

    engine()
    tried = {size: alternate(1, loop=lambda size=size: loop(size))["loop"][0] for size in (16, 32, 64)}
    best = min(tried, key=lambda size: tried[size])
    seconds = alternate(runs, visus=engine, loop=lambda: loop(best))
    for a, b in zip(seen["visus"], seen["loop"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    ours, peer = (statistics.median(seconds[k]) for k in ("visus", "loop"))
    found = row(
        f"masking curves of {n} pictures: PyTorch's loop in batches of {best} over ours, s", peer, ours, ">= 1.2"
    )
    found["ratio"] = median_ratio(seconds["loop"], seconds["visus"])
    found["visus"], found["against"] = ours, peer
    return [found]


def dropping(runs: int, *, quick: bool) -> list[dict[str, Any]]:
    """The curve over ten keep ratios against ten full forwards."""
    import torch

    from visus.measures.masking import kept_at, patch_order
    from visus.models import load_backbone
    from visus.models.tokens import forward_kept
    from visus.models.vit import vit_layout

    torch.set_num_threads(int(THREADS))
    backbone = load_backbone("timm:deit_small_patch16_224?weights=none" if not quick else "visus:emoji-vit")
    inside = vit_layout(backbone)
    x = torch.randn(4 if quick else 16, 3, *backbone.preprocess.size)
    order = patch_order("random", inside.grid, len(x))
    kept = [torch.from_numpy(kept_at(order, r)) for r in RATIOS]

    def curve() -> None:
        for k in kept:
            forward_kept(backbone, x, k)

    def full() -> None:
        with torch.inference_mode():
            for _ in RATIOS:
                backbone.output(x)

    curve()
    full()
    seconds = alternate(runs, visus=curve, full=full)
    ours, peer = (statistics.median(seconds[k]) for k in ("visus", "full"))
    found = row("drop curve, keep 1.0 to 0.1, against ten full forwards, s", ours, peer, "<= 0.65")
    found["ratio"] = median_ratio(seconds["visus"], seconds["full"])
    return [found]


def made(size: int, *, eager: bool = False, quick: bool = False) -> Any:
    """A randomly initialised ViT-B of transformers as a Backbone, by the public route."""
    import tempfile

    import torch
    from transformers import ViTConfig, ViTForImageClassification

    from visus.models import load_backbone

    torch.set_num_threads(int(THREADS))
    torch.manual_seed(0)
    sizes: dict[str, int] = {"image_size": size, "patch_size": 16 if size == 224 else 14}
    if quick:
        sizes["num_hidden_layers"] = 2
    with tempfile.TemporaryDirectory() as folder:
        ViTForImageClassification(ViTConfig(**sizes)).save_pretrained(folder)
        backbone = load_backbone(folder)
    inner: Any = backbone.module.model
    if eager:
        inner.set_attn_implementation("eager")
    return backbone


def capturing(runs: int, size: int, *, quick: bool) -> list[dict[str, Any]]:
    """Last-layer CLS attention beside a forward, against the forward alone and against transformers' eager attentions."""
    import torch

    from visus.models.attention import attention

    ours, eager = made(size, quick=quick), made(size, eager=True, quick=quick)
    inner: Any = eager.module.model
    x = torch.randn(SIZES[size], 3, *ours.preprocess.size)
    seen: dict[str, Any] = {}

    def capture() -> None:
        seen["visus"] = next(iter(attention(ours, x).maps.values()))

    def plain() -> None:
        with torch.inference_mode():
            ours.output(x)

    def peer() -> None:
        with torch.inference_mode():
            seen["peer"] = inner(pixel_values=x, output_attentions=True).attentions[-1][:, :, 0, 1:]

    for warm in (capture, plain, peer):
        warm()
    assert torch.allclose(seen["visus"], seen["peer"], atol=1e-5)
    seconds = alternate(runs, visus=capture, plain=plain, peer=peer)
    middle = {k: statistics.median(v) for k, v in seconds.items()}
    beside = row(
        f"{size} px: forward with last-layer CLS attention, against the forward alone, s",
        middle["visus"],
        middle["plain"],
        "<= 1.10",
    )
    beside["ratio"] = median_ratio(seconds["visus"], seconds["plain"])
    faster = row(
        f"{size} px: transformers' eager output_attentions over ours, s", middle["peer"], middle["visus"], ">= 1.5"
    )
    faster["ratio"] = median_ratio(seconds["peer"], seconds["visus"])
    faster["visus"], faster["against"] = middle["visus"], middle["peer"]
    return [beside, faster]


def peak_of_process(what: str, size: int, *, quick: bool) -> float:
    """What `peak_of` says in a fresh process."""
    command = [sys.executable, __file__, "--memory", what, "--size", str(size), *(["--quick"] if quick else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_of(what: str, size: int, *, quick: bool) -> float:
    """Peak memory of this process in MB while it does one pass: alone, with the last layer's CLS row, or with all matrices.

    Linux keeps the peak since the start of the process, which loading the weights sets; writing 5 to clear_refs resets it.
    """
    import torch

    from visus.models.attention import attention
    from visus.models.vit import vit_layout

    backbone = made(size, eager=what == "eager", quick=quick)
    inside = vit_layout(backbone)
    x = torch.randn(SIZES[size], 3, *backbone.preprocess.size)
    inner: Any = backbone.module.model
    kept: Any = None
    with torch.inference_mode():
        kept = backbone.output(x)
        Path("/proc/self/clear_refs").write_text("5")
        if what == "none":
            kept = backbone.output(x)
        elif what == "last":
            kept = attention(backbone, x)
        elif what == "all":
            kept = attention(backbone, x, layers=range(len(inside.blocks)), rows="all")
        else:
            kept = inner(pixel_values=x, output_attentions=True)
    status = Path("/proc/self/status").read_text()
    assert kept is not None
    return max(int(kb) for kb in re.findall(r"VmHWM:\s+(\d+) kB", status)) * 1024 / 1e6


if __name__ == "__main__":
    main()
