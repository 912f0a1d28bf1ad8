"""Transfer: how good are the frozen features of a backbone on these images, at which layer, and how do we know?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from visus.studies.common.options import ImageOptions
from visus.studies.transfer.options import FeatureOptions, ProbeOptions, TrainingRequest

if TYPE_CHECKING:
    from visus.result import Result


def transfer(
    model: list[str] | None = None,
    images: str = "visus:emoji",
    *,
    taps: list[str] | None = None,
    labels: str | None = None,
    label_column: str | None = None,
    groups: str | None = None,
    pool: str = "mean",
    protocol: str = "visus",
    controls: bool = True,
    maps: bool = True,
    regime: list[str] | None = None,
    budget: str = "10m",
    epochs: int = 10,
    scratch_epochs: int | None = None,
    lr: str | None = None,
    batch: int = 32,
    accumulate: int = 1,
    size: int | None = None,
    augment: bool = True,
    views: int = 0,
    seeds: int = 1,
    ablate_skips: str | None = None,
    precision: str = "fp32",
    engine: str = "auto",
    device: str = "auto",
    devices: int = 1,
    seed: int = 0,
    limit: int | None = None,
    download: bool = False,
) -> Result:
    """Measure how good a backbone's features are on labelled images, layer by layer, and whether it is worth training it further.

    Every layer gets a linear probe (lambda chosen on validation) and a kNN, with 95 % intervals, beside two controls:
    shuffled labels and the same network with random weights. Then the head, the last block and the whole network are
    trained on the same splits, within the time given, and features are compared before and after. Several models are
    compared on the same images, in pairs.

    Arguments:
        model: spec of a backbone, repeatable: timm:NAME, hf:OWNER/NAME, torchvision:NAME@WEIGHTS, openclip:ARCH@TAG, visus:NAME
            or a path; default visus:effnet-lite0.
        images: spec of labelled images: folder:PATH, cifar10, cifar100, stl10, fashion-mnist, mnist, hf:OWNER/NAME, visus:NAME
            or a path.
        taps: layer to tap, repeatable: early, middle, late, a name inside the network, or all; default early, middle and late.
        labels: table (CSV) of names and labels, for a folder; its columns are found by what they hold.
        label_column: column of the label file, or of a Parquet or hub set, that holds the classes.
        groups: column of images that belong together, as patients or artists, and never straddle a split.
        pool: how spatial and token outputs become vectors: mean, cls or flatten (then PCA).
        protocol: probe protocol: visus, dinov2 or clip.
        controls: run the shuffled-label and random-init controls.
        maps: draw t-SNE and UMAP maps of every layer.
        regime: what to train, repeatable or separated by commas: probe (nothing), head, last-block, lora, full, scratch; default
            probe,head,last-block,full,scratch.
        budget: time for the whole study, as 10m, 1h30m or none; the plan is fitted to it, and the page says what was left out.
        epochs: epochs of every regime.
        scratch_epochs: epochs of scratch, for a longer recipe of its own; default as epochs.
        lr: learning rates to choose from on validation, as 1e-4,3e-4; default a grid for every regime.
        batch: images an optimizer step.
        accumulate: forward passes a step, when a whole batch does not fit into memory.
        size: side in pixels of the images that whole networks are trained on; default the model's own, or smaller for the budget.
        augment: augment training images where the whole network trains.
        views: augmented views of every training image that regimes over a frozen front keep; 0 for none.
        seeds: trainings of every regime, with as many seeds.
        ablate_skips: residual blocks to take the skip connection from, as layer3.10-layer3.20, or sweep for each in turn.
        precision: fp32 or bf16, of features and of training.
        engine: what runs the forward pass: auto, openvino or torch.
        device: auto, cpu, cuda or cuda:N.
        devices: processes to train with, one device each.
        seed: seed of splits, samples, maps and random initialisations.
        limit: use at most this many images, a stratified sample.
        download: allow downloading what is not on this machine.

    Returns a Result. Raises VisusError for anything a user can mend: unlabelled images, one class only, unknown names.
    """
    # The lazy seam: nothing below is imported until a study runs.
    from visus.studies.transfer.run import run
    from visus.studies.transfer.settle import settled

    return run(
        settled(
            models=model,
            images=ImageOptions(images, labels, label_column, groups, limit),
            features=FeatureOptions(tuple(taps) if taps else None, pool, precision, engine, device, seed, download),
            probe=ProbeOptions(protocol, controls, maps),
            training=TrainingRequest(
                regime, budget, epochs, scratch_epochs, lr, batch, accumulate, size, augment, views, seeds, devices
            ),
            ablate_skips=ablate_skips,
        )
    )
