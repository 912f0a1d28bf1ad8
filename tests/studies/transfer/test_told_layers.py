"""What is told of layers, on scores made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from tests.studies.told import check, kinds

from visus.figures import Heatmap, Intervals, Lines
from visus.studies.common.comparisons import Comparison, family
from visus.studies.common.proportion import Proportion
from visus.studies.transfer import layers
from visus.studies.transfer.layers import LayerRow, LayersMeasures, NextBest

N = 400
CLEAR = Comparison("a · late", "b · late", 0.1, 0.05, 0.15, 50, 10, 1e-6)
UNCLEAR = Comparison("a · late", "a · early", 0.01, -0.02, 0.04, 20, 16, 0.6)


def row(layer: str = "late", model: str = "a", **more: Any) -> LayerRow:
    fields: dict[str, Any] = {
        "model": model,
        "layer": layer,
        "width": 64,
        "probe": Proportion(0.831, 0.79, 0.865, N),
        "balanced_accuracy": 0.8,
        "nll": 0.52,
        "ece": 0.031,
        "validation": 0.84,
        "penalty": 1e-3,
        "at_edge": False,
        "path": ((1e-4, 1e-3, 1e-2), (0.8, 0.84, 0.7)),
        "knn": Proportion(0.75, 0.7, 0.79, N),
        "knn_balanced_accuracy": 0.73,
        "knn_k": 20,
        "knn_validation": 0.76,
        "knn_by_k": {1: 0.7, 20: 0.75},
        "random": Proportion(0.3, 0.25, 0.35, N),
        "silhouette": 0.12,
        "scatter": 0.8,
    }
    return LayerRow(**(fields | more))


def measures(*rows: LayerRow, **more: Any) -> LayersMeasures:
    fields: dict[str, Any] = {
        "rows": rows or (row(),),
        "best": 0,
        "majority": 0.1,
        "n": N,
        "models": (),
        "layers": (),
        "next_best": (),
        "cka": None,
        "one_of_each": False,
    }
    return LayersMeasures(**(fields | more))


def two_layers(c: Comparison, **more: Any) -> LayersMeasures:
    pairs = {"layers": family([c]), "next_best": (NextBest("a", "late", "early", c),), "cka": ((1.0, 0.4), (0.4, 1.0))}
    return measures(row("early"), row("late (blocks.3)"), **({"best": 1} | pairs | more))


def two_models(c: Comparison) -> LayersMeasures:
    return measures(row(model="a"), row(model="b"), models=family([c]), cka=((1.0, 0.2), (0.2, 1.0)))


def test_a_layer_stands_with_its_probe_and_its_neighbours() -> None:
    made = check(layers, measures())
    probe, knn = made.tables[0].records()
    assert (probe["method"], probe["accuracy"], probe["low"], probe["n"]) == ("linear probe", 0.831, 0.79, N)
    assert (probe["nll"], probe["validation"], probe["chosen"]) == (0.52, 0.84, "λ 1.0e-03")
    assert (knn["method"], knn["accuracy"], knn["nll"], knn["chosen"]) == ("kNN", 0.75, None, "k 20")
    assert "83.1" in str(made.tables[0])
    assert [c.key for c in made.tables[0].columns if c.better] == ["validation"]
    assert [t.key for t in made.tables] == ["accuracy", "geometry", "knn"]
    assert made.tables[2].columns[2].key == "k_1"
    assert made.tables[2].rows == (("a", "late", 0.7, 0.75, 20),)


def test_numbers_of_a_layer_are_metrics_under_its_short_name() -> None:
    found = {m.key: m for m in check(layers, two_layers(CLEAR)).metrics}
    one = found["a/late/probe/accuracy"]
    assert (one.value, one.low, one.high, one.n, one.unit, one.better) == (0.831, 0.79, 0.865, N, "share", "higher")
    assert found["a/late/probe/nll"].better == "lower"
    assert found["a/early/probe/validation-accuracy"].split == "validation"
    assert found["majority/accuracy"].value == 0.1


def test_the_best_layer_is_said_first_in_percent() -> None:
    said = kinds(check(layers, measures()))["result"]
    assert said[0].startswith("A linear probe on the late features of a is right on 83.1 % of 400 test images")
    assert said[-1].endswith(
        "the 20 nearest neighbours in the same features give 75.0 %; fitting a probe changes that by +8.1 points."
    )
    assert layers.answer(measures()) == "A linear probe on the late features of a names 83.1 % of 400 test images."


@pytest.mark.parametrize(("comparison", "kind"), [(CLEAR, "result"), (UNCLEAR, "undecided")])
def test_a_lead_whose_interval_holds_nothing_is_undecided(comparison: Comparison, kind: str) -> None:
    (said,) = [t for t in kinds(check(layers, two_layers(comparison)))[kind] if "validation prefers" in t]
    assert said.startswith("a: validation prefers late to early; on test it leads by ")
    assert said.endswith(": undecided.") == (kind == "undecided")


def test_the_better_model_stands_first_whichever_way_it_was_compared() -> None:
    forth = kinds(check(layers, two_models(CLEAR)))["result"]
    back = kinds(check(layers, two_models(CLEAR.reversed())))["result"]
    assert "a · late beats b · late: +10.0 points, 95 % interval +5.0 to +15.0." in forth
    assert "a · late beats b · late: +10.0 points, 95 % interval +5.0 to +15.0." in back


def test_models_that_cannot_be_told_apart_are_undecided() -> None:
    made = check(layers, two_models(UNCLEAR))
    (said,) = kinds(made)["undecided"]
    assert "undecided on these images: +1.0 points" in said
    (metric,) = [m for m in made.metrics if m.unit == "points"]
    assert (metric.value, metric.low, metric.high) == (0.01, -0.02, 0.04)
    assert "models-compared" in {t.key for t in made.tables}


def test_figures_hold_fractions_and_name_models_where_there_are_several() -> None:
    intervals, cka, path = check(layers, two_models(CLEAR)).figures
    assert isinstance(intervals, Intervals)
    assert isinstance(cka, Heatmap)
    assert isinstance(path, Lines)
    assert [g.name for g in intervals.groups][:3] == ["a · probe", "a · kNN", "a · probe, random weights"]
    assert (intervals.unit, intervals.groups[0].values, intervals.reference[0].value) == ("share", (0.831,), 0.1)
    assert [s.name for s in path.series] == ["a · late", "b · late"]
    assert cka.values == ((1.0, 0.2), (0.2, 1.0))


def test_a_layer_without_a_random_control_has_no_group_of_random_weights() -> None:
    intervals, path = check(layers, measures(row(random=None))).figures
    assert isinstance(intervals, Intervals)
    assert isinstance(path, Lines)
    assert [g.name for g in intervals.groups] == ["probe", "kNN"]


def test_cautions_name_the_edge_of_the_path_and_what_is_left_out() -> None:
    edge = row("early", at_edge=True, penalty=1e-6)
    said = kinds(check(layers, measures(edge, row(), one_of_each=True)))["caution"]
    assert said[0].startswith("a, early: validation chose the λ at the edge of the path (1.0e-06)")
    assert "CKA" in said[1]
    assert said[1].endswith("there are 400.")
    assert said[2].startswith("No silhouette")
    assert kinds(check(layers, measures()))["caution"] == []
