"""Train: a small ViT or CLIP from nothing on one's own images, saved where any command finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visus.studies.train.options import Course, Data, Guides, Machine, Options, Sizes

if TYPE_CHECKING:
    from visus.result import Result


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
    # The lazy seam: nothing below is imported until the study runs.
    from visus.studies.train.run import run

    return run(
        Options(
            kind,
            Data(images, names, beside, zero_shot, labels, label_column, groups, limit),
            Guides(teacher, vectors, words),
            Sizes(size, patch, width, layers, text_width, text_layers),
            Course(epochs, batch, lr, weight_decay, drop, budget, seed),
            Machine(precision, device, devices),
            download,
            out,
        )
    )
