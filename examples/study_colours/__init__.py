"""Colours: what does the mean colour alone tell about the classes? The baseline that every backbone must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visus.studies.colours.options import Options

if TYPE_CHECKING:
    from visus.result import Result


def colours(
    images: str = "visus:emoji",
    *,
    labels: str | None = None,
    label_column: str | None = None,
    groups: str | None = None,
    device: str = "auto",
    seed: int = 0,
    limit: int | None = None,
    download: bool = False,
) -> Result:
    """Measure how far three numbers go: a linear probe on the mean colour of every image.

    What it reaches no network has to be thanked for.

    Arguments:
        images: spec of labelled images: folder:PATH, cifar10, cifar100, stl10, fashion-mnist, mnist, hf:OWNER/NAME, visus:NAME
            or a path.
        labels: table (CSV) of names and labels, for a folder; its columns are found by what they hold.
        label_column: column of the label file, or of a Parquet or hub set, that holds the classes.
        groups: column of images that belong together, as patients or artists, and never straddle a split.
        device: auto, cpu, cuda or cuda:N.
        seed: seed of splits and samples.
        limit: use at most this many images, a stratified sample.
        download: allow downloading what is not on this machine.

    Returns a Result. Raises VisusError for anything a user can mend: unlabelled images, one class only, unknown names.
    """
    # The lazy seam: nothing below is imported until the study runs.
    from visus.studies.colours.run import run

    return run(Options(images, labels, label_column, groups, device, seed, limit, download))
