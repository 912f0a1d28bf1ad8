"""CLIP: how well does zero-shot work with which prompts, how wide is the gap between images and texts, does alignment close it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from visus.studies.clip.options import PARTS, PROMPTS, ClipOptions, sizes_of, words_of
from visus.studies.common.options import ImageOptions

if TYPE_CHECKING:
    from visus.result import Result


def clip(
    model: str = "visus:emoji-clip",
    images: str = "visus:emoji",
    *,
    prompts: list[str] | None = None,
    synonyms: str | None = None,
    embeddings: str | None = None,
    search: list[str] | None = None,
    part: list[str] | None = None,
    pairs: str | None = None,
    labels: str | None = None,
    label_column: str | None = None,
    groups: str | None = None,
    control: bool = True,
    shown: int = 12,
    device: str = "auto",
    seed: int = 0,
    limit: int | None = None,
    download: bool = False,
) -> Result:
    """Look at a space of images and texts: zero-shot with which prompts, the gap between the two, and what alignment really does.

    Zero-shot accuracy on the whole test split by prompt set, in pairs; the modality gap in figures, maps and a sweep; Procrustes, centring, ridge
    and whitening fitted on some pairs and judged on others, in-sample and held-out side by side. Embeddings made elsewhere are taken too.

    Arguments:
        model: spec of a dual encoder: visus:emoji-clip, openclip:NAME@TAG, hf:OWNER/NAME, or a folder.
        images: spec of the images, labelled or captioned.
        prompts: prompt set, repeatable or by commas: plain, short, variants (the default), openai-80, simple-7, own, or a file of templates.
        synonyms: JSON file of wordings of classes, {class: [word, ...]}.
        embeddings: npz or Parquet file of images and texts [n, d] (and labels) made elsewhere, in place of a model and images.
        search: text or picture file, repeatable: show the nearest images of the set, and nothing else.
        part: what to do, repeatable or separated by commas: zero-shot, gap, alignment; default all.
        pairs: how many pairs alignments are fitted on, as 50,200,800; default up to half of them, doubling.
        labels: table (CSV) of names and labels, for a folder; its columns are found by what they hold.
        label_column: column of the label file, or of a Parquet or hub set, that holds the classes.
        groups: column of images that belong together, as patients or artists, and never straddle a split.
        control: also score the same network with random weights.
        shown: images to show for every search.
        device: auto, cpu, cuda or cuda:N.
        seed: seed of samples, splits and random initialisations.
        limit: use at most this many images, a stratified sample.
        download: allow downloading what is not on this machine.

    Returns a Result. Raises VisusError for anything a user can mend: images that nothing describes, unpaired or zero vectors, an unknown prompt set.
    """
    options = ClipOptions(
        model=model,
        images=ImageOptions(images, labels, label_column, groups, limit),
        embeddings=embeddings,
        parts=words_of(part, "part", example=PARTS[0]),
        prompts=words_of(prompts, "prompts", example=PROMPTS[0]),
        synonyms=synonyms,
        queries=tuple(search or ()),
        shown=shown,
        fit_sizes=sizes_of(pairs),
        control=control,
        device=device,
        seed=seed,
        download=download,
    )
    # The one lazy seam: run and everything below it import torch and what is heavy at the top.
    from visus.studies.clip.run import run

    return run(options)
