"""From the words of the command line to options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from visus.device import choose_device
from visus.studies.common.options import ImageOptions, check_choice
from visus.studies.transfer.options import (
    POOLS,
    PRECISIONS,
    PROTOCOLS,
    FeatureOptions,
    Options,
    ProbeOptions,
    TrainingRequest,
)
from visus.studies.transfer.regime_options import RegimeOptions, chosen_rates, chosen_regimes
from visus.training.budget import seconds_of

DEFAULT_MODEL = "visus:effnet-lite0"


def settled(
    *,
    models: Sequence[str] | None,
    images: ImageOptions,
    features: FeatureOptions,
    probe: ProbeOptions,
    training: TrainingRequest,
    ablate_skips: str | None,
) -> Options:
    """The words of the command line as options. Raises SpecError for one that is none of the known."""
    check_choice("pool", features.pool, POOLS)
    check_choice("precision", features.precision, PRECISIONS)
    check_choice("protocol", probe.protocol, PROTOCOLS)
    device, asked = choose_device(features.device), training
    regimes = tuple(r for r in chosen_regimes(asked.regime) if r != "probe")
    seconds = seconds_of(asked.budget)
    return Options(
        models=tuple(dict.fromkeys(models or [DEFAULT_MODEL])),
        images=images,
        features=replace(features, device=device),
        probe=replace(probe, device=device, seed=features.seed),
        training=RegimeOptions(
            regimes=regimes,
            epochs=asked.epochs,
            scratch_epochs=asked.scratch_epochs,
            batch=asked.batch,
            accumulate=asked.accumulate,
            lr=chosen_rates(asked.lr),
            seeds=asked.seeds,
            size=asked.size,
            views=asked.views,
            augment=asked.augment,
            engine=features.engine,
            seed=features.seed,
            budget=seconds,
        ),
        ablate_skips=ablate_skips,
        devices=asked.devices,
    )
