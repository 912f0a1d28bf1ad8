"""Features before and after training, on a network whose training is planted: it learns to see blue behind its first layer."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import silhouette_samples, silhouette_score
from tests.features import tiny

from visus.errors import DataError, SpecError
from visus.figures import Maps
from visus.images import ImageSet, Splits
from visus.measures import holm, paired_bootstrap, wilson
from visus.models import Backbone
from visus.report.draw import draw, to_bytes
from visus.result import Section, Table
from visus.studies.common.section import section
from visus.studies.transfer import before_after
from visus.studies.transfer.before_after import measure as measuring
from visus.studies.transfer.before_after.measure import (
    BeforeAfterMeasures,
    FeatureChange,
    Known,
    map_taps,
    measure_change,
)
from visus.studies.transfer.evaluation import LayerScore
from visus.studies.transfer.inputs import LabelledImages
from visus.studies.transfer.options import FeatureOptions, ProbeOptions

CLASSES = ("dark", "blue", "red", "violet")  # red and blue off or on; without blue 0 is 1 and 2 is 3
EACH = 35


def network(*, blue: bool, seed: int = 0, random: bool = False) -> Backbone:
    """The tiny network with a stem of four channels for red and four for blue, and a body that has or lacks the latter."""
    made = tiny.backbone(seed)
    state = made.module.state_dict()
    if not random:
        stem = state["stem.0.weight"]
        stem.abs_()
        stem[:4, 1:] = 0
        stem[4:, :2] = 0
        state["stem.0.bias"].zero_()
        if not blue:
            state["body.0.weight"][:, 4:] = 0
    return replace(made, random=random)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    rng = np.random.default_rng(0)
    y = np.arange(4 * EACH) % 4
    files = []
    for label in y:
        shade = np.array([60 + 120 * (label >= 2), 90, 60 + 120 * (label % 2)]) + rng.normal(0, 12, 3)
        noisy = np.clip(shade + rng.normal(0, 20, (tiny.SIZE, tiny.SIZE, 3)), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "PNG")
        files.append(buffer.getvalue())
    ids = tuple(f"{i}.png" for i in range(len(y)))
    return ImageSet("shades", tiny.Pictures(tuple(files)), np.arange(len(y)), ids, labels=y, classes=CLASSES)


@pytest.fixture(scope="module")
def splits(images: ImageSet) -> Splits:
    return images.split(seed=0)


def run(
    images: ImageSet,
    splits: Splits,
    states: Mapping[str, Backbone],
    *,
    taps: tuple[str, ...] | None = None,
    maps: bool = False,
    known: Known | None = None,
    valid: tuple[np.ndarray, np.ndarray] | None = None,
    pool: str = "mean",
) -> FeatureChange:
    """valid: positions of the valid images, and their labels; default all."""
    indices, y = valid or (np.arange(len(images)), np.asarray(images.labels))
    features = FeatureOptions(taps, pool, engine="torch", device="cpu")
    data = LabelledImages(images, splits, indices, y)
    return measure_change(data, states, features, ProbeOptions(maps=maps), known or Known({}, {}))


def told(change: FeatureChange) -> Section:
    return section(before_after, BeforeAfterMeasures((change,)))


def tables(change: FeatureChange) -> dict[str, Table]:
    return {t.key.removeprefix("before-and-after").strip("-") or "layers": t for t in told(change).tables}


def sentences(change: FeatureChange) -> list[str]:
    return [f.text for f in told(change).findings if f.kind != "caution"]


@pytest.fixture(scope="module")
def states() -> dict[str, Backbone]:
    return {
        "pretrained": network(blue=False),
        "fine-tuned (full)": network(blue=True),
        "random": network(blue=True, seed=5, random=True),
    }


@pytest.fixture(scope="module")
def scores() -> dict[tuple[str, str], LayerScore]:
    """What was evaluated on the way to `found`."""
    return {}


@pytest.fixture(scope="module")
def found(
    images: ImageSet,
    splits: Splits,
    states: dict[str, Backbone],
    scores: dict[tuple[str, str], LayerScore],
    tmp_path_factory: pytest.TempPathFactory,
) -> FeatureChange:
    real = measuring.evaluate_layer

    def kept(x: np.ndarray, data: LabelledImages, layer: Any, options: ProbeOptions) -> LayerScore:
        scores[layer.model, layer.tap] = score = real(x, data, layer, options)
        return score

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(measuring, "evaluate_layer", kept)
        return run(images, splits, states, maps=True)


def column(table: Table, name: str) -> list[Any]:
    return list(table.column(name))


def slow_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, term by term."""

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        n = len(a)
        k, m = a @ a.T, b @ b.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        ones = np.ones(n)
        cross = ones @ k @ m @ ones
        return float((np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3)))

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


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


