"""Transfer: how good are the frozen features of a backbone on these images, at which layer, and how do we know?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from visus.features import Features
    from visus.images import ImageSet, Splits
    from visus.models import Backbone
    from visus.studies.common.schema1 import Result
    from visus.studies.transfer.layers.scores import LayerScore
    from visus.studies.transfer.layers.subject import Subject


@dataclass(frozen=True)
class ModelFeatures:
    """One model's view of the images: its features, and those of its random-init twin (None: no such control)."""

    backbone: Backbone
    features: Features
    twin: Features | None
    taps: tuple[str, ...]


def transfer(
    model: list[str] | None = None,
    images: str = "visus:emoji",
    *,
    taps: list[str] | None = None,
    labels: str | None = None,
    label_column: str | None = None,
    groups: str | None = None,
    pool: str = "mean",
    protocol: str = "visus",
    controls: bool = True,
    maps: bool = True,
    regime: list[str] | None = None,
    budget: str = "10m",
    epochs: int = 10,
    scratch_epochs: int | None = None,
    lr: str | None = None,
    batch: int = 32,
    accumulate: int = 1,
    size: int | None = None,
    augment: bool = True,
    views: int = 0,
    seeds: int = 1,
    ablate_skips: str | None = None,
    precision: str = "fp32",
    engine: str = "auto",
    device: str = "auto",
    devices: int = 1,
    seed: int = 0,
    limit: int | None = None,
    download: bool = False,
) -> Result:
    """Measure how good a backbone's features are on labelled images, layer by layer, and whether it is worth training it further.

    Every layer gets a linear probe (lambda chosen on validation) and a kNN, with 95 % intervals, beside two controls:
    shuffled labels and the same network with random weights. Then the head, the last block and the whole network are
    trained on the same splits, within the time given, and features are compared before and after. Several models are
    compared on the same images, in pairs.

    Arguments:
        model: spec of a backbone, repeatable: timm:NAME, hf:OWNER/NAME, torchvision:NAME@WEIGHTS, openclip:ARCH@TAG, visus:NAME
            or a path; default visus:effnet-lite0.
        images: spec of labelled images: folder:PATH, cifar10, cifar100, stl10, fashion-mnist, mnist, hf:OWNER/NAME, visus:NAME
            or a path.
        taps: layer to tap, repeatable: early, middle, late, a name inside the network, or all; default early, middle and late.
        labels: table (CSV) of names and labels, for a folder; its columns are found by what they hold.
        label_column: column of the label file, or of a Parquet or hub set, that holds the classes.
        groups: column of images that belong together, as patients or artists, and never straddle a split.
        pool: how spatial and token outputs become vectors: mean, cls or flatten (then PCA).
        protocol: probe protocol: visus, dinov2 or clip.
        controls: run the shuffled-label and random-init controls.
        maps: draw t-SNE and UMAP maps of every layer.
        regime: what to train, repeatable or separated by commas: probe (nothing), head, last-block, lora, full, scratch; default
            probe,head,last-block,full,scratch.
        budget: time for the whole study, as 10m, 1h30m or none; the plan is fitted to it, and the page says what was left out.
        epochs: epochs of every regime.
        scratch_epochs: epochs of scratch, for a longer recipe of its own; default as epochs.
        lr: learning rates to choose from on validation, as 1e-4,3e-4; default a grid for every regime.
        batch: images an optimizer step.
        accumulate: forward passes a step, when a whole batch does not fit into memory.
        size: side in pixels of the images that whole networks are trained on; default the model's own, or smaller for the budget.
        augment: augment training images where the whole network trains.
        views: augmented views of every training image that regimes over a frozen front keep; 0 for none.
        seeds: trainings of every regime, with as many seeds.
        ablate_skips: residual blocks to take the skip connection from, as layer3.10-layer3.20, or sweep for each in turn.
        precision: fp32 or bf16, of features and of training.
        engine: what runs the forward pass: auto, openvino or torch.
        device: auto, cpu, cuda or cuda:N.
        devices: processes to train with, one device each.
        seed: seed of splits, samples, maps and random initialisations.
        limit: use at most this many images, a stratified sample.
        download: allow downloading what is not on this machine.

    Returns a Result. Raises VisusError for anything a user can mend: unlabelled images, one class only, unknown names.
    """
    from visus.device import choose_device
    from visus.images import load_images
    from visus.studies.common.sections import merged
    from visus.studies.common.shared import check_choice, labels_of
    from visus.studies.transfer.regimes.measure import chosen_rates, chosen_regimes
    from visus.studies.transfer.regimes.runs import Options
    from visus.training.budget import seconds_of
    from visus.training.devices import Devices

    start = time.perf_counter()
    check_choice("pool", pool, ("mean", "cls", "flatten"))
    check_choice("precision", precision, ("fp32", "bf16"))
    check_choice("protocol", protocol, ("visus", "dinov2", "clip"))
    device = choose_device(device)
    regimes = tuple(r for r in chosen_regimes(regime) if r != "probe")
    seconds = seconds_of(budget)
    options = Options(
        regimes,
        epochs,
        scratch_epochs,
        batch,
        accumulate,
        chosen_rates(lr),
        seeds,
        size,
        views,
        augment,
        engine,
        seed,
        seconds,
    )
    machines = Devices(device, devices, precision)
    imageset = load_images(images, labels=labels, label_column=label_column, groups=groups, download=download)
    imageset = imageset.limit(limit, seed=seed, by_class=True)
    labels_of(imageset)
    splits = imageset.split(seed=seed)
    specs = list(dict.fromkeys(model or ["visus:effnet-lite0"]))
    seen = [
        extract_features(
            spec,
            imageset,
            taps=taps,
            pool=pool,
            controls=controls,
            precision=precision,
            engine=engine,
            device=device,
            seed=seed,
            download=download,
        )
        for spec in specs
    ]
    judging = time.perf_counter()
    subject, result = evaluate_layers(
        imageset,
        splits,
        seen,
        pool=pool,
        protocol=protocol,
        controls=controls,
        maps=maps,
        device=device,
        seed=seed,
    )
    if not regimes and not ablate_skips:
        return result
    from visus.studies.transfer import training

    # What comes after training takes about what came before it: features of one more network, and probes and maps again.
    reserve = 0.8 * (time.perf_counter() - judging) + sum(s.features.cost.get("seconds") or 0.0 for s in seen)
    deadline = None if seconds is None else start + seconds
    how = training.RunConfig(options, machines, pool, protocol, precision, maps, deadline, reserve)
    first, then = [], []
    if ablate_skips:
        then += training.ablate(subject, seen, ablate_skips, how)
    if regimes:
        part, trained = training.train(subject, seen, how)
        first.append(part)
        then = training.compare_features(subject, seen, trained, how) + then
    return merged(first, result, then)


