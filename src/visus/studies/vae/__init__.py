"""VAE: does it reconstruct, does it generate, has its posterior collapsed, and what brings the dead dimensions back?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visus.models.vae import Vae
    from visus.studies.common.schema1 import Result
    from visus.studies.vae.examine import VaeEvaluation
    from visus.studies.vae.quality import FeatureSpace
    from visus.studies.vae.runs import Run, Settings
    from visus.studies.vae.subject import Subject
    from visus.training.vae import KLSchedule

COMPARED = "baseline,mitigated"
FEW = 10_000  # training pictures; fewer get smaller batches, and so more steps an epoch
LONGEST_WARMUP = 10


def vae(
    images: str = "visus:digits",
    *,
    checkpoint: str | None = None,
    compare: str | None = None,
    sweep: str | None = None,
    fix: bool = False,
    beta: float = 1.0,
    warmup: int | None = None,
    free_bits: float = 0.05,
    latent: int = 20,
    decoder: str = "gaussian",
    variance: float = 0.5,
    epochs: int = 30,
    batch: int | None = None,
    lr: float = 2e-3,
    size: str | None = None,
    channels: int | None = None,
    features: str = "auto",
    samples: int = 1000,
    importance: int = 64,
    shown: int = 10,
    seeds: int = 1,
    budget: str = "none",
    precision: str = "fp32",
    labels: str | None = None,
    label_column: str | None = None,
    groups: str | None = None,
    device: str = "auto",
    devices: int = 1,
    seed: int = 0,
    limit: int | None = None,
    download: bool = False,
) -> Result:
    """Train a variational autoencoder on images, or take one that exists, and say whether it reconstructs, generates, and has collapsed.

    By default two are trained and compared: a baseline, and the same with warm-up and free bits, which keep latent dimensions alive. Everything
    is in nats per image on test images. A training that was stopped goes on by the same command; a finished one is read.

    Arguments:
        images: spec of the images; visus:digits ships, fashion-mnist and others are found locally or fetched with --download.
        checkpoint: examine this VAE instead of training: a folder that visus vae wrote, or python:MODULE:CLASS?weights=FILE of any torch module
            with encode(x) and decode(z). What encode returns and which range pixels have is measured and said on the page; &encode=mu,logvar
            (of z, mu, logvar, logsigma, sigma, var, softplus, softplusvar, skip), &input= and &decode= (unit, signed, bytes, logits,
            MEAN/DEVIATION) say it outright.
        compare: named runs by commas, out of baseline, mitigated, warm-up, free-bits; default baseline,mitigated.
        sweep: train over a setting and draw the rate-distortion curve: beta, latent or free-bits, with values of your own as beta=0.5,1,2.
        fix: where the first VAE has dead dimensions, train it again with warm-up and free bits, and show both.
        beta: weight of the KL, in nats per image on both sides; 1 is the ELBO.
        warmup: epochs over which beta rises from 0 in runs with warm-up; default 10, at most a third of the epochs.
        free_bits: nats of KL a dimension that cost nothing, in runs with free bits.
        latent: latent dimensions.
        decoder: gaussian (of a fixed variance), learned-gaussian (one variance, learned), or bernoulli.
        variance: of the fixed Gaussian; at 0.5 the reconstruction term is the sum of squared errors (of another's module in its own range).
        epochs: passes over the training images.
        batch: images an optimizer step; default 128, or 64 for fewer than 10,000 training images.
        lr: learning rate of Adam, constant.
        size: 32, or 28x20 for height x width; default the images' own up to 64 pixels.
        channels: 1 or 3; default 1 where all images are grey.
        features: where samples are judged: classifier (a small one, trained on the same images), a backbone's spec, or auto.
        samples: images to draw from every prior.
        importance: samples of z an image for the log-likelihood.
        shown: images in a row of the page.
        seeds: trainings of every run; the first is examined, all are in the table of seeds.
        budget: time for all trainings together, as 5m or none.
        precision: fp32 or bf16.
        labels: table (CSV) of names and labels, for a folder; its columns are found by what they hold.
        label_column: column of the label file, or of a Parquet or hub set, that holds the classes.
        groups: column of images that belong together, as patients or artists, and never straddle a split.
        device: auto, cpu, cuda or cuda:N.
        devices: processes to train with, one device each.
        seed: of the initialisation, the order, the noise, the splits and the samples.
        limit: use at most this many images, a stratified sample.
        download: allow downloading what is not on this machine.

    Returns a Result. Raises VisusError for anything a user can mend: latent 0, an unknown decoder, images that are all the same, a checkpoint for
    images of another size, a loss that is no longer a number (the last whole epoch is kept).
    """
    from visus.device import choose_device
    from visus.errors import DataError
    from visus.images import load_images
    from visus.models.vae import Decoder, VaeSizes
    from visus.models.vae_open import shape_of
    from visus.paths import check_writable, home
    from visus.studies.common.shared import check_choice
    from visus.studies.vae import findings as vae_words
    from visus.studies.vae import report as vae_report
    from visus.studies.vae import subject as vae_subject
    from visus.studies.vae.quality import space_for
    from visus.studies.vae.runs import Settings
    from visus.training.budget import seconds_of
    from visus.training.devices import Devices
    from visus.training.recipe import Recipe

    check_choice("precision", precision, ("fp32", "bf16"))
    if checkpoint and (compare or sweep):
        raise DataError(
            "--checkpoint examines a VAE that exists; leave --compare and --sweep out, or add --fix for a rerun"
        )
    if compare and sweep:
        raise DataError("--compare and --sweep are two studies; give one of them")
    if channels not in (None, 1, 3):
        raise DataError(f"--channels is {channels}; give 1 or 3")
    if min(epochs, samples, importance, shown, seeds) < 1 or not lr > 0 or (batch is not None and batch < 1):
        raise DataError("--epochs, --samples, --importance, --shown, --seeds, --batch and --lr must be above 0")
    if samples < 50:
        raise DataError(f"--samples {samples} are too few to be judged; give 50 or more")
    sides = vae_subject.size_of(size)
    warm = min(LONGEST_WARMUP, epochs // 3) if warmup is None else warmup
    if warm >= epochs:
        raise DataError(f"--warmup {warm} does not end within {epochs} epochs; give a shorter one or more --epochs")
    hardware = Devices(choose_device(device), devices, precision)
    native = shape_of(checkpoint) if checkpoint else None
    imageset = load_images(
        images, labels=labels, label_column=label_column, groups=groups, classes="wanted", download=download
    )
    imageset = imageset.limit(limit, seed=seed)
    settings = Settings(
        VaeSizes(28, 28, latent=latent),  # until the images are known
        Decoder(decoder, variance),  # type: ignore[arg-type]  # checked by the class
        beta,
        warm,
        free_bits,
        Recipe(lr, epochs=epochs, clip=5.0, patience=0, seed=seed, optimizer="adam", schedule="constant"),
        hardware,
        seconds_of(budget),
        seeds,
    )
    subject = vae_subject.load(imageset, size=sides, channels=channels, seed=seed, native=native)
    settings = _sized(settings, subject, batch)
    judge: dict[str, Any] = {"samples": samples, "importance": importance, "device": hardware.kind, "seed": seed}
    planned = _planned(checkpoint, compare, sweep, settings, subject, seed)
    if fix or not checkpoint:
        check_writable(home() / "training")
    space = space_for(subject, features, samples=samples, devices=hardware, seed=seed, download=download)
    examined = _examined(planned, settings, subject, space, judge)
    if fix and examined[0].dead:
        examined.append(_rerun(examined[0], settings, subject, space, judge))
    asked = beta if checkpoint else None
    provenance = {
        "images": imageset.name,
        "images fingerprint": imageset.fingerprint,
        "pictures": subject.note,
        "training": len(subject.train),
        "validation": len(subject.validation),
        "test": len(subject.test),
        "checkpoint": checkpoint,
        "models": {e.name: str(e.vae.info.get("folder", e.vae.spec)) for e in examined},
        "samples judged in": space.about,
        "device": hardware.kind,
        "seed": seed,
    }
    return vae_report.result(
        subject,
        space,
        examined,
        findings=vae_words.findings(space, examined),
        warnings=vae_words.warnings(subject, space, examined, asked=asked),
        shown=shown,
        device=hardware.kind,
        provenance=provenance,
    )


def _sized(settings: Settings, subject: Subject, batch: int | None) -> Settings:
    """The settings for these images: their size, and a batch that leaves enough steps."""
    from dataclasses import replace

    c, h, w = subject.shape
    batch = batch or min(128 if len(subject.train) >= FEW else 64, len(subject.train))
    return replace(
        settings,
        sizes=replace(settings.sizes, height=h, width=w, channels=c),
        recipe=replace(settings.recipe, batch=batch),
    )


def _planned(
    checkpoint: str | None, compare: str | None, sweep: str | None, settings: Settings, subject: Subject, seed: int
) -> Vae | list[Run]:
    """The VAE to open, or the runs to train; refused before anything takes long."""
    from visus.models.vae_open import load_vae
    from visus.studies.vae.runs import named_runs, swept_runs

    if checkpoint:
        return load_vae(checkpoint, shape=subject.shape, decoder=settings.decoder, images=subject.train, seed=seed)
    return swept_runs(sweep, settings) if sweep else named_runs(compare or COMPARED, settings)


def _examined(
    planned: Vae | list[Run], settings: Settings, subject: Subject, space: FeatureSpace, judge: dict[str, Any]
) -> list[VaeEvaluation]:
    from visus.models.vae import Vae
    from visus.studies.vae.examine import examine
    from visus.studies.vae.runs import train_runs

    if isinstance(planned, Vae):
        return [examine(_name(planned), planned, subject, space, pressure=_pressure(planned), **judge)]
    return [
        examine(
            run.name,
            trained[0].vae,
            subject,
            space,
            pressure=run.pressure,
            trained=trained,
            setting=run.setting,
            **judge,
        )
        for run, trained in zip(planned, train_runs(planned, subject, settings), strict=True)
    ]


def _rerun(
    first: VaeEvaluation, settings: Settings, subject: Subject, space: FeatureSpace, judge: dict[str, Any]
) -> VaeEvaluation:
    """The same network, likelihood and beta as the first, with warm-up and free bits."""
    from dataclasses import replace

    from visus.models.vae import ConvVae
    from visus.studies.vae.examine import examine
    from visus.studies.vae.runs import Run, pressure_of, train_runs

    network = first.vae.module
    if isinstance(network, ConvVae):
        settings = replace(settings, sizes=network.sizes, decoder=network.decoder)
    else:
        settings = replace(settings, sizes=replace(settings.sizes, latent=first.vae.latent))
    if first.pressure is not None:
        settings = replace(settings, beta=first.pressure.beta)
    run = Run("fixed", settings.sizes, pressure_of("mitigated", settings))
    (trained,) = train_runs([run], subject, settings)
    return examine(run.name, trained[0].vae, subject, space, pressure=run.pressure, trained=trained, **judge)


def _name(planned: Vae) -> str:
    """What a checkpoint is called on the page."""
    from pathlib import Path

    given = str(planned.info.get("name") or planned.info.get("class") or "")
    return given or Path(planned.spec).name or planned.spec


def _pressure(planned: Vae) -> KLSchedule | None:
    """What the KL cost when a checkpoint of the lab's was trained."""
    from visus.training.vae import KLSchedule

    known = planned.info.get("pressure")
    return KLSchedule(**known) if isinstance(known, dict) else None
