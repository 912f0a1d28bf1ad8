"""What is told of networks without skip connections, on removals made by hand."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.studies.told import check as told
from tests.studies.told import kinds
from tests.studies.transfer.layer_samples import answers, images

from visus.figures import Lines
from visus.measures.compare import paired_bootstrap
from visus.measures.intervals import wilson
from visus.studies.common.comparisons import Comparison
from visus.studies.transfer import skips
from visus.studies.transfer.skips.measure import SkipsMeasures, Sweep, SweptBlock, names_of, of_variants

NAMES = ("intact", "without skips", "without skips, BatchNorm recalibrated")


def variant(name: str, right: float, gradient: float) -> Any:
    data = images()
    predicted = answers(data, right)
    logits = np.eye(3, dtype=np.float32)[predicted]
    epochs = [SimpleNamespace(number=i + 1, train_accuracy=0.5 + i / 10, val_accuracy=0.4 + i / 10) for i in range(3)]
    return SimpleNamespace(
        name=name,
        probe=SimpleNamespace(top1=right, predictions=predicted, validation_accuracy=right - 0.05),
        run=SimpleNamespace(logits=logits, epochs=epochs),
        gradients={"stem": gradient, "head": 1.0},
    )


def chosen(*right: float, gradients: tuple[float, ...] = (1.0, 0.1, 0.5)) -> SkipsMeasures:
    found = [variant(name, share, g) for name, share, g in zip(NAMES, right, gradients, strict=False)]
    setup: Any = SimpleNamespace(images=images(), seed=0, backbone=SimpleNamespace(spec="timm:net"))
    blocks: Any = [SimpleNamespace(name="layer2.0"), SimpleNamespace(name="layer3.0")]
    return SkipsMeasures(chosen=(of_variants(found, setup, blocks),))


def damage(value: float, low: float, high: float) -> Comparison:
    return Comparison("intact", "x", value, low, high, 5, 1, 0.2)


def swept(*values: float, recalibrated: bool = True, model: str = "timm:net") -> Sweep:
    blocks = tuple(
        SweptBlock(
            f"layer{i}.0", i / 4, i % 2 == 0, 0.8 - v, damage(v, v - 0.05, v + 0.05), 0.8 - v / 2 if recalibrated else None,
            damage(v / 2, v / 2 - 0.05, v / 2 + 0.05) if recalibrated else None,
        )
        for i, v in enumerate(values)
    )  # fmt: skip
    return Sweep(model, blocks, 0.8, 60, 48)


def test_each_network_stands_with_its_interval_and_against_the_intact_one() -> None:
    found = told(skips, chosen(0.8, 0.4, 0.6))
    removed, compared, gradients = found.tables
    rows = removed.records()
    assert [r["network"] for r in rows] == list(NAMES)
    assert (rows[1]["accuracy"], rows[1]["low"], rows[1]["high"]) == (0.4, *wilson(24, 60))
    assert rows[1]["by_descent"] == pytest.approx(0.4)
    data = images()
    boot = paired_bootstrap(answers(data, 0.4) == data.test_y, answers(data, 0.8) == data.test_y, seed=0)
    assert compared.column("difference")[0] == boot.difference
    assert gradients.records()[0] == {
        "stage": "stem", "intact": 1.0, "without-skips": 0.1, "without-skips,-batchnorm-recalibrated": 0.5
    }  # fmt: skip


def test_sentences_say_what_is_left_and_how_much_gradient_arrives() -> None:
    found = told(skips, chosen(0.8, 0.4, 0.6))
    said = [f.text for f in found.findings]
    assert said[0].startswith(
        "Without the skips of layer2.0 and layer3.0 in timm:net a newly fitted head gets 40.0 % of 60 test images"
    )
    assert said[1].startswith("Against the intact network that is -40.0 points")
    assert "with BatchNorm statistics estimated anew" in said[2]
    assert (
        said[4]
        == "The loss's gradient at the first stage (stem) is 0.1 times as large for the network without skips as for the intact one."
    )


def test_no_difference_is_undecided_and_a_dead_gradient_is_not_divided_by() -> None:
    found = told(skips, chosen(0.8, 0.8, gradients=(0.0, 0.0)))
    assert len(kinds(found)["undecided"]) == 1
    assert not any("gradient" in f.text for f in found.findings)
    assert not next(f for f in found.figures if f.key == "skips-gradients").y_log  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("names", "said"),
    [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a to c (3 blocks)")],
)
def test_blocks_are_named_in_few_words(names: list[str], said: str) -> None:
    blocks: Any = [SimpleNamespace(name=n) for n in names]
    assert names_of(blocks) == said


@pytest.mark.parametrize("recalibrated", [True, False])
def test_a_sweep_says_the_damage_of_every_block_over_depth(recalibrated: bool) -> None:
    found = told(skips, SkipsMeasures(swept=(swept(0.01, 0.3, 0.02, recalibrated=recalibrated),)))
    (table,) = found.tables
    assert table.column("damage") == (0.01, 0.3, 0.02)
    assert ("damage_recalibrated" in [c.key for c in table.columns]) == recalibrated
    (figure,) = found.figures
    assert isinstance(figure, Lines)
    assert figure.unit == "points"
    assert [s.name for s in figure.series] == ["as it stands", "BatchNorm recalibrated"][: 1 + recalibrated]
    assert figure.series[0].x == (0.0, 0.25, 0.5)
    assert "1 do clear damage when their skip is missing; the worst is layer1.0: +30.0 points" in found.findings[0].text
    assert (len(found.findings) == 2) == recalibrated
    if recalibrated:
        assert "takes the mean damage of one missing skip from 11.0 to 5.5 points" in found.findings[1].text
    assert {m.key for m in found.metrics} == {f"timm:net/skips/layer{i}.0/damage" for i in range(3)}


def test_of_several_models_every_table_holds_its_own_name() -> None:
    both = SkipsMeasures(swept=(swept(0.1, model="timm:a"), swept(0.2, model="timm:b")))
    found = told(skips, both)
    assert [t.key for t in found.tables] == ["timm:a/skip-sweep", "timm:b/skip-sweep"]
    assert [f.key for f in found.figures] == ["timm:a/skips-sweep", "timm:b/skips-sweep"]


@pytest.mark.parametrize("recalibrated", [True, False])
def test_damage_is_the_intact_network_minus_it_as_the_bootstrap_compares_them(
    recalibrated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images()
    intact, cut, again = (answers(data, share) == data.test_y for share in (0.8, 0.3, 0.6))
    block = SimpleNamespace(name="layer3.0", depth=0.5, projection=True)
    removal = SimpleNamespace(skip=block, right=cut, recalibrated=again if recalibrated else None)
    found = import_module("visus.studies.transfer.skips.measure")  # the package's `measure` is the function
    monkeypatch.setattr(found, "find_skips", lambda backbone: [block])
    monkeypatch.setattr(found, "choose_skips", lambda skips, text: skips)
    monkeypatch.setattr(found, "sweep", lambda setup, skips: (intact, (removal,), data.splits))
    setup: Any = SimpleNamespace(seed=0, backbone=SimpleNamespace(spec="timm:net"))
    unused: Any = None
    m = skips.measure([setup], "sweep", unused, unused)
    (one,) = m.swept
    assert (one.intact, one.n, one.n_train) == (pytest.approx(0.8), 60, 60)
    (b,) = one.blocks
    boot = paired_bootstrap(cut, intact, seed=0)
    assert (b.damage.difference, b.damage.low, b.damage.high) == (-boot.difference, -boot.high, -boot.low)
    assert (b.damage.only_a, b.damage.only_b) == (30, 0)
    assert (b.recalibrated is None, b.recalibrated_damage is None) == (not recalibrated,) * 2
    if b.recalibrated_damage is not None:
        assert b.recalibrated == pytest.approx(0.6)
        assert b.recalibrated_damage.difference == pytest.approx(0.2)
    assert check_rows(m) == [(0.5, True)]


def check_rows(m: SkipsMeasures) -> list[tuple[object, object]]:
    """Depth and projection of every block, as the page's table holds them."""
    return [(r["depth"], r["projection"]) for t in told(skips, m).tables for r in t.records()]
