"""From the words of the command line to what runs: every fault of them is told before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from visus.device import choose_device
from visus.errors import DataError
from visus.models.vae import Decoder, VaeSizes
from visus.studies.common.options import check_choice
from visus.studies.vae.inputs import ImageArrays
from visus.studies.vae.options import EvaluationOptions, Options
from visus.studies.vae.training import TrainingSettings
from visus.training.budget import seconds_of
from visus.training.devices import Devices, auto_precision
from visus.training.recipe import Recipe

PRECISIONS = ("auto", "fp32", "bf16")
FEW = 10_000  # training images; fewer get smaller batches, and so more steps an epoch
LONGEST_WARMUP = 10
FEWEST_SAMPLES = 50


@dataclass(frozen=True)
class Settled:
    """size: (height, width), or None for the images' own. training: its image sizes and batch wait for the images (`sized`)."""

    size: tuple[int, int] | None
    training: TrainingSettings
    evaluation: EvaluationOptions


def settled(options: Options) -> Settled:
    """What was asked, checked. Raises DataError, SpecError for what cannot be."""
    _check(options)
    vaes, training, evaluation = options.vaes, options.training, options.evaluation
    size = size_of(options.images.size)
    epochs, warmup = training.epochs, training.warmup
    warmup = min(LONGEST_WARMUP, epochs // 3) if warmup is None else warmup
    if warmup >= epochs:
        raise DataError(f"--warmup {warmup} does not end within {epochs} epochs; give a shorter one or more --epochs")
    kind = choose_device(evaluation.device)
    precision = auto_precision(kind) if training.precision == "auto" else training.precision
    devices = Devices(kind, training.devices, precision)
    settings = TrainingSettings(
        sizes=VaeSizes(28, 28, latent=vaes.latent),
        decoder=Decoder(vaes.decoder, vaes.variance),  # type: ignore[arg-type]  # checked by the class
        beta=training.beta,
        warmup=warmup,
        free_bits=training.free_bits,
        recipe=Recipe(
            training.lr,
            epochs=epochs,
            clip=5.0,
            patience=0,
            seed=evaluation.seed,
            optimizer="adam",
            schedule="constant",
        ),
        devices=devices,
        budget=seconds_of(training.budget),
        seeds=training.seeds,
    )
    return Settled(size, settings, replace(evaluation, device=devices.kind))


def _check(options: Options) -> None:
    vaes, training, evaluation = options.vaes, options.training, options.evaluation
    check_choice("precision", training.precision, PRECISIONS)
    if vaes.checkpoint and (vaes.compare or vaes.sweep):
        raise DataError(
            "--checkpoint examines a VAE that exists; leave --compare and --sweep out, or add --fix for a rerun"
        )
    if vaes.compare and vaes.sweep:
        raise DataError("--compare and --sweep are two studies; give one of them")
    if options.images.channels not in (None, 1, 3):
        raise DataError(f"--channels is {options.images.channels}; give 1 or 3")
    counts = (training.epochs, evaluation.samples, evaluation.importance, evaluation.shown, training.seeds)
    if min(counts) < 1 or not training.lr > 0 or (training.batch is not None and training.batch < 1):
        raise DataError("--epochs, --samples, --importance, --shown, --seeds, --batch and --lr must be above 0")
    if evaluation.samples < FEWEST_SAMPLES:
        raise DataError(f"--samples {evaluation.samples} are too few to be judged; give {FEWEST_SAMPLES} or more")


def size_of(text: str | None) -> tuple[int, int] | None:
    """'32' -> (32, 32); '28x20' (height x width) -> (28, 20); None -> None. Raises DataError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+)\s*(?:[x×,]\s*(\d+))?\s*", text)
    if not found or min(sides := (int(found[1]), int(found[2] or found[1]))) < 4:
        raise DataError(f"--size {text!r} is no size; write 32, or 28x20 for height x width, at least 4 pixels")
    return sides


def sized(settings: TrainingSettings, images: ImageArrays, batch: int | None) -> TrainingSettings:
    """The settings for these images: their size, and a batch that leaves enough steps."""
    c, h, w = images.shape
    batch = batch or min(128 if len(images.train) >= FEW else 64, len(images.train))
    return replace(
        settings,
        sizes=replace(settings.sizes, height=h, width=w, channels=c),
        recipe=replace(settings.recipe, batch=batch),
    )
