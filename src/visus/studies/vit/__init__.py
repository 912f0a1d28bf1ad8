"""ViT: what does a vision transformer predict, where does it look, how many patches can it lose, CLS or mean pooling?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from visus.paths import expanded

if TYPE_CHECKING:
    from visus.result import Result


def vit(
    model: list[str] | None = None,
    images: str = "visus:emoji",
    *,
    image: list[str] | None = None,
    part: list[str] | None = None,
    labels: str | None = None,
    label_column: str | None = None,
    groups: str | None = None,
    meanings: str | None = None,
    pattern: list[str] | None = None,
    keep: str | None = None,
    fill: str = "mean",
    masked: int = 300,
    shown: int = 6,
    controls: bool = True,
    device: str = "auto",
    seed: int = 0,
    limit: int | None = None,
    download: bool = False,
) -> Result:
    """Look inside vision transformers: what they predict, where they look, how many patches they can lose, and CLS or mean pooling.

    Predictions with calibration; attention of every layer and head, rolled out and weighted by gradients, over pictures, and heads
    measured over many; accuracy and agreement as patches go, by six patterns, and which map is faithful to what the model uses; linear
    probes by pooling and depth, in pairs. Convolutional networks stand beside them where pixels are blanked, with Grad-CAM.

    Arguments:
        model: spec of a model, repeatable, at least one vision transformer among them; default visus:emoji-vit.
        images: spec of the images on which models are measured, labelled or not.
        image: picture to look at, a file, folder or spec, repeatable; default some of the images.
        part: what to do, repeatable or separated by commas: predictions, attention, masking, pooling; default all.
        labels: table (CSV) of names and labels, for a folder; its columns are found by what they hold.
        label_column: column of the label file, or of a Parquet or hub set, that holds the classes.
        groups: column of images that belong together, as patients or artists, and never straddle a split.
        meanings: JSON file of which outputs of a classifier mean which class of the images: {class: [label, ...]}; of several models it
            touches those that have these outputs, or say of which: {model: {class: [label, ...]}}.
        pattern: how patches go, repeatable or separated by commas: random, centre, periphery, block, most-attended, least-attended; default all.
        keep: shares of the patches that are kept, as 1,0.7,0.4; default 1, 0.9 to 0.1.
        fill: what hides pixels: mean (colour), black or blur.
        masked: images over which patches are masked, at most.
        shown: images to look at, where --image names none.
        controls: set the same probe on shuffled labels and on the network with random weights beside every probe of pooling.
        device: auto, cpu, cuda or cuda:N.
        seed: seed of samples, random patterns, splits and random initialisations.
        limit: use at most this many images, a stratified sample.
        download: allow downloading what is not on this machine.

    Returns a Result. Raises VisusError for anything a user can mend: no vision transformer among the models, a keep ratio of 0, an unknown
    part, a chosen picture smaller than a patch.
    """

    # The lazy seam: what a run needs is imported when it runs.
    from visus.studies.common.options import ImageOptions
    from visus.studies.vit.options import Options, chosen_sections, masking_options
    from visus.studies.vit.run import run

    return run(
        Options(
            models=tuple(dict.fromkeys(model or ())),
            images=ImageOptions(images, labels, label_column, groups, limit),
            chosen=tuple(image or ()),
            shown=shown,
            sections=chosen_sections(part),
            named=bool(part),
            meanings=expanded(meanings) if meanings else None,
            masking=masking_options(pattern, keep=keep, fill=fill, images=masked),
            controls=controls,
            device=device,
            seed=seed,
            download=download,
        )
    )
