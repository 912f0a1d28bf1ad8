"""What is told of networks without skips, on measures made by hand."""

from __future__ import annotations

import pytest
from tests.studies.told import check, kinds

from visus.figures import Curves, Lines
from visus.studies.common.comparisons import Comparison, family
from visus.studies.common.proportion import Proportion
from visus.studies.transfer import skips
from visus.studies.transfer.skips.measure import SkipsMeasures, Sweep, SweptBlock, VariantRow, WithoutChosen

N = 300
PLAIN, AGAIN = "without skips", "without skips, BatchNorm recalibrated"


def against(name: str, difference: float, half: float = 0.03) -> Comparison:
    return Comparison(name, "intact", difference, difference - half, difference + half, 3, 40, 1e-6)


def variant(name: str, accuracy: float, first: float) -> VariantRow:
    of = Proportion(accuracy, accuracy - 0.05, accuracy + 0.05, N)
    return VariantRow(
        name, of, accuracy - 0.01, accuracy + 0.01, {"stem": first, "layer1": 0.2}, ((1, 0.5, 0.4), (2, 0.7, 0.6))
    )


def chosen(model: str = "net", *, lost: float = 0.4, first: float = 0.1) -> WithoutChosen:
    rows = (variant("intact", 0.8, first), variant(PLAIN, 0.8 - lost, 0.031), variant(AGAIN, 0.7, 0.2))
    return WithoutChosen(model, "layer3.1", rows, family([against(PLAIN, -lost), against(AGAIN, -0.1)]))


def block(name: str, depth: float, damage: float, again: float | None) -> SweptBlock:
    turned = against(name, -damage).reversed()
    known = None if again is None else against(name, -again).reversed()
    return SweptBlock(name, depth, False, 0.8 - damage, turned, None if again is None else 0.8 - again, known)


def swept(*, again: bool, model: str = "net") -> Sweep:
    blocks = (
        block("layer1.1", 0.25, 0.01, 0.02 if again else None),
        block("layer3.1", 0.75, 0.3, 0.1 if again else None),
    )
    return Sweep(model, blocks, 0.8, N, 1000)


def test_the_networks_stand_beside_the_intact_one() -> None:
    made = check(skips, SkipsMeasures(chosen=(chosen(),)))
    removed, compared, gradients = made.tables
    assert [t.key for t in made.tables] == ["skips-removed", "skips-compared", "gradients"]
    assert removed.column("accuracy") == pytest.approx((0.8, 0.4, 0.7))
    assert removed.column("network") == ("intact", PLAIN, AGAIN)
    assert compared.column("difference") == (-0.4, -0.1)
    assert gradients.rows == (("stem", 0.1, 0.031, 0.2), ("layer1", 0.2, 0.2, 0.2))
    assert {m.key: m.value for m in made.metrics}["net/skips/without-skips/accuracy"] == pytest.approx(0.4)


def test_what_is_lost_is_said_with_its_interval() -> None:
    said = kinds(check(skips, SkipsMeasures(chosen=(chosen(),))))["result"]
    assert said[0].startswith("Without the skips of layer3.1 in net a newly fitted head gets 40.0 % of 300 test images")
    assert said[1].startswith("Against the intact network that is ")
    assert "40.0 points, 95 % interval " in said[1]
    assert "with BatchNorm statistics estimated anew" in said[2]
    assert "is 0.31 times as large for the network without skips as for the intact one" in said[4]


def test_a_loss_that_may_be_none_is_undecided() -> None:
    (said,) = kinds(check(skips, SkipsMeasures(chosen=(chosen(lost=0.01),))))["undecided"]
    assert said.endswith(": undecided.")


def test_where_no_gradient_reaches_the_first_stage_no_ratio_is_said() -> None:
    made = check(skips, SkipsMeasures(chosen=(chosen(first=0.0),)))
    assert not any("times as large" in f.text for f in made.findings)
    assert [f.y_log for f in made.figures if isinstance(f, Lines)] == [False]


def test_curves_have_a_panel_for_training_and_one_for_validation() -> None:
    curves, gradients = check(skips, SkipsMeasures(chosen=(chosen(),))).figures
    assert isinstance(curves, Curves)
    assert isinstance(gradients, Lines)
    assert [p.title for p in curves.panels] == ["training", "validation"]
    assert [p.series[0].y for p in curves.panels] == [(0.5, 0.7), (0.4, 0.6)]
    assert (curves.unit, gradients.y_log) == ("share", True)


@pytest.mark.parametrize("again", [False, True])
def test_a_sweep_names_the_block_that_does_most_damage(again: bool) -> None:
    made = check(skips, SkipsMeasures(swept=(swept(again=again),)))
    (table,) = made.tables
    assert table.column("damage") == (0.01, 0.3)
    assert ("damage_recalibrated" in [c.key for c in table.columns]) == again
    said = kinds(made)["result"]
    assert said[0].startswith(
        "Of 2 residual blocks of net, 1 do clear damage when their skip is missing; the worst is layer3.1: +30.0 points"
    )
    assert (said[1:] != []) == again
    if again:
        assert said[1].endswith("the mean damage of one missing skip from 15.5 to 6.0 points.")
    (figure,) = made.figures
    assert isinstance(figure, Lines)
    assert [len(s.x) for s in figure.series] == [2] * (1 + again)
    assert figure.unit == "points"
    assert "(80.0 %)" in figure.caption


def test_several_models_stand_before_their_keys() -> None:
    made = check(skips, SkipsMeasures(chosen=(chosen("a"), chosen("b"))))
    assert [t.key for t in made.tables][::3] == ["a/skips-removed", "b/skips-removed"]
    assert {f.key for f in made.figures} >= {"a/skips-curves", "b/skips-gradients"}
