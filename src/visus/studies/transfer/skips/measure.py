"""From networks without skips to what is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from visus.models.skips import Skip, choose_skips, find_skips
from visus.studies.common.comparisons import Comparison, compare, family
from visus.studies.common.proportion import Proportion, of_value
from visus.studies.transfer.regime_options import RegimeOptions
from visus.studies.transfer.skips.ablation import AblationSetup, Variant, sweep, variants
from visus.training.devices import Devices


@dataclass(frozen=True)
class VariantRow:
    """One network with its head fitted again. by_descent: test accuracy of the same head by gradient descent; gradients: norm of the loss's
    gradient by stage; epochs: (number, training accuracy, validation accuracy) of the head by descent."""

    name: str
    accuracy: Proportion
    by_descent: float
    validation: float
    gradients: Mapping[str, float]
    epochs: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class WithoutChosen:
    """A model without the skips that were named: the intact network first; comparisons: each other against it."""

    model: str
    skips: str
    rows: tuple[VariantRow, ...]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class SweptBlock:
    """One block without its skip. damage: the intact network minus it on the test images; the same with BatchNorm recalibrated, or None."""

    block: str
    depth: float
    projection: bool
    accuracy: float
    damage: Comparison
    recalibrated: float | None
    recalibrated_damage: Comparison | None


@dataclass(frozen=True)
class Sweep:
    """Every block of a model in turn. intact: accuracy of the whole network over n test images; n_train: images that heads were fitted on."""

    model: str
    blocks: tuple[SweptBlock, ...]
    intact: float
    n: int
    n_train: int


@dataclass(frozen=True)
class SkipsMeasures:
    """One entry a model, of one of the two kinds."""

    chosen: tuple[WithoutChosen, ...] = ()
    swept: tuple[Sweep, ...] = ()

    @property
    def several(self) -> bool:
        return len(self.chosen) + len(self.swept) > 1


def measure(setups: Sequence[AblationSetup], text: str, options: RegimeOptions, devices: Devices) -> SkipsMeasures:
    """Skip connections removed, as `text` names them: blocks and ranges, or 'sweep' for every block in turn. Raises SpecError for unknown ones."""
    if text == "sweep":
        return SkipsMeasures(swept=tuple(_swept(s, choose_skips(find_skips(s.backbone), "all")) for s in setups))
    # In this process alone: classes made at run time cannot be sent to another one.
    alone = replace(devices, count=1)
    return SkipsMeasures(
        chosen=tuple(_chosen(s, choose_skips(find_skips(s.backbone), text), options, alone) for s in setups)
    )


def _chosen(setup: AblationSetup, skips: Sequence[Skip], options: RegimeOptions, devices: Devices) -> WithoutChosen:
    return of_variants(variants(setup, skips, options, devices), setup, skips)


def of_variants(found: Sequence[Variant], setup: AblationSetup, skips: Sequence[Skip]) -> WithoutChosen:
    """The chosen blocks without their skips beside the intact network."""
    y = setup.images.test_y
    right = {v.name: v.probe.predictions == y for v in found}
    intact, *others = found
    rows = tuple(
        VariantRow(
            name=v.name,
            accuracy=of_value(v.probe.top1, len(y)),
            by_descent=float(np.mean(v.run.logits.argmax(1) == y)),
            validation=v.probe.validation_accuracy,
            gradients=dict(v.gradients),
            epochs=tuple((e.number, e.train_accuracy, e.val_accuracy) for e in v.run.epochs),
        )
        for v in found
    )
    pairs = [compare(right[v.name], right[intact.name], names=(v.name, intact.name), seed=setup.seed) for v in others]
    return WithoutChosen(setup.backbone.spec, names_of(skips), rows, family(pairs))


def _swept(setup: AblationSetup, skips: Sequence[Skip]) -> Sweep:
    intact, removals, used = sweep(setup, skips)

    def damage(right: np.ndarray, block: str) -> Comparison:
        # Without minus intact, then turned round: what is resampled keeps its order.
        return compare(right, intact, names=(block, "intact"), seed=setup.seed).reversed()

    blocks = []
    for r in removals:
        again = r.recalibrated
        blocks.append(
            SweptBlock(
                block=r.skip.name,
                depth=r.skip.depth,
                projection=r.skip.projection,
                accuracy=float(r.right.mean()),
                damage=damage(r.right, r.skip.name),
                recalibrated=None if again is None else float(np.mean(again)),
                recalibrated_damage=None if again is None else damage(again, r.skip.name),
            )
        )
    return Sweep(setup.backbone.spec, tuple(blocks), float(intact.mean()), len(used.test), len(used.train))


def names_of(skips: Sequence[Skip]) -> str:
    """'layer3.1', 'layer3.1 and layer3.2', 'layer3.1 to layer3.20 (20 blocks)'."""
    if len(skips) <= 2:
        return " and ".join(s.name for s in skips)
    return f"{skips[0].name} to {skips[-1].name} ({len(skips)} blocks)"
