"""Which layer holds most, on scores made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.studies.told import check as told
from tests.studies.told import kinds
from tests.studies.transfer.layer_samples import answers, images, score

from visus.figures import Heatmap, Intervals
from visus.measures.cka import FEWEST
from visus.measures.compare import paired_bootstrap
from visus.measures.intervals import wilson
from visus.studies.common import comparisons
from visus.studies.transfer import layers
from visus.studies.transfer.layers import LayersMeasures


def vectors(data: Any, scores: Any) -> dict[tuple[str, str], np.ndarray]:
    rng = np.random.default_rng(0)
    return {(s.model, s.tap): rng.normal(size=(len(data.y), 6)).astype(np.float32) for s in scores}


def measured(*right: float, n_test: int = 60, **more: Any) -> LayersMeasures:
    """Layers of one model, by what each gets right."""
    data = images(n_test)
    scores = [score(data, f"t{i}", share, **more) for i, share in enumerate(right)]
    return layers.measure(data, scores, vectors(data, scores), seed=0)


def test_each_layer_is_told_once_with_wilsons_interval() -> None:
    found = told(layers, measured(0.5, 0.8))
    (accuracy,) = [t for t in found.tables if t.key == "accuracy"]
    rows = accuracy.records()
    assert [(r["layer"], r["method"]) for r in rows] == [
        ("t0 (blocks.t0)", "linear probe"), ("t0 (blocks.t0)", "kNN"), ("t1 (blocks.t1)", "linear probe"), ("t1 (blocks.t1)", "kNN"),
    ]  # fmt: skip
    assert (rows[2]["accuracy"], rows[2]["low"], rows[2]["high"], rows[2]["n"]) == (0.8, *wilson(48, 60), 60)
    assert rows[3]["nll"] is None
    assert rows[2]["chosen"] == "λ 1.0e-02"
    assert rows[3]["chosen"] == "k 5"


def test_the_best_is_what_validation_prefers_whatever_test_says() -> None:
    data = images()
    scores = [score(data, "a", 0.9, validation=0.2), score(data, "b", 0.6, validation=0.7)]
    m = layers.measure(data, scores, vectors(data, scores), seed=0)
    assert m.chosen.layer.startswith("b")
    assert "60.0 % of 60 test images" in layers.answer(m)
    found = told(layers, m)
    assert "validation prefers b (blocks.b) to a (blocks.a); on test it leads by -30.0 points" in found.findings[1].text


def test_neighbouring_layers_are_compared_as_the_bootstrap_compares_them() -> None:
    data = images()
    early, late = answers(data, 0.5) == data.test_y, answers(data, 0.8) == data.test_y
    boot = paired_bootstrap(late, early, seed=0)
    (pair,) = [t for t in told(layers, measured(0.5, 0.8)).tables if t.key == "layers-compared"]
    (row,) = pair.records()
    assert (row["difference"], row["low"], row["high"]) == (boot.difference, boot.low, boot.high)
    assert (row["only_a"], row["only_b"]) == (18, 0)


@pytest.mark.parametrize("right", [(0.5, 0.8), (0.8, 0.5), (0.5, 0.8, 0.6)])
def test_no_pair_is_resampled_twice_even_where_it_is_told_the_other_way_round(
    right: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    real = comparisons.paired_bootstrap

    def counted(a: np.ndarray, b: np.ndarray, **more: Any) -> Any:
        asked.append(np.sort(np.stack([a, b]), axis=0).tobytes())
        return real(a, b, **more)

    monkeypatch.setattr(comparisons, "paired_bootstrap", counted)
    m = measured(*right)
    assert len(asked) == len(set(asked)) == len(right) - 1
    best, second = m.next_best[0].comparison.a, m.next_best[0].comparison.b
    assert m.chosen.layer in best
    assert second != best


def test_undecided_is_said_and_marked() -> None:
    found = told(layers, measured(0.5, 0.5))
    assert any("undecided" in text for text in kinds(found)["undecided"])
    found = told(layers, measured(0.2, 0.9))
    assert not kinds(found)["undecided"]


def test_several_models_stand_side_by_side_and_are_compared_at_their_best_layers() -> None:
    data = images()
    scores = [
        score(data, tap, share, model=model)
        for model, shares in (("timm:a", (0.4, 0.9)), ("timm:b", (0.3, 0.5)))
        for tap, share in zip(("early", "late"), shares, strict=True)
    ]
    m = layers.measure(data, scores, vectors(data, scores), seed=0)
    found = told(layers, m)
    (pair,) = [t for t in found.tables if t.key == "models-compared"]
    assert pair.column("a") == ("timm:a · late (blocks.late)",)
    assert pair.column("difference")[0] == pytest.approx(0.4)
    assert any(
        "timm:a · late (blocks.late) beats timm:b · late (blocks.late): +40.0 points" in f.text for f in found.findings
    )
    accuracy = next(f for f in found.figures if isinstance(f, Intervals))
    assert len(accuracy.groups) == 2 * 3
    assert accuracy.groups[0].name == "timm:a · probe"
    keys = [metric.key for metric in found.metrics]
    assert "timm:a/late/probe/accuracy" in keys
    assert len(keys) == len(set(keys))


def test_a_worse_model_first_is_said_the_right_way_round() -> None:
    data = images()
    scores = [score(data, "late", 0.3, model="timm:a"), score(data, "late", 0.9, model="timm:b")]
    found = told(layers, layers.measure(data, scores, vectors(data, scores), seed=0))
    said = next(f.text for f in found.findings if "beats" in f.text)
    assert said.startswith("timm:b · late (blocks.late) beats timm:a · late (blocks.late): +60.0 points")
    low, high = (float(part) for part in said.rstrip(".").split("interval ")[1].split(" to "))
    assert 0 < low < 60 < high


def test_figures_hold_fractions_and_the_whole_path() -> None:
    found = told(layers, measured(0.5, 0.8))
    accuracy, cka, path = found.figures
    assert isinstance(accuracy, Intervals)
    assert accuracy.unit == "share"
    assert accuracy.groups[0].values == (0.5, 0.8)
    assert accuracy.reference[0].value == pytest.approx(1 / 3)
    assert isinstance(cka, Heatmap)
    assert cka.values[0][0] == pytest.approx(1)
    assert path.series[0].x == (1e-3, 1e-2)  # type: ignore[union-attr]
    assert path.series[0].y == (0.4, 0.6)  # type: ignore[union-attr]


def test_without_random_weights_there_is_no_such_group() -> None:
    (accuracy, *_) = told(layers, measured(0.5, 0.8, random=None)).figures
    assert [g.name for g in accuracy.groups] == ["probe", "kNN"]  # type: ignore[union-attr]


def test_one_layer_alone_is_compared_with_nothing() -> None:
    m = measured(0.7)
    found = told(layers, m)
    assert {t.key for t in found.tables} == {"accuracy", "geometry", "knn"}
    assert m.cka is None
    assert not kinds(found)["caution"]


def test_too_few_test_images_for_cka_are_a_caution() -> None:
    found = told(layers, measured(0.5, 1.0, n_test=3))
    assert "CKA, which needs 4 test images; there are 3" in " ".join(kinds(found)["caution"])
    assert any(text.startswith("No silhouette") for text in kinds(found)["caution"])


def test_a_penalty_at_the_edge_is_a_caution_of_its_layer() -> None:
    data = images()
    scores = [score(data, "early", 0.5), score(data, "late", 0.8, at_edge=True)]
    found = told(layers, layers.measure(data, scores, vectors(data, scores), seed=0))
    (said,) = kinds(found)["caution"]
    assert said.startswith("timm:net, late (blocks.late): validation chose the λ at the edge of the path (1.0e-02)")


def test_the_gain_of_fitting_is_said_beside_the_neighbours() -> None:
    found = told(layers, measured(0.8, knn=0.65))
    assert found.findings[-1].text == (
        "Without any training, the 5 nearest neighbours in the same features give 65.0 %; fitting a probe changes that by +15.0 points."
    )


def slow_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, from whole Gram matrices."""

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        n, one = len(a), np.ones(len(a))
        g, h = ((v := m.astype(float) @ m.T.astype(float)) - np.diag(np.diag(v)) for m in (a, b))
        middle = (one @ g @ one) * (one @ h @ one) / ((n - 1) * (n - 2))
        return float((np.trace(g @ h) + middle - 2 / (n - 2) * (one @ g @ h @ one)) / (n * (n - 3)))

    return hsic(x, y) / float(np.sqrt(hsic(x, x) * hsic(y, y)))


