"""CLIP: how well does zero-shot work with which prompts, how wide is the gap between images and texts, does alignment close it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from visus.paths import expanded

if TYPE_CHECKING:
    from visus.images import ImageSet
    from visus.models.dual import DualEncoder
    from visus.studies.clip.pairs import Subject
    from visus.studies.common.schema1 import Result

FEWEST_PAIRS = 4  # of which a line that tells images from texts is fitted on two and judged on two
PARTS = ("zero-shot", "gap", "alignment")
PROMPTS = ("plain", "short", "variants")


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
    from dataclasses import replace

    import numpy as np

    from visus.device import choose_device
    from visus.errors import DataError
    from visus.images import load_images
    from visus.models.dual_open import load_dual
    from visus.studies.clip import gap as clip_gap
    from visus.studies.clip import search as clip_search
    from visus.studies.clip import zero_shot as clip_zero_shot
    from visus.studies.clip.alignment import measure as clip_alignment
    from visus.studies.clip.embeddings import read as clip_file
    from visus.studies.common.schema1 import Result
    from visus.studies.common.sections import Part, merged
    from visus.studies.common.shared import check_choice

    parts, sets = _listed(part, PARTS, "part"), _listed(prompts, PROMPTS, "prompts")
    for name in parts:
        check_choice("part", name, PARTS)
    sizes = clip_alignment.sizes_of(pairs)
    if shown < 1:
        raise DataError("--shown needs at least 1 image")
    device = choose_device(device)
    untrained: Subject | None = None
    if embeddings:
        if search:
            raise DataError(
                "--search needs a model that reads queries, which --embeddings brings not; give --model and --images"
            )
        if prompts or synonyms:
            raise DataError(
                f"{'--prompts' if prompts else '--synonyms'} needs a model that reads texts, which --embeddings brings not; save class_texts"
            )
        if limit is not None or labels:
            raise DataError(
                f"{'--labels' if labels else '--limit'} is of images, which --embeddings has not; change the file instead (labels are an array in it)"
            )
        subject = clip_file.from_file(expanded(embeddings))
        about: dict[str, object] = {"embeddings": embeddings}
    else:
        need = "wanted" if search else "needed"
        imageset = load_images(
            images, labels=labels, label_column=label_column, groups=groups, classes=need, download=download
        )
        imageset = imageset.limit(limit, seed=seed)
        encoder = load_dual(model, seed=seed, download=download)
        if search:
            return clip_search.search(
                encoder, imageset, search, shown=shown, device=device, download=download, seed=seed
            )
        words = expanded(synonyms) if synonyms else None
        subject = _subject(encoder, imageset, sets, words, device, seed)
        if control and not encoder.random:
            twin = load_dual(model + ("&" if "?" in model else "?") + "weights=none", seed=seed, download=download)
            untrained = _subject(twin, imageset, sets[:1], words, device, seed)
            if len(untrained.images) == len(
                subject.images
            ):  # what is one image is a matter of the images, not of a network
                untrained = replace(untrained, shown=subject.shown, keys=subject.keys, named=subject.named)
        about = {
            "model": encoder.spec,
            "images": imageset.name,
            "images fingerprint": imageset.fingerprint,
            "preprocessing": repr(encoder.preprocess),
        }
    judged = len(subject.images if subject.rows is None else np.unique(subject.rows))
    if judged < FEWEST_PAIRS and {"gap", "alignment"} & set(parts):
        raise DataError(
            f"{subject.name}: {judged} images to judge it on, and the gap and alignments need {FEWEST_PAIRS} pairs at least; "
            f"give more images (a fifth of them is for testing), or ask for --part zero-shot alone"
        )
    done: list[Part] = []
    warnings = list(subject.warnings)
    if subject.random:
        warnings.append(f"The weights of {subject.name} are a random initialisation: its answers mean nothing.")
    if subject.quarantine:
        first = subject.quarantine[0]
        warnings.append(f"{len(subject.quarantine)} set aside (the first: {first.id}, {first.reason}).")
    if "zero-shot" in parts and subject.weights:
        done.append(clip_zero_shot.part(subject, seed=seed, untrained=untrained))
    elif "zero-shot" in parts:
        warnings.append(f"{subject.name}: no labels of two classes or more, so zero-shot classification is left out.")
    if "gap" in parts:
        done.append(clip_gap.part(subject, seed=seed, untrained=untrained))
    if "alignment" in parts:
        done.append(clip_alignment.part(subject, sizes=sizes, seed=seed, untrained=untrained))
    provenance = {
        **about,
        **subject.about,
        "pairs": len(subject.images),
        "scale": subject.scale,
        "bias": subject.bias,
        "device": device,
        "seed": seed,
    }
    where = f" on {about['images']}" if "images" in about else ""
    return merged(
        done,
        Result(
            "clip", f"{subject.name}{where}: images and texts in one space", (), {}, (), {}, tuple(warnings), provenance
        ),
        [],
    )


def _subject(
    encoder: DualEncoder, imageset: ImageSet, prompts: list[str], synonyms: object, device: str, seed: int
) -> Subject:
    from pathlib import Path

    from visus.studies.clip.pairs import from_model

    path = synonyms if isinstance(synonyms, Path) else None
    return from_model(encoder, imageset, prompts=prompts, synonyms=path, device=device, seed=seed)


def _listed(given: list[str] | None, known: tuple[str, ...], option: str) -> list[str]:
    from visus.errors import DataError

    names = [part.strip() for text in given or known for part in text.split(",") if part.strip()]
    if not names:
        raise DataError(f"--{option} is empty; name one at least, as {known[0]}")
    return list(dict.fromkeys(names))