def test_of_several_models_every_name_holds_its_own(found: FeatureChange) -> None:
    both = section(before_after, BeforeAfterMeasures((found, replace(found, model="other"))))
    assert len({t.key for t in both.tables}) == len(both.tables) == 6
    assert len({f.key for f in both.figures}) == len(both.figures) == 8
    assert sum(f.text.startswith("other: ") for f in both.findings) == len(told(found).findings)


def test_the_same_weights_are_no_change(images: ImageSet, splits: Splits) -> None:
    same = run(images, splits, {"before": network(blue=True), "after": network(blue=True)})
    moves = tables(same)["difference"]
    assert column(moves, "cka") == pytest.approx([1, 1, 1], abs=1e-12)
    for name in ("probe", "low", "high", "silhouette", "silhouette_low", "silhouette_high"):
        assert column(moves, name) == [0, 0, 0]
    assert column(moves, "p_mcnemar") == [1, 1, 1]
    assert "mistakes" not in tables(same)
    assert "every layer" in sentences(same)[0]
    assert not any("Taking" in f for f in sentences(same))


def test_what_is_known_is_not_computed_again(
    found: FeatureChange,
    scores: dict[tuple[str, str], LayerScore],
    images: ImageSet,
    splits: Splits,
    states: dict[str, Backbone],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str]] = []
    real = measuring.evaluate_layer

    def counted(x: np.ndarray, data: LabelledImages, layer: Any, options: ProbeOptions) -> LayerScore:
        asked.append((layer.model, layer.tap))
        return real(x, data, layer, options)

    monkeypatch.setattr(measuring, "evaluate_layer", counted)
    known = {key: score for key, score in scores.items() if key != ("random", "body")}
    again = run(images, splits, states, known=Known(known, {}))
    assert asked == [("random", "body")]
    assert tables(again) == tables(found)
    assert sentences(again) == sentences(found)
    short = replace(splits, test=splits.test[:-1])
    with pytest.raises(DataError, match="use one split"):
        run(images, short, states, known=Known(known, {}))


def test_the_classifiers_own_answers_are_compared_and_spoken_of(
    found: FeatureChange,
    scores: dict[tuple[str, str], LayerScore],
    images: ImageSet,
    splits: Splits,
    states: dict[str, Backbone],
) -> None:
    y = images.labels[splits.test]  # type: ignore[index]
    early = np.where(y == 3, 0, y)
    late = np.where(y == 1, 2, y)
    early[np.flatnonzero(y == 2)[:2]] = late[np.flatnonzero(y == 2)[:2]] = 0  # a mistake that both make
    both = run(images, splits, states, known=Known(scores, {"head only": early, "full": late}))
    own = [row for row in tables(both)["mistakes"].rows if row[0] == "classifier"]
    n, m = int((y == 3).sum()), int((y == 1).sum())
    assert [row[1:8] for row in own] == [
        ("head only → full", "violet", "dark", n, 0, -n, n),
        ("head only → full", "blue", "red", 0, m, m, m),
    ]
    assert own[0][8] == pytest.approx(2 * 0.5**n)
    assert f"Taking violet for dark stopped: {n} of {n} test images with head only, 0 with full" in sentences(both)[-1]
    with pytest.raises(DataError, match="one classifier"):
        run(images, splits, states, known=Known({}, {"full": late}))


