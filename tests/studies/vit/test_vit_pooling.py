"""What the pooling section tells of hand-made measures."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.studies.vit import sample

from visus.measures.probe_null import PermutationNull
from visus.studies.common.comparisons import compare
from visus.studies.common.section import section
from visus.studies.vit import pooling
from visus.studies.vit.pooling.measure import FittedProbe, model_poolings, place


def told(m: pooling.PoolingMeasures, kind: str | None = None) -> list[str]:
    return [f.text for f in pooling.findings(m) if kind in (None, f.kind)]


def test_every_probe_is_a_row_with_its_controls_and_its_metrics() -> None:
    found = section(pooling, sample.pooling())
    table, pairs = found.tables
    assert table.column("where") == ("layer 1", "layer 2", "layer 1", "layer 2", "behind the pooling")
    assert set(table.column("random")) == {0.4}
    assert (pairs.key, len(pairs.rows)) == ("pooling-pairs", 3)
    metrics = {m.key: m for m in found.metrics}
    for row in table.records():
        where = "/".join((row["model"], row["where"].replace(" ", "-"), row["pooling"].lower()))
        assert metrics[f"{where}/accuracy"].value == row["accuracy"]
        assert metrics[f"{where}/validation-accuracy"].split == "validation"
    assert found.metrics[0].key == "pooling/a-·-cls/minus/a-·-mean"


def test_an_interval_around_nought_is_undecided() -> None:
    (first, second) = pooling.findings(sample.pooling())
    assert "it is undecided whether CLS or the mean of the patch tokens holds more" in first.text
    assert first.kind == "undecided"
    assert second.text == "At the last layer of a validation prefers pre-logits, with 65.0 % on test."


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.1, 0.05, 0.3, "CLS beats the mean of the patch tokens by +10.0 points, 95 % interval +5.0 to +30.0"),
        (-0.1, -0.3, -0.05, "the mean of the patch tokens beats CLS by +10.0 points, 95 % interval +5.0 to +30.0"),
    ],
)
def test_the_better_pooling_is_named_first(value: float, low: float, high: float, said: str) -> None:
    model = sample.poolings("a")
    pair = replace(model.pairs[0], difference=value, low=low, high=high)
    m = replace(sample.pooling(), models=(replace(model, pairs=(pair, *model.pairs[1:])),))
    assert said in told(m, "result")[0]


def test_without_a_cls_token_the_mean_is_told_alone() -> None:
    model = sample.poolings("a")
    only = replace(model, probes=tuple(p for p in model.probes if p.pooling != "CLS"), pairs=())
    m = replace(sample.pooling(), models=(only,))
    assert told(m) == ["a has no CLS token: a probe on the mean of its patch tokens is right on 60.0 %."]
    assert [t.key for t in pooling.tables(m)] == ["pooling"]


def test_a_penalty_at_the_edge_and_a_missing_control_are_cautions() -> None:
    model = sample.poolings("a")
    probes = (replace(model.probes[0], at_edge=True, random=None), *model.probes[1:])
    m = replace(sample.pooling(), models=(replace(model, probes=probes, cautions=("look for a leak",)),))
    control, edge, leak = told(m, "caution")
    assert control.startswith("a: no random-init control")
    assert edge.startswith("a, layer 1, CLS: validation chose the λ at the edge of the path (1.0e-03)")
    assert leak == "look for a leak"
    unasked = tuple(replace(p, random=None, shuffled=None, shuffled_point=None) for p in model.probes)
    assert told(replace(m, models=(replace(model, probes=unasked),)), "caution") == []


def test_repeated_images_bring_their_tables_and_a_caution() -> None:
    m = sample.pooling(1)
    assert [t.key for t in pooling.tables(m)] == [
        "pooling", "pooling-without-repeats", "repeated-images", "pooling-pairs",
    ]  # fmt: skip
    assert "1 of 20 test images" in told(m, "caution")[0]


def test_curves_through_depth_leave_out_what_stands_behind_the_pooling() -> None:
    (lines,) = pooling.figures(sample.pooling())
    assert [s.name for s in lines.series] == ["CLS", "mean"]
    assert lines.series[0].x == (1.0, 2.0)
    assert lines.series[0].y == (0.5, 0.7)
    assert lines.unit == "share"


def test_places_have_names() -> None:
    assert (place(6), place(0)) == ("layer 6", "behind the pooling")


def fitted(layer: int, pooling_: str, right: int, *, validation: float, null: float | None = None) -> FittedProbe:
    """A probe that names the first `right` of twelve images rightly, all of class 0 or 1 in turn."""
    y = np.arange(12) % 2
    predictions = np.where(np.arange(12) < right, y, 1 - y)
    probe: Any = SimpleNamespace(
        predictions=predictions, top1=right / 12, balanced_accuracy=right / 12, nll=0.5, ece=0.1, validation_accuracy=validation,
        lambda_=1e-2, at_edge=False,
    )  # fmt: skip
    shuffled = None if null is None else PermutationNull(np.full(20, null))
    return FittedProbe(layer, pooling_, 8, probe, shuffled, 0.5)


PROBES = [
    fitted(1, "CLS", 6, validation=0.9),
    fitted(1, "mean", 7, validation=0.4),
    fitted(2, "CLS", 9, validation=0.5, null=0.5),
    fitted(2, "CLS + mean", 10, validation=0.7),
    fitted(2, "mean", 8, validation=0.7),
    fitted(0, "pre-logits", 5, validation=0.6, null=0.5),
]


def test_poolings_are_compared_at_the_last_layer_first_and_each_pair_once() -> None:
    y = np.arange(12) % 2
    m = model_poolings("a", PROBES, y, seed=2)
    assert [(c.a, c.b) for c in m.pairs] == [
        ("a · CLS", "a · mean"), ("a · CLS", "a · CLS + mean"), ("a · CLS", "a · pre-logits"), ("a · mean", "a · CLS + mean"),
        ("a · mean", "a · pre-logits"), ("a · CLS + mean", "a · pre-logits"), ("a, layer 1 · CLS", "a, layer 1 · mean"),
    ]  # fmt: skip
    right = [PROBES[k].probe.predictions == y for k in (2, 4)]
    assert m.main == compare(*right, names=("a · CLS", "a · mean"), seed=2)


def test_validation_prefers_among_the_last_the_first_of_the_best() -> None:
    m = model_poolings("a", PROBES, np.arange(12) % 2, seed=0)
    assert (m.preferred.pooling, m.preferred.layer) == ("CLS + mean", 2)  # not layer 1, which validation likes more
    assert [p.pooling for p in m.probes] == ["CLS", "CLS", "mean", "mean", "CLS + mean", "pre-logits"]
    assert {p.layer for p in m.last} == {0, 2}


def test_a_probe_below_its_shuffled_labels_is_told() -> None:
    m = model_poolings("a", PROBES, np.arange(12) % 2, seed=0)
    (said,) = m.cautions
    assert said.startswith("a, behind the pooling, pre-logits: the probe's 41.7 % do not exceed the 95 % point")
    assert (m.probes[-1].shuffled, m.probes[-1].shuffled_point, m.probes[-1].random) == (0.5, 0.5, 0.5)
    assert m.probes[0].shuffled is None


def test_a_model_without_cls_has_no_main_comparison() -> None:
    m = model_poolings("a", [p for p in PROBES if "CLS" not in p.pooling], np.arange(12) % 2, seed=0)
    assert m.main is None
    assert [(c.a, c.b) for c in m.pairs] == [("a · mean", "a · pre-logits")]
