"""What the masking section tells of hand-made measures, and what is measured of curves, each area once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from tests.studies.vit import sample

from visus.measures.compare import holm, mcnemar, paired_bootstrap
from visus.measures.masking import area_each, area_intervals, halving
from visus.studies.common.section import section
from visus.studies.vit import masking
from visus.studies.vit.masking.curves import FAITHFUL, Blanking, Curve, Curves
from visus.studies.vit.options import MaskingOptions

measure = import_module("visus.studies.vit.masking.measure")  # its name in the package is the function
RATIOS, N = (1.0, 0.5, 0.1), 24
OPTIONS = MaskingOptions(("random", "most-attended", "least-attended"), RATIOS, "mean", N)


def curve(model: str, how: str, pattern: str, *, seed: int, right: bool = True, asked: int = N) -> Curve:
    rng = np.random.default_rng(seed)
    answers = rng.integers(0, 2, (3, N))
    some = np.arange(N) < asked
    hits = rng.random((3, asked)) < np.array([[0.9], [0.6], [0.3]])
    return Curve(model, how, pattern, RATIOS, answers, rng.random((3, N)), hits if right else None, some)  # type: ignore[arg-type]


def curves(*, asked: int = N, network_right: bool = True) -> Curves:
    """A transformer, tokens dropped and pixels blanked, and a network; of the latter `asked` images can be right."""
    patterns = [curve("a", "drop", p, seed=k) for k, p in enumerate(OPTIONS.patterns)]
    blanked = [curve("a", "blank", p, seed=10 + k) for k, p in enumerate(OPTIONS.patterns)]
    network = [
        curve("cnn", "blank", p, seed=20 + k, right=network_right, asked=asked if network_right else N)
        for k, p in enumerate(OPTIONS.patterns)
    ]
    faithful = {("a", name, way): curve("a", "drop", f"{name}, {way}", seed=30 + k)
                for k, name in enumerate(FAITHFUL) for way in ("deletion", "insertion")}  # fmt: skip
    faithful["a", "random", "insertion"] = faithful["a", "random", "deletion"] = patterns[0]
    orders = {p: np.tile(np.arange(4), (N, 1)) for p in OPTIONS.patterns}
    raw = np.full((N, 4, 4, 3), 200, np.uint8)
    paint = np.zeros((1, 1, 1, 3), np.uint8)
    return Curves(N, Blanking("a", (2, 2), orders, raw, paint), (*patterns, *blanked, *network), faithful)


def test_a_curve_is_measured_as_the_measures_do() -> None:
    found = curves()
    m = measure.masking_measures(found, "one.png", OPTIONS, 3)
    first, c = m.curves[0], found.patterns[0]
    assert (first.area.value, first.area.low, first.area.high) == area_intervals(RATIOS, c.hits, seed=3)
    assert first.hits.values == tuple(c.hits.mean(axis=1))
    assert first.halved == halving(RATIOS, c.hits.mean(axis=1))
    assert first.agreement.values[0] == 1
    assert (first.counted, first.n) == ("accuracy", N)


def test_areas_and_bootstraps_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: dict[str, int] = {}

    def counting(name: str) -> Callable:
        honest = getattr(measure, name)

        def call(*args, **kwargs):
            counted[name] = counted.get(name, 0) + 1
            return honest(*args, **kwargs)

        return call

    for name in ("area_each", "bootstrap_mean", "paired_bootstrap"):
        monkeypatch.setattr(measure, name, counting(name))
    m = measure.masking_measures(curves(), "one.png", OPTIONS, 0)
    section(masking, m)
    # Nine curves; three maps by two ways and the random order's one curve, of the probabilities.
    assert counted == {"area_each": 9 + 7, "bootstrap_mean": 9 + 7, "paired_bootstrap": 3 + 1 + 3 + 2}


def test_two_models_are_compared_on_the_images_that_both_can_name() -> None:
    found = curves(asked=10)
    m = measure.masking_measures(found, "one.png", OPTIONS, 0)
    a, b = found.patterns[3], found.patterns[6]
    expected = paired_bootstrap(area_each(RATIOS, a.right[:, :10]), area_each(RATIOS, b.right), seed=0)
    assert m.pairs[0].counted == "accuracy"
    assert m.pairs[0].area.n == 10
    assert m.pairs[0].area.difference == pytest.approx(expected.difference)
    assert m.pairs[0].p == mcnemar(a.right[1, :10], b.right[1]).p_value
    assert [c.p_holm for c in m.pairs] == list(holm(np.array([c.p for c in m.pairs])))


def test_beside_a_model_that_cannot_be_right_agreement_is_compared() -> None:
    found = curves(network_right=False)
    m = measure.masking_measures(found, "one.png", OPTIONS, 0)
    a, b = found.patterns[3], found.patterns[6]
    expected = paired_bootstrap(area_each(RATIOS, a.agreement), area_each(RATIOS, b.agreement), seed=0)
    assert (m.pairs[0].counted, m.pairs[0].area) == ("agreement", expected)
    assert m.pairs[0].at == 0.5


def test_attended_patches_are_compared_where_both_patterns_were_asked_for() -> None:
    found = curves()
    (attended,) = measure.masking_measures(found, "one.png", OPTIONS, 0).attended
    most, least = (area_each(RATIOS, found.patterns[k].hits) for k in (1, 2))
    assert attended.apart == paired_bootstrap(least, most, seed=0)
    assert attended.most == most.mean()
    without = replace(found, patterns=found.patterns[:2])
    assert measure.masking_measures(without, "one.png", OPTIONS, 0).attended == ()


def test_a_map_stands_above_the_random_order_by_its_own_gap() -> None:
    found = curves()
    (model,) = measure.masking_measures(found, "one.png", OPTIONS, 0).faithful
    down, up = (area_each(RATIOS, found.faithful["a", "rollout", way].chosen) for way in ("deletion", "insertion"))
    rollout = next(f for f in model.maps if f.map == "rollout")
    assert rollout.above_random == paired_bootstrap(up - down, np.zeros(N), seed=0)
    assert (rollout.deletion.value, rollout.insertion.value) == (down.mean(), up.mean())
    assert next(f for f in model.maps if f.map == "random").above_random is None


@pytest.mark.parametrize("lead", [0.3, 0.0])
def test_the_most_faithful_map_is_chosen_on_half_of_the_images_and_judged_on_the_others(lead: float) -> None:
    rng = np.random.default_rng(0)
    gaps = {name: 0.1 * (name != "random") + 0.02 * rng.standard_normal(80) for name in FAITHFUL}
    # Ahead by far on the images that choose; on the others by as much as is planted.
    gaps["rollout"][::2] += 0.3
    gaps["rollout"][1::2] += lead
    choice = measure.choose_map(gaps, 0)
    assert choice is not None
    assert choice.best == "rollout"
    assert choice.chance.clear
    assert choice.ahead.clear == (lead > 0)
    m = replace(sample.masking(), faithful=(sample.faithfulness("a", choice),))
    first, chance, ahead = (f for f in masking.findings(m) if "faithfulness" in f.shows)
    assert first.text.startswith("Half of the images rank rollout first")
    assert chance.text.endswith("above a random order.")
    assert ahead.text.endswith("the next.") == (lead > 0)
    assert ahead.kind == ("result" if lead > 0 else "undecided")


def test_one_image_chooses_no_map() -> None:
    assert measure.choose_map({name: np.zeros(1) for name in FAITHFUL}, 0) is None
    said = masking.findings(replace(sample.masking(), faithful=(sample.faithfulness("a", None),)))
    assert any("cannot be told from one image" in f.text and f.kind == "undecided" for f in said)


def test_the_strip_shows_the_first_image_by_every_pattern() -> None:
    strip = measure.masking_measures(curves(), "one.png", OPTIONS, 0).strip
    assert list(strip.images) == [(p, r) for p in OPTIONS.patterns for r in (1.0, 0.7, 0.4)]
    assert (strip.images["random", 1.0] == 200).all()
    assert (strip.images["random", 0.4] == 200).mean() == 0.5
    gallery = masking.figures(sample.masking())[-1]
    assert list(gallery.captions) == ["100 % kept", "70 % kept", "40 % kept"]
    assert "painted with the mean colour" in gallery.caption
    assert gallery.images.shape == (3, 128, 64, 3)


def test_a_curve_counts_agreement_where_no_answer_can_be_right() -> None:
    own = curve("a", "drop", "random", seed=0, right=False)
    assert own.counted == "agreement"
    assert (own.hits[0]).all()


def test_numbers_of_tables_stand_among_the_metrics() -> None:
    found = section(masking, sample.masking())
    metrics = {m.key: m for m in found.metrics}
    for row in found.tables[0].records():
        key = "/".join((row["model"], row["masked_by"].replace(" ", "-"), row["pattern"], row["counted"]))
        assert (metrics[f"{key}/area"].value, metrics[f"{key}/area"].low) == (row["area"], row["low"])
        assert metrics[f"{key}/halved"].value == row["halved"]
        assert metrics[f"{key}/least"].value == row["least"]
    assert found.metrics[0].key == "a/tokens-dropped/random/accuracy/area"
    assert metrics["a/rollout/above-random"].value == 0.2
    assert metrics["pixels-blanked/random/agreement/a/minus/cnn"].value == -0.1


def test_the_least_share_kept_stands_in_the_columns() -> None:
    columns = {c.key: c.heading for c in masking.tables(sample.masking())[0].columns}
    assert columns["least"] == "at 10 %, %"
    assert columns["agreement_least"] == "agreement at 10 %, %"


def test_faithfulness_and_pairs_are_shares_and_points() -> None:
    _, pairs, faithful = masking.tables(sample.masking())
    assert pairs.records()[0]["p_holm"] == 0.02
    assert "with 50 % kept" in pairs.note
    row = faithful.records()[1]
    assert (row["map"], row["above_random"]) == ("rollout", 0.2)
    assert row["gap"] == pytest.approx(0.2)
    assert faithful.records()[-1]["above_random"] is None
    assert [c.unit for c in faithful.columns[2:]] == ["share"] * 6 + ["points"] * 4


def test_a_model_alone_has_no_pairs_and_one_whose_tokens_stay_no_faithfulness() -> None:
    m = replace(sample.masking(), pairs=(), faithful=())
    assert [t.key for t in masking.tables(m)] == ["masking"]
    assert not any("more often than" in f.text for f in masking.findings(m))


def test_each_way_of_counting_has_a_figure_of_its_own() -> None:
    found = [f for f in masking.figures(sample.masking()) if f.key.startswith("masking_")]
    assert [f.key for f in found] == [
        "masking_accuracy_0", "masking_agreement_1", "masking_accuracy_2", "masking_agreement_3", "masking_agreement_4",
    ]  # fmt: skip
    assert [s.name for s in found[0].series] == ["block", "random"]
    assert found[0].series[0].y == (0.8, 0.6, 0.5)
    assert found[1].series[0].y == (1.0, 0.7, 0.6)
    assert {f.unit for f in found} == {"share"}
    assert "by the patches and the attention of a" in found[2].caption


def test_findings_tell_the_random_pattern_of_each_model_and_point_at_its_figure() -> None:
    found = section(masking, sample.masking())
    texts = [f.text for f in found.findings]
    assert texts[0] == "a is right on 80.0 % of 20 pictures with all patches."
    assert (
        texts[1] == "With patches gone at random (tokens dropped) a still has 50.0 % with 10 % of them, more than half."
    )
    assert "With patches gone at random (pixels blanked) cnn falls to half of that with 64 % of them." in texts
    assert "cnn gives the same answer for 80.0 % of 20 pictures with all patches." in texts
    there = {*(t.key for t in found.tables), *(f.key for f in found.figures)}
    assert all(set(f.shows) <= there for f in found.findings)
    assert all(set(f.metrics) <= {m.key for m in found.metrics} for f in found.findings)


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict", "kind"),
    [
        (0.2, 0.1, 0.3, "attention points at what it needs", "result"),
        (-0.2, -0.3, -0.1, "it needs what it attends to least", "result"),
        (0.1, -0.1, 0.3, "it may be chance", "undecided"),
    ],
)
def test_what_attention_points_at_is_told_with_its_doubt(
    value: float, low: float, high: float, verdict: str, kind: str
) -> None:
    m = sample.masking()
    attended = replace(m.attended[0], apart=sample.difference(value, low, high))
    (said,) = [f for f in masking.findings(replace(m, attended=(attended,))) if "are apart by" in f.text]
    assert said.text.endswith(f"{verdict}.")
    assert said.kind == kind


def test_the_model_that_keeps_more_is_named_first_with_a_positive_difference() -> None:
    (said,) = [f.text for f in masking.findings(sample.masking()) if "more often than" in f.text]
    assert "cnn keeps its answer more often than a, by 10.0 points (95 % interval 5.0 to 20.0, paired)" in said


def test_flat_maps_and_tokens_that_stay_are_cautions() -> None:
    m = replace(sample.masking(), patterns=("random", "most-attended"))
    flat, refused = [f.text for f in masking.findings(m) if f.kind == "caution"]
    assert "the same for every patch of 2 of 20 pictures: there its curves and the patterns ordered by it" in flat
    assert refused.startswith("No tokens are dropped")
    plain = [f.text for f in masking.findings(sample.masking()) if f.kind == "caution"]
    assert "patterns ordered by it" not in plain[0]
