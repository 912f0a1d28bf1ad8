"""ViT: what does a vision transformer predict, where does it look, how many patches can it lose, CLS or mean pooling?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from visus.paths import expanded

if TYPE_CHECKING:
    import numpy as np

    from visus.images import ImageSet
    from visus.studies.common.schema1 import Result
    from visus.studies.vit.subject import EvaluatedModel

PARTS = ("predictions", "attention", "masking", "pooling")
HEADS_SEEN = 200  # pictures over which heads are measured


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

    import numpy as np

    from visus.device import choose_device
    from visus.errors import DataError, SpecError
    from visus.images import load_images
    from visus.measures.masking import PATTERNS
    from visus.models.vit import reads_tokens
    from visus.studies.common.inputs import gather
    from visus.studies.common.schema1 import Result
    from visus.studies.common.sections import Part, merged
    from visus.studies.common.shared import check_choice
    from visus.studies.vit import attention as vit_attention
    from visus.studies.vit import pooling as vit_pooling
    from visus.studies.vit import predictions as vit_predictions
    from visus.studies.vit.masking import measure as vit_masking
    from visus.studies.vit.masking import report as vit_masking_report
    from visus.studies.vit.subject import smaller_than_a_patch, survey, views

    parts = _listed(part, PARTS)
    patterns = _listed(pattern, PATTERNS)
    for name in parts:
        check_choice("part", name, PARTS)
    for name in patterns:
        check_choice("pattern", name, PATTERNS)
    check_choice("fill", fill, vit_masking.FILLS)
    ratios = vit_masking.ratios_of(keep)
    if masked < 2 or shown < 1:
        raise DataError("--masked needs at least 2 images and --shown at least 1")
    device = choose_device(device)
    imageset = load_images(images, labels=labels, label_column=label_column, groups=groups, download=download)
    imageset = imageset.limit(limit, seed=seed, by_class=True)
    warnings = []
    if imageset.labels is None and "pooling" in parts:
        if part:
            raise DataError(
                f"{imageset.name} has no labels, which probes need; give labelled images, or leave out --part pooling"
            )
        parts.remove("pooling")
        warnings.append(f"{imageset.name} has no labels, which probes need: pooling is left out.")
    specs = list(dict.fromkeys(model or ["visus:emoji-vit"]))
    chosen = expanded(meanings) if meanings else None
    needed = "predictions" in parts or "masking" in parts
    viewers = views(specs, imageset, meanings=chosen, seed=seed, device=device, download=download, answers=needed)
    transformers = [v for v in viewers if v.layout]
    if not transformers:
        if len(viewers) == 1:
            raise SpecError(viewers[0].refused)
        raise SpecError(
            f"{', '.join(specs)}: no vision transformer with one sequence of patches; add one (as --model "
            f"visus:emoji-vit), or study these with visus transfer. Of the first: {viewers[0].refused}"
        )
    warnings += [f"By its pixels alone: {v.refused}." for v in viewers if v.refused and reads_tokens(v.backbone)]
    surveyed = survey(
        imageset, imageset.split(seed=seed).test if imageset.labels is not None else np.arange(len(imageset))
    )
    test = surveyed.rows
    warnings += surveyed.warnings + smaller_than_a_patch(transformers, surveyed)
    looked, looked_set = _looked(imageset, test, shown, seed), imageset
    if image:
        looked_set, aside = gather(image, limit=None, seed=seed, download=download)
        chosen_ones = survey(looked_set, np.arange(len(looked_set)))
        if tiny := smaller_than_a_patch(transformers, chosen_ones):
            raise DataError(f"{tiny[0].rstrip('.')}; give a larger picture")
        looked = chosen_ones.rows
        warnings += [f"{q.id} cannot be read and is left out: {q.reason}." for q in aside] + chosen_ones.warnings
    some = _sample(imageset, test, masked, seed)
    done: list[Part] = []
    if "predictions" in parts:
        done.append(vit_predictions.part(viewers, imageset, test, looked_set, looked, device=device, seed=seed))
    if "attention" in parts:
        done.append(vit_attention.look_at(viewers, looked_set, looked, device=device))
        heads = [
            vit_attention.heads_of(v, imageset, _sample(imageset, test, HEADS_SEEN, seed), device=device)
            for v in transformers
        ]
        done.append(vit_attention.heads_part(heads, seed=seed))
    if "masking" in parts:
        found = vit_masking.mask(
            viewers, imageset, some, patterns=patterns, ratios=ratios, fill=fill, device=device, seed=seed
        )
        done.append(vit_masking_report.part(found, viewers, imageset, some, fill=fill, seed=seed))
    if "pooling" in parts:
        done.append(
            vit_pooling.part(
                [vit_pooling.pool(v, imageset, controls=controls, device=device, seed=seed) for v in transformers],
                seed=seed,
            )
        )
    provenance = {
        "models": {v.spec: v.backbone.fingerprint for v in viewers},
        "answers read from": {v.spec: v.reading for v in viewers},
        "images": imageset.name,
        "images fingerprint": imageset.fingerprint,
        "preprocessing": {v.spec: repr(v.backbone.preprocess) for v in viewers},
        "keep ratios": list(ratios),
        "masked images": len(some),
        "pixels filled with": fill,
        "pictures looked at": [looked_set.ids[int(i)] for i in looked],
        "device": device,
        "seed": seed,
    }
    title = f"Inside {', '.join(v.spec for v in transformers)}, on {imageset.name}"
    return merged(done, Result("vit", title, (), {}, (), {}, (*warnings, *_warnings(viewers)), provenance), [])


def _listed(given: list[str] | None, known: tuple[str, ...]) -> list[str]:
    names = [part.strip() for text in given or known for part in text.split(",") if part.strip()]
    return list(dict.fromkeys(names))


def _sample(imageset: ImageSet, rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """At most n of the rows, stratified by class where there are labels, in order."""
    import numpy as np

    if len(rows) <= n:
        return rows
    part = imageset.subset(rows).limit(n, seed=seed)
    place = {name: int(i) for name, i in zip((imageset.ids[int(r)] for r in rows), rows, strict=True)}
    return np.array(sorted(place[name] for name in part.ids), np.int64)


def _looked(imageset: ImageSet, rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n of the rows, of different classes as far as there are so many."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(rows)
    if imageset.labels is None:
        return order[:n]
    _, first = np.unique(imageset.labels[order], return_index=True)
    ahead = order[np.sort(first)]
    rest = order[~np.isin(order, ahead)]
    return np.concatenate([ahead, rest])[:n]


def _warnings(viewers: list[EvaluatedModel]) -> tuple[str, ...]:
    return tuple(
        f"The weights of {v.spec} are a random initialisation: its answers and maps mean nothing."
        for v in viewers
        if v.backbone.random
    )