def extract_features(
    spec: str,
    imageset: ImageSet,
    *,
    taps: Sequence[str] | None,
    pool: str,
    controls: bool,
    precision: str,
    engine: str,
    device: str,
    seed: int,
    download: bool,
) -> ModelFeatures:
    """Extract the features of one model at its taps, and of its random-init twin where controls are asked for."""
    from visus.errors import VisusError
    from visus.features import extract
    from visus.models import load_backbone
    from visus.progress import log
    from visus.studies.common.shared import chosen_taps, random_control

    backbone = load_backbone(spec, seed=seed, download=download)
    names = chosen_taps(backbone, taps)

    def run(network: Backbone) -> Features:
        return extract(imageset, network, names, pool=pool, precision=precision, engine=engine, device=device)

    features = run(backbone)
    twin = None
    if controls and not backbone.random:
        try:
            twin = run(random_control(spec, seed=seed))
        except VisusError as error:
            log(f"no random-init control for {spec}: {error}")
    return ModelFeatures(backbone, features, twin, tuple(names))


def evaluate_layers(
    imageset: ImageSet,
    splits: Splits,
    seen: Sequence[ModelFeatures],
    *,
    pool: str,
    protocol: str,
    controls: bool,
    maps: bool,
    device: str,
    seed: int,
) -> tuple[Subject, Result]:
    """From features to scores and a Result: score every layer of every model on the pictures that all of them could decode."""
    from visus.measures.repeats import repeats
    from visus.progress import task
    from visus.studies.common.schema1 import Result
    from visus.studies.common.shared import labels_of, pixels_of, tap_label
    from visus.studies.transfer.layers import figures as pictures
    from visus.studies.transfer.layers import findings as words
    from visus.studies.transfer.layers.scores import score_layer
    from visus.studies.transfer.layers.subject import Subject
    from visus.studies.transfer.layers.tables import tables

    kept, splits = common_ground(splits, [s.features for s in seen], len(imageset))
    y = labels_of(imageset)[kept]
    scores: list[LayerScore] = []
    features: dict[tuple[str, str], np.ndarray] = {}
    with task("probing layers", sum(len(s.taps) for s in seen)) as progress:
        for s in seen:
            for tap in s.taps:
                x, twin_x = _vectors(s, tap, kept, splits, pool=pool, seed=seed)
                features[s.backbone.spec, tap] = x
                score = score_layer(
                    x,
                    y,
                    splits,
                    model=s.backbone.spec,
                    tap=tap,
                    label=tap_label(s.backbone, tap),
                    n_classes=len(imageset.classes),
                    random_x=twin_x,
                    controls=controls,
                    protocol=protocol,
                    device=device,
                    seed=seed,
                )
                scores.append(score)
                progress.advance()
    pixels = pixels_of(seen[0].features, kept)
    twice = repeats(pixels, y, splits.train, splits.test, splits.folds)
    subject = Subject(imageset, splits, kept, y, tuple(s.backbone for s in seen), tuple(scores), twice)
    figures, arrays = pictures.draw(subject, features, maps=maps, seed=seed)
    return subject, Result(
        study="transfer",
        title=words.title(subject),
        findings=words.findings(subject, seed=seed),
        tables=tables(subject, [s.features for s in seen], seed=seed),
        figures=figures,
        arrays=arrays,
        warnings=words.warnings(subject, twins=[s.twin is not None for s in seen], controls=controls, maps=maps),
        provenance=words.provenance(subject, seed=seed, protocol=protocol, pool=pool),
    )


