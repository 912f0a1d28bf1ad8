"""Train: a small ViT or CLIP from nothing on one's own images, saved where any command finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visus.paths import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from visus.images import ImageSet
    from visus.studies.common.schema1 import Result
    from visus.training.from_scratch import Plan

KINDS = ("vit", "clip")
FEWEST_PAIRS = 4  # of which the modality gap takes two to fit a line and two to judge it
IMAGES = {"vit": "visus:emoji", "clip": "visus:emoji?task=all"}


def train(
    kind: str,
    *,
    images: str | None = None,
    names: str | None = None,
    teacher: str | None = None,
    vectors: str | None = None,
    words: int = 16_000,
    beside: str | None = None,
    zero_shot: str | None = None,
    labels: str | None = None,
    label_column: str | None = None,
    groups: str | None = None,
    epochs: int = 60,
    batch: int = 64,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    drop: float = 0.5,
    size: int = 64,
    patch: int = 8,
    width: int = 192,
    layers: int = 6,
    text_width: int = 192,
    text_layers: int = 4,
    budget: str = "none",
    precision: str = "fp32",
    device: str = "auto",
    devices: int = 1,
    seed: int = 0,
    limit: int | None = None,
    download: bool = False,
    out: str | None = None,
) -> Result:
    """Train a small vision transformer (vit) or image-text model (clip) from nothing; the same command again goes on after a stop.

    The model is written to --out in the format of timm (vit) or transformers (clip), and loads by that path in every command.
    Validation chooses the epoch that is kept; test images are looked at once.

    Arguments:
        kind: vit, on labelled images; or clip, on images with captions.
        images: spec of the images; default visus:emoji for vit, visus:emoji?task=all for clip. A folder gets captions from a
            metadata.csv with file_name,text.
        names: spec of images whose captions vit learns beside the classes; only their training part is used.
        teacher: spec of a trained backbone whose features of the training images the image tower learns beside.
        vectors: file of word vectors as GloVe writes them, most frequent first, which the text tower of clip learns beside.
        words: how many words of --vectors get a token of their own, those nearest to the captions in meaning.
        beside: spec of captioned images that clip trains on as well, all of them, as half of every batch; those that bear the name of
            a held-out image alone are left out.
        zero_shot: spec of labelled images that clip is tried on without having learned their classes.
        labels: table (CSV) of names and labels, for a folder; its columns are found by what they hold.
        label_column: column of the label file, or of a Parquet or hub set, that holds the classes.
        groups: column of images that belong together, as patients or artists, and never straddle a split.
        epochs: passes over the training images.
        batch: images an optimizer step.
        lr: the peak learning rate, of AdamW; Muon, over the matrices of the blocks, has three times as much.
        weight_decay: of matrices and kernels.
        drop: share of patches left out of every training image (Li et al. 2023), from 0 to 0.9.
        size: side of the images in pixels.
        patch: side of a patch in pixels.
        width: of the image tower; heads are 64 wide.
        layers: of the image tower.
        text_width: of the text tower.
        text_layers: of the text tower.
        budget: time to train, as 30m or none; the learning rate comes down with it.
        precision: fp32 or bf16.
        device: auto, cpu, cuda or cuda:N.
        devices: processes to train with, one device each.
        seed: of the initialisation, the order, the views and the splits.
        limit: use at most this many images, a stratified sample.
        download: allow downloading what is not on this machine.
        out: folder for the model, its checkpoints and the page.

    Returns a Result. Raises VisusError for anything a user can mend: captions missing, a batch larger than the set, a patch that
    does not divide the size, a folder that holds another training.
    """
    from dataclasses import replace
    from pathlib import Path

    import numpy as np

    from visus.device import choose_device
    from visus.errors import DataError
    from visus.images import load_images
    from visus.models import load_backbone
    from visus.models.dual_new import ClipConfig
    from visus.studies.common.shared import check_choice
    from visus.training.budget import seconds_of
    from visus.training.devices import Devices
    from visus.training.from_scratch import Plan
    from visus.training.parts import parts_of
    from visus.training.recipe import Recipe
    from visus.training.vectors import read_vectors

    check_choice("kind", kind, KINDS)
    check_choice("precision", precision, ("fp32", "bf16"))
    if out is None:
        raise DataError("a trained model needs a folder; give out=PATH")
    if not 0 <= drop <= 0.9:
        raise DataError(f"--drop is {drop}; give a share from 0 to 0.9")
    if min(epochs, batch, size, patch, width, layers, text_width, text_layers, words) < 1 or lr <= 0:
        raise DataError("--epochs, --batch, --lr and all sizes must be above 0")
    if size % patch:
        raise DataError(f"patches of {patch} pixels do not fill {size}; give a --patch that divides --size")
    if (width % 64 and width > 64) or (text_width % 64 and text_width > 64):
        raise DataError(f"--width {width} and --text-width {text_width} must be multiples of 64, the width of a head")
    if kind == "vit" and (vectors or beside):
        raise DataError(
            f"{'--vectors' if vectors else '--beside'} does not go with vit; it is for clip, which reads texts"
        )
    if (kind == "vit" and zero_shot) or (kind == "clip" and names):
        raise DataError(
            f"{'--zero-shot' if zero_shot else '--names'} does not go with {kind}; it is for the other kind"
        )
    need = "needed" if kind == "vit" else "wanted"
    imageset = load_images(
        images or IMAGES[kind], labels=labels, label_column=label_column, groups=groups, classes=need, download=download
    )
    imageset = imageset.limit(limit, seed=seed, by_class=True)
    if kind == "clip" and imageset.labels is not None and len(np.unique(imageset.labels)) < 2:
        imageset = replace(
            imageset, labels=None, classes=()
        )  # captions are learned, and one folder for all is no class
    parts = parts_of(imageset, seed=seed)
    if kind == "clip" and len(parts.test) < FEWEST_PAIRS:
        raise DataError(
            f"{imageset.name} leaves {len(parts.test)} images to test on, and the gap between images and texts needs {FEWEST_PAIRS}; "
            f"give {5 * FEWEST_PAIRS} images or more"
        )
    plan = Plan(
        parts,
        ClipConfig(size, patch, width, layers, text_width, text_layers, space=width),
        Recipe(
            lr,
            epochs=epochs,
            batch=batch,
            weight_decay=weight_decay,
            warmup=0.05,
            patience=0,
            seed=seed,
            optimizer="muon",
        ),
        Path(out),
        drop,
        load_backbone(teacher, seed=seed, download=download) if teacher else None,
        read_vectors(expanded(vectors)) if vectors else None,
        words,
        load_images(beside, classes="wanted", download=download) if beside else None,
        Devices(choose_device(device), devices, precision),
        seconds_of(budget),
    )
    if kind == "clip":
        return _clip(imageset, plan, load_images(zero_shot, download=download) if zero_shot else None)
    return _vit(imageset, plan, load_images(names, classes="wanted", download=download) if names else None)


def _clip(imageset: ImageSet, plan: Plan, shown: ImageSet | None) -> Result:
    from visus.models.dual_open import load_dual
    from visus.studies.train import report
    from visus.training.from_scratch import train_clip

    tried = None if shown is None else (shown, report.zero_shot_rows(shown, imageset, plan))
    done, tokenizer = train_clip(imageset, plan)
    place = plan.devices.kind  # judged where it was trained
    trained = load_dual(str(plan.folder), place=place)
    untrained = load_dual(f"{plan.folder}?weights=none", seed=plan.recipe.seed, place=place)
    judged = report.judge_clip(imageset, plan.parts, trained, untrained, tried, done.pixels, seed=plan.recipe.seed)
    settings = _provenance(imageset, plan, vocabulary=tokenizer.get_vocab_size())
    return report.clip_result(imageset, done, judged, plan.folder, settings)


def _vit(imageset: ImageSet, plan: Plan, named: ImageSet | None) -> Result:
    from visus.models import load_backbone
    from visus.studies.train import report
    from visus.training.from_scratch import train_vit

    done = train_vit(imageset, plan, named)
    judged = report.judge_vit(
        imageset, plan.parts, load_backbone(str(plan.folder)), done.pixels, device=plan.devices.kind
    )
    settings = _provenance(imageset, plan, names=named.name if named else None)
    return report.vit_result(imageset, done, judged, plan.folder, settings)


def _provenance(imageset: ImageSet, plan: Plan, **more: object) -> Mapping[str, object]:
    machines = plan.devices
    return {
        "images": imageset.name,
        "images fingerprint": imageset.fingerprint,
        **plan.describe(),
        "device": f"{machines.count} x {machines.kind}, {machines.precision}",
        **more,
    }
