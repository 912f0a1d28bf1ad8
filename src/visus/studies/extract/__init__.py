"""Extract: the features of images at chosen layers, as a folder of Parquet files that anything can open."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visus.result import Result


def extract(
    model: str = "visus:effnet-lite0",
    images: str = "visus:emoji",
    *,
    taps: list[str] | None = None,
    labels: str | None = None,
    label_column: str | None = None,
    groups: str | None = None,
    pool: str = "mean",
    precision: str = "fp32",
    engine: str = "auto",
    device: str = "auto",
    batch: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    download: bool = False,
    out: str | None = None,
) -> Result:
    """Extract features at any number of layers in one streaming pass, resumable, as Parquet.

    Arguments:
        model: spec of the backbone: timm:NAME, hf:OWNER/NAME, torchvision:NAME@WEIGHTS, openclip:ARCH@TAG, visus:NAME or a path.
        images: spec of the images: folder:PATH, cifar10, cifar100, stl10, fashion-mnist, mnist, hf:OWNER/NAME, visus:NAME or a path.
        taps: layer to tap, repeatable: early, middle, late, a name inside the network, or all; default early, middle and late.
        labels: table (CSV) of names and labels, for a folder; its columns are found by what they hold.
        label_column: column of the label file, or of a Parquet or hub set, that holds the classes.
        groups: column of images that belong together, as patients or artists, and never straddle a split.
        pool: how spatial and token outputs become vectors: mean, cls or flatten.
        precision: fp32 or bf16.
        engine: what runs the forward pass: auto, openvino or torch.
        device: auto, cpu, cuda or cuda:N.
        batch: images a batch; found by itself when not given.
        seed: seed of a random initialisation and of --limit's sample.
        limit: use at most this many images, a stratified sample.
        download: allow downloading what is not on this machine.
        out: folder for the features (OUT/features) and the page; the cache keeps them otherwise.

    Returns a Result whose table names the folder of every tap. Raises VisusError for anything a user can mend.
    """
    # The lazy seam: nothing below is imported until the study runs.
    from visus.studies.common.options import ImageOptions
    from visus.studies.extract.run import Forward, Options, run

    asked = ImageOptions(images, labels, label_column, groups, limit)
    return run(Options(model, asked, Forward(taps, pool, precision, engine, device, batch), seed, download, out))