def common_ground(splits: Splits, features: Sequence[Features], n: int) -> tuple[np.ndarray, Splits]:
    """The pictures that every extraction could decode (int64 positions in the ImageSet), and the splits in their numbering."""
    from functools import reduce

    import numpy as np

    from visus.errors import DataError
    from visus.images import Splits as Numbered

    kept = reduce(np.intersect1d, [f.rows for f in features])
    where = np.full(n, -1, np.int64)
    where[kept] = np.arange(len(kept))

    def move(rows: np.ndarray) -> np.ndarray:
        moved = where[rows]
        found: np.ndarray = moved[moved >= 0]
        return found

    moved = Numbered(move(splits.train), tuple((move(a), move(b)) for a, b in splits.folds), move(splits.test))
    if not len(moved.train) or not len(moved.test) or any(not len(a) or not len(b) for a, b in moved.folds):
        raise DataError(
            "after setting aside the files that could not be decoded a split is empty; see the quarantine and mend the files"
        )
    return kept, moved


def _vectors(
    seen: ModelFeatures, tap: str, kept: np.ndarray, splits: Splits, *, pool: str, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """The vectors of one tap for the kept pictures, of the model and of its twin; flattened ones are reduced by PCA."""
    from visus.measures.reduce import pca_from_train
    from visus.studies.common.shared import rows_of

    x = rows_of(seen.features, tap, kept)
    twin = None if seen.twin is None else rows_of(seen.twin, tap, kept)
    if pool == "flatten":
        x = pca_from_train(x, splits.train, seed=seed)
        twin = None if twin is None else pca_from_train(twin, splits.train, seed=seed)
    return x, twin
