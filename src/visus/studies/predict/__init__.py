"""Predict: what a classifier says about pictures, with its own preprocessing (protocol P8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visus.result import Result


def predict(
    images: list[str],
    *,
    model: str = "visus:effnet-lite0",
    classes: list[str] | None = None,
    top: int = 5,
    device: str = "auto",
    seed: int = 0,
    limit: int | None = None,
    download: bool = False,
) -> Result:
    """Name what is in pictures: the model's top classes with probabilities.

    Arguments:
        images: files, folders or specs of images.
        model: spec of a classifier: timm:NAME, hf:OWNER/NAME, torchvision:NAME@WEIGHTS, visus:NAME or a path; or of a
            model of images and texts.
        classes: text to choose from, repeatable, for a model that compares pictures with texts; default for visus:emoji-clip all emoji.
        top: classes a picture.
        device: auto, cpu, cuda or cuda:N.
        seed: seed of a random initialisation and of --limit's sample.
        limit: use at most this many images, a random sample.
        download: allow downloading what is not on this machine.

    Returns a Result with a row for each picture and rank. Raises VisusError for anything a user can mend: a model without
    classifier, no usable picture.
    """
    # The lazy seam: nothing below is imported until the study runs.
    from visus.studies.predict.run import Options, run

    return run(Options(images, model, classes, top, device, seed, limit, download))
