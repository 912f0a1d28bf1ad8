"""Features before and after training, on a network whose training is planted: it learns to see blue behind its first layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples, silhouette_score
from tests.features import tiny
from tests.studies.transfer.planted_change import column, sentences, slow_cka, tables, told

from visus.figures import Maps
from visus.images import ImageSet, Splits
from visus.measures import holm, paired_bootstrap, wilson
from visus.models import Backbone
from visus.report.draw import draw, to_bytes
from visus.studies.transfer.before_after.measure import (
    FeatureChange,
)
from visus.studies.transfer.evaluation import LayerScore


def test_numbers_are_those_of_plain_pytorch_picture_by_picture(
    found: FeatureChange,
    scores: dict[tuple[str, str], LayerScore],
    images: ImageSet,
    splits: Splits,
    states: dict[str, Backbone],
) -> None:
    y = images.labels[splits.test]  # type: ignore[index]
    taps = ["stem", "body", "head"]
    test = images.subset(splits.test)
    slow = {(s, t): tiny.reference(test, states[s], t).astype(np.float64) for s in states for t in taps}
    layers, moves = tables(found)["layers"], tables(found)["difference"]
    assert column(layers, "silhouette") == pytest.approx(
        [silhouette_score(slow[s, t], y, metric="cosine") for s in states for t in taps], abs=1e-5
    )
    after = list(states)[1:]
    cka = [slow_cka(slow["pretrained", t], slow[s, t]) for s in after for t in taps]
    assert column(moves, "cka") == pytest.approx(cka, abs=1e-5)
    right = {key: float(np.mean(score.probe.predictions == y)) for key, score in scores.items()}
    assert column(layers, "probe") == pytest.approx([right[s, t] for s in states for t in taps])
    expected = [right[s, t] - right["pretrained", t] for s in after for t in taps]
    assert column(moves, "probe") == pytest.approx(expected)
    assert column(moves, "p_holm") == pytest.approx(holm(np.array(column(moves, "p_mcnemar"))))
    apart = dict(zip(slow, column(layers, "silhouette"), strict=True))
    expected = [apart[s, t] - apart["pretrained", t] for s in after for t in taps]
    assert column(moves, "silhouette") == pytest.approx(expected, abs=1e-5)
    intervals = zip(*(column(moves, f"silhouette{n}") for n in ("_low", "", "_high")), strict=True)
    for (state, tap), (low, value, high) in zip([(s, t) for s in after for t in taps], intervals, strict=True):
        each = [silhouette_samples(slow[s, tap], y, metric="cosine") for s in (state, "pretrained")]
        boot = paired_bootstrap(*each, seed=0)
        assert (low, value, high) == pytest.approx((boot.low, boot.difference, boot.high), abs=1e-4)
        assert (low < value < high) == ((state, tap) != (after[0], "stem"))  # whose stem the training left as it was
    for table, names in ((layers, ("probe_low", "probe", "probe_high")), (layers, ("knn_low", "knn", "knn_high"))):
        for low, value, high in zip(*(column(table, n) for n in names), strict=True):
            assert (low, high) == pytest.approx(wilson(round(value * len(y)), len(y)))


def test_what_was_learned_behind_the_first_layer_shows_there_and_only_there(found: FeatureChange) -> None:
    early, middle, late = tables(found)["difference"].records()[:3]
    assert [row["layer"] for row in (early, middle, late)] == ["early (stem)", "middle (body)", "late (head)"]
    assert early["cka"] == pytest.approx(1, abs=1e-6)
    assert early["probe"] == early["low"] == early["high"] == 0
    assert early["silhouette"] == pytest.approx(0, abs=1e-6)
    assert late["cka"] < 0.95
    assert late["probe"] > 0.30
    assert late["low"] > 0
    assert late["p_holm"] < 0.01
    assert late["silhouette_low"] > 0
    assert found.layers["pretrained", "head"].probe.value < 0.7
    assert found.layers["fine-tuned (full)", "head"].probe.value > 0.9


def test_the_classes_that_differ_in_blue_alone_stop_being_confused(found: FeatureChange) -> None:
    table = tables(found)["mistakes"]
    assert set(column(table, "networks")) == {"pretrained → fine-tuned (full)"}, "no mistakes against random weights"
    assert set(column(table, "judge")) == {"probe, late (head)"}
    fell = [r for r in table.records() if r["change"] < 0]
    assert fell
    assert all({r["class"], r["taken_for"]} in ({"dark", "blue"}, {"red", "violet"}) for r in fell)
    assert all(r["change"] == r["after"] - r["before"] for r in table.records())


def test_findings_say_where_it_moved_what_stayed_and_which_mistake_went(found: FeatureChange) -> None:
    where, random, last, silhouette, first, mistake = sentences(found)
    moves = tables(found)["difference"]
    cka = column(moves, "cka")
    most = column(moves, "layer")[int(np.argmin(cka[:3]))]
    assert f"moved the most at {most}: linear CKA {min(cka[:3]):.2f}" in where
    assert "least" in where
    assert random == f"Random weights have a CKA of {cka[3 + int(np.argmin(cka[:3]))]:.2f} there."
    assert last.startswith("At late (head) the linear probe goes from")
    assert "undecided" not in last
    assert "no clear change" not in silhouette
    assert "early (stem), stayed as it was: CKA 1.00, probe +0.0 points" in first
    assert mistake.startswith("Taking ")
    assert "probe, late (head)" in mistake
    metrics = {m.key for m in told(found).metrics}
    shown = {t.key for t in told(found).tables} | {f.key for f in told(found).figures}
    for finding in told(found).findings:
        assert len(finding.text.split()) <= 35
        assert set(finding.metrics) <= metrics
        assert set(finding.shows) <= shown


def test_maps_share_rows_columns_and_a_frame(found: FeatureChange, splits: Splits) -> None:
    (figure,) = [f for f in told(found).figures if isinstance(f, Maps)]
    panels = figure.panels
    assert [p.row for p in panels] == [s for s in ("pretrained", "fine-tuned (full)", "random") for _ in range(3)]
    for panel in panels:
        points = panel.points.astype(np.float64)
        assert points.shape == (len(splits.test), 2)
        np.testing.assert_allclose(points.mean(0), 0, atol=1e-5)
        assert np.sqrt((points**2).sum(1).mean()) == pytest.approx(1, abs=1e-5)
        trust = panel.trust
        assert 0 <= float(trust["neighbours_kept"] or 0) <= float(trust["trustworthiness"] or 0) <= 1
    assert len(figure.labels) == len(splits.test)
    # Nothing was learned in front of the first tap, so its maps are one and the same.
    np.testing.assert_allclose(panels[0].points, panels[3].points, atol=1e-4)
    # Of every column's maps none could be turned closer to the first.
    for first, other in ((panels[2], panels[5]), (panels[1], panels[7])):
        goal, points = (p.points.astype(np.float64) for p in (first, other))
        least = ((points - goal) ** 2).sum()
        for angle in np.linspace(0, 2 * np.pi, 361):
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            for flip in (-1.0, 1.0):
                assert ((points @ turn * [flip, 1.0] - goal) ** 2).sum() > least - 1e-3
    assert np.abs(panels[2].points - panels[5].points).max() > 0.1


def test_every_figure_is_drawn_and_carries_the_numbers_of_the_tables(found: FeatureChange) -> None:
    by_key: dict[str, Any] = {f.key: f for f in told(found).figures}
    assert list(by_key) == ["before-after-maps", "before-after-probe", "before-after-separability", "before-after-cka"]
    for figure in by_key.values():
        for form in ("png", "svg", "pdf"):
            assert to_bytes(draw(figure), form)  # type: ignore[arg-type]
    layers, moves = tables(found)["layers"], tables(found)["difference"]
    series = by_key["before-after-separability"].series
    assert [v for s in series for v in s.y] == column(layers, "silhouette")
    assert [s.x for s in series] == [(0.3, 0.7, 1.0)] * 3
    cka = by_key["before-after-cka"].series
    assert [s.name for s in cka] == [s.name for s in series], "one colour a network in all figures"
    assert [v for s in cka for v in s.y] == [1.0] * 3 + column(moves, "cka")
    assert [v for g in by_key["before-after-probe"].groups for v in g.values] == column(layers, "probe")
