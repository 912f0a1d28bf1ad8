"""Extract: the features of images at chosen layers, as a folder of Parquet files that anything can open."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visus.studies.common.schema1 import Result


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
    from pathlib import Path

    from visus.features import extract as run
    from visus.images import load_images
    from visus.models import load_backbone
    from visus.outputs import mark
    from visus.studies.common.schema1 import Result, Table
    from visus.studies.common.shared import chosen_taps, quarantine_table

    imageset = load_images(
        images, labels=labels, label_column=label_column, groups=groups, classes="wanted", download=download
    )
    imageset = imageset.limit(limit, seed=seed)
    backbone = load_backbone(model, seed=seed, download=download)
    store = Path(out) / "features" if out else None
    if out:
        mark(out, ["features/"])
    features = run(
        imageset,
        backbone,
        chosen_taps(backbone, taps),
        pool=pool,
        precision=precision,
        engine=engine,
        device=device,
        batch=batch,
        store=store,
        labelled=True,
    )
    by_name = {tap.name: tap for tap in backbone.taps}
    rows = []
    for name, folder in features.folders.items():
        tap = by_name[name]
        width = next(features.blocks(name, 1)).shape[1]
        rows.append((name, "×".join(map(str, tap.shape)), len(features), width, str(folder)))
    tables = {
        "features": Table(
            ("layer", "output shape", "images", "features", "folder"),
            tuple(rows),
            title="Where the features are",
            note="Folders of Parquet files: index, id (unique among all sets), name, label, pixels (hash of the decoded image), vector.",
        )
    }
    set_aside = (*imageset.quarantine, *features.quarantine)
    if set_aside:
        tables["quarantine"] = quarantine_table(set_aside)
    speed = (
        "they were in the store already"
        if features.cost.get("cached")
        else f"at {features.cost['images_per_second']:,.0f} images/s"
    )
    finding = f"{len(features):,} images went through {backbone.spec} once, {len(rows)} layers tapped; {speed}."
    provenance = {
        "model": model,
        "model fingerprint": backbone.fingerprint,
        "images": images,
        "images fingerprint": imageset.fingerprint,
        "seed": seed,
        "cost": dict(features.cost),
    }
    return Result("extract", f"Features of {images} under {model}", (finding,), tables, (), {}, (), provenance)