def test_weights_trained_in_place_are_not_mistaken_for_those_before(images: ImageSet, splits: Splits) -> None:
    trained = network(blue=False)
    assert trained.fingerprint == network(blue=False).fingerprint
    trained.module.load_state_dict(network(blue=True).module.state_dict())
    found = run(images, splits, {"before": network(blue=False), "after": trained}, taps=("late",))
    assert column(tables(found)["difference"], "cka")[0] < 0.95
    assert len(sentences(found)) == 4
    assert [f.kind for f in told(found).figures] == ["intervals"]


def test_a_network_of_other_taps_and_other_wrong_input_is_refused(images: ImageSet, splits: Splits) -> None:
    one = network(blue=True)
    renamed = replace(network(blue=True), taps=tuple(replace(t, name=t.name + "2") for t in one.taps))
    with pytest.raises(DataError, match="'other' has no tap stem, which 'one' has"):
        run(images, splits, {"one": one, "other": renamed})
    wider = replace(network(blue=True), taps=tuple(replace(t, shape=(*t.shape[:-1], 99)) for t in one.taps))
    with pytest.raises(DataError, match="compare one architecture"):
        run(images, splits, {"one": one, "other": wider})
    with pytest.raises(DataError, match="one network object"):
        run(images, splits, {"one": one, "other": replace(one, spec="b")})
    with pytest.raises(DataError, match="at least one after"):
        run(images, splits, {"one": one})
    with pytest.raises(SpecError, match="nowhere"):
        run(images, splits, {"one": one, "other": network(blue=False)}, taps=("nowhere",))
    with pytest.raises(DataError, match="label of every valid image"):
        run(
            images,
            splits,
            {"one": one, "other": network(blue=False)},
            valid=(np.arange(len(images)), np.zeros(3, np.int64)),
        )


def test_a_picture_that_cannot_be_decoded_may_not_be_among_those_kept(images: ImageSet, splits: Splits) -> None:
    files = list(images.source.files)  # type: ignore[attr-defined]
    files[7] = b"\x89PNG no picture"
    broken = replace(images, source=tiny.Pictures(tuple(files)))
    pair = {"a": network(blue=False), "b": network(blue=True)}
    with pytest.raises(DataError, match="1 of the images"):
        run(broken, splits, pair, taps=("late",))
    kept = np.delete(np.arange(len(images)), 7)
    where = np.cumsum(np.isin(np.arange(len(images)), kept)) - 1

    def move(rows: np.ndarray) -> np.ndarray:
        return where[rows[rows != 7]]

    moved = Splits(move(splits.train), tuple((move(a), move(b)) for a, b in splits.folds), move(splits.test))
    found = run(broken, moved, pair, taps=("late",), valid=(kept, np.asarray(images.labels)[kept]))
    assert found.layers["b", "head"].probe.value > 0.9


def test_a_dead_layer_has_no_cka_and_says_so(images: ImageSet, splits: Splits) -> None:
    dead = network(blue=True)
    with torch.no_grad():
        dead.module.get_submodule("head").weight.zero_()  # type: ignore[operator,union-attr]
    found = run(images, splits, {"alive": network(blue=True), "dead": dead}, taps=("late",))
    assert column(tables(found)["difference"], "cka") == [None]
    assert any("no value" in f.text for f in told(found).findings if f.kind == "caution")
    assert all("nan" not in f for f in sentences(found))


def test_flattened_layers_are_reduced_on_training_rows(
    images: ImageSet, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    real = measuring.evaluate_layer

    def seen(x: np.ndarray, data: LabelledImages, layer: Any, options: ProbeOptions) -> LayerScore:
        widths.append(x.shape[1])
        return real(x, data, layer, options)

    monkeypatch.setattr(measuring, "evaluate_layer", seen)
    run(images, splits, {"a": network(blue=False), "b": network(blue=True)}, taps=("body",), pool="flatten")
    assert widths == [min(12 * 16, 256, len(splits.train) - 1)] * 2


def test_many_layers_give_three_columns_of_maps() -> None:
    assert map_taps("abcd") == tuple("abcd")
    assert map_taps("abcdefg") == ("a", "d", "g")
