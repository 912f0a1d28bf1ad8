"""The plan of a training: what was asked for, or what of it fits into the time given on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from visus.locks import locked
from visus.models import Backbone
from visus.paths import home, write_text
from visus.progress import task
from visus.studies.transfer.regime_options import RegimeOptions
from visus.studies.transfer.regimes.runs import TrainingContext, content_key
from visus.training.budget import RegimeBudget, Sizes, Throughput, fit_to
from visus.training.networks import Built
from visus.training.regimes import REGIMES, WHOLE
from visus.training.throughput import sizes_for, throughput_of_last_block, throughput_of_network

TRIED = 0.3  # share of the epochs that a learning rate is tried for


def asked_for(regime: str, backbone: Backbone, options: RegimeOptions) -> RegimeBudget:
    """What a regime may spend when time is no matter."""
    epochs = options.scratch_epochs or options.epochs if regime == "scratch" else options.epochs
    trial = epochs if regime == "head" else max(1, round(TRIED * epochs))
    native = min(backbone.preprocess.size)
    size = options.size if options.size and regime in WHOLE else native
    return RegimeBudget(epochs, size, options.lr or REGIMES[regime].grid, trial)


def planned(
    context: TrainingContext, builts: Mapping[str, Built], networks: Mapping[str, Backbone], *, seconds: float | None
) -> tuple[dict[str, RegimeBudget], tuple[str, ...]]:
    """The plan as asked, or fitted to the time; a plan made for the same question is taken again, so that a run can be resumed."""
    asked = {r: asked_for(r, networks[r], context.options) for r in builts}
    if seconds is None or not asked:
        return asked, ()
    said = {r: asdict(a) for r, a in asked.items()}
    # Not of the seconds that are left: they differ in a resumed run, which must find its plan.
    key = content_key(context.data, networks, said, asdict(context.options), asdict(context.devices))
    file = home() / "training" / "plans" / f"{key}.json"
    waiting = f"another process measures how fast this machine trains {context.data.images.name}; its plan will be used"
    with locked(file.parent, waiting=waiting, name=f".{key}.lock"):
        if file.is_file():
            body = json.loads(file.read_text("utf-8"))
            plan = {r: RegimeBudget(**{**a, "grid": tuple(a["grid"])}) for r, a in body["plan"].items()}
            return plan, tuple(body["left_out"])
        start = time.perf_counter()
        throughputs, sizes = _throughputs(context, asked, builts, networks)
        left = seconds - (time.perf_counter() - start)
        plan, left_out = fit_to(asked, throughputs, sizes, seconds=max(left, 1.0))
        write_text(file, json.dumps({"plan": {r: asdict(a) for r, a in plan.items()}, "left_out": left_out}))
    return plan, left_out


def _throughputs(
    context: TrainingContext,
    asked: Mapping[str, RegimeBudget],
    builts: Mapping[str, Built],
    networks: Mapping[str, Backbone],
) -> tuple[dict[str, Any], Any]:
    """Seconds that each regime takes, measured, and the numbers of images."""
    data, options, recipe, devices = context.data, context.options, context.recipe, context.devices
    throughputs: dict[str, Throughput] = {}
    whole: Throughput | None = None
    with task("measuring how fast this machine trains", len(asked)) as progress:
        for regime in sorted(asked, key=("full", "scratch", "lora", "last-block", "head").index):
            built, backbone = builts[regime], networks[regime]
            if regime == "scratch" and "full" in throughputs:
                throughputs[regime] = throughputs["full"]
            elif regime in WHOLE:
                sizes = (asked[regime].size,) if options.size else sizes_for(built, backbone)
                throughputs[regime] = throughput_of_network(built, backbone, data, sizes, recipe, devices)
                whole = whole or throughputs[regime]
            elif regime == "last-block":
                native = min(backbone.preprocess.size)
                if whole is None or native not in whole.held:
                    whole = throughput_of_network(built, backbone, data, (native,), recipe, devices)
                throughputs[regime] = throughput_of_last_block(
                    built, backbone, data, context.settings, recipe, devices, whole
                )
            else:
                size, few = asked[regime].size, 2e-5
                front = 0.0
                if options.views:
                    front = options.views * len(data.train) * (whole.held[size] if whole else 0.01)
                throughputs[regime] = Throughput({size: front}, {size: few}, {size: few})
            progress.advance()
    return throughputs, Sizes(len(data.train), len(data.validation), len(data.test))