def test_cka_is_that_of_the_test_images_alone() -> None:
    data = images()
    scores = [score(data, tap, 0.5) for tap in ("a", "b", "c")]
    x = vectors(data, scores)
    x["timm:net", "b"] += x["timm:net", "a"]  # something in common
    m = layers.measure(data, scores, x, seed=0)
    assert m.cka is not None
    for i, a in enumerate(scores):
        for j, b in enumerate(scores):
            slow = slow_cka(*(x[s.model, s.tap][data.splits.test] for s in (a, b)))
            assert m.cka[i][j] == pytest.approx(slow, abs=1e-6)
    assert m.cka[0][1] > 0.3


@pytest.mark.parametrize("n_test", [FEWEST - 1, FEWEST])
def test_cka_begins_at_its_fewest_images(n_test: int) -> None:
    assert (measured(0.5, 1.0, n_test=n_test).cka is None) == (n_test < FEWEST)


def test_majority_is_of_the_class_that_training_holds_most_of_not_the_test() -> None:
    data = images()
    data.y[:40] = 2  # training holds most cats
    data.y[60:100] = 0  # and the test most ants
    m = layers.measure(data, [s := score(data, "late", 0.5)], vectors(data, [s]), seed=0)
    assert m.majority == sum(label == 2 for label in data.test_y) / 60
    assert m.majority < 1 / 3


def test_the_next_best_is_the_neighbours_comparison_turned_round() -> None:
    m = measured(0.8, 0.5)
    (pair,), (best,) = m.layers, m.next_best
    assert (best.best, best.second) == ("t0 (blocks.t0)", "t1 (blocks.t1)")
    assert (pair.difference, pair.only_a, pair.only_b) == (pytest.approx(-0.3), 0, 18)
    c = best.comparison
    assert (c.difference, c.low, c.high) == (-pair.difference, -pair.high, -pair.low)
    assert (c.a, c.b, c.only_a, c.only_b) == (pair.b, pair.a, 18, 0)


def test_a_next_best_that_is_no_neighbour_is_compared_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = comparisons.paired_bootstrap
    monkeypatch.setattr(comparisons, "paired_bootstrap", lambda a, b, **more: calls.append(1) or real(a, b, **more))
    m = measured(0.8, 0.3, 0.6)
    assert len(calls) == 3
    assert (m.next_best[0].best[:2], m.next_best[0].second[:2]) == ("t0", "t2")
    assert m.next_best[0].comparison.difference == pytest.approx(0.2)
