"""VAE: does it reconstruct, does it generate, has its posterior collapsed, and what brings the dead dimensions back?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from visus.studies.vae.options import EvaluationOptions, Options, ShapedImages, TrainingOptions, VaeOptions

if TYPE_CHECKING:
    from visus.result import Result


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
    precision: str = "auto",
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
        precision: that trainings multiply in: fp32, bf16 (weights, the loss and all that is measured stay float32), or auto: bf16 on a CPU that
            has it in hardware, else fp32.
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
    # The lazy seam: nothing below is imported until a study runs.
    from visus.studies.vae.run import run

    return run(
        Options(
            ShapedImages(images, labels, label_column, groups, limit, size, channels, download),
            VaeOptions(checkpoint, compare, sweep, fix, latent, decoder, variance),
            TrainingOptions(beta, warmup, free_bits, epochs, batch, lr, seeds, budget, precision, devices),
            EvaluationOptions(features, samples, importance, shown, device, seed),
        )
    )
