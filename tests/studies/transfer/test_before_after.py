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
from visus.images import ImageSet, Splits
from visus.measures import holm, paired_bootstrap, wilson
from visus.models import Backbone
from visus.report.draw import draw, to_bytes
from visus.studies.common.schema1 import Table
from visus.studies.common.upgrade import upgraded_figure
from visus.studies.transfer.before_after.measure import BeforeAfter, before_after

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


def run(images: ImageSet, splits: Splits, states: Mapping[str, Backbone], **more: Any) -> BeforeAfter:
    settings: dict[str, Any] = {"engine": "torch", "maps": False, "kept": np.arange(len(images)), "y": images.labels}
    return before_after(images, states, splits=splits, **(settings | more))


@pytest.fixture(scope="module")
def states() -> dict[str, Backbone]:
    return {
        "pretrained": network(blue=False),
        "fine-tuned (full)": network(blue=True),
        "random": network(blue=True, seed=5, random=True),
    }


@pytest.fixture(scope="module")
def found(
    images: ImageSet, splits: Splits, states: dict[str, Backbone], tmp_path_factory: pytest.TempPathFactory
) -> BeforeAfter:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUS_HOME", str(tmp_path_factory.mktemp("home")))
        return run(images, splits, states, maps=True)


def column(table: Table, name: str) -> list[Any]:
    return [row[table.columns.index(name)] for row in table.rows]


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
    found: BeforeAfter, images: ImageSet, splits: Splits, states: dict[str, Backbone]
) -> None:
    y = images.labels[splits.test]  # type: ignore[index]
    taps = ["stem", "body", "head"]
    test = images.subset(splits.test)
    slow = {(s, t): tiny.reference(test, states[s], t).astype(np.float64) for s in states for t in taps}
    layers, moves = found.tables["before and after"], found.tables["before and after, difference"]
    assert column(layers, "silhouette") == pytest.approx(
        [silhouette_score(slow[s, t], y, metric="cosine") for s in states for t in taps], abs=1e-5
    )
    after = list(states)[1:]
    cka = [slow_cka(slow["pretrained", t], slow[s, t]) for s in after for t in taps]
    assert column(moves, "CKA") == pytest.approx(cka, abs=1e-5)
    right = {key: float(np.mean(score.probe.predictions == y)) for key, score in found.scores.items()}
    assert column(layers, "probe") == pytest.approx([right[s, t] for s in states for t in taps])
    expected = [100 * (right[s, t] - right["pretrained", t]) for s in after for t in taps]
    assert column(moves, "probe, points") == pytest.approx(expected)
    assert column(moves, "Holm p") == pytest.approx(holm(np.array(column(moves, "McNemar p"))))
    apart = dict(zip(slow, column(layers, "silhouette"), strict=True))
    expected = [apart[s, t] - apart["pretrained", t] for s in after for t in taps]
    assert column(moves, "silhouette change") == pytest.approx(expected, abs=1e-5)
    intervals = zip(*(column(moves, f"silhouette {n}") for n in ("low", "change", "high")), strict=True)
    for (state, tap), (low, value, high) in zip([(s, t) for s in after for t in taps], intervals, strict=True):
        each = [silhouette_samples(slow[s, tap], y, metric="cosine") for s in (state, "pretrained")]
        boot = paired_bootstrap(*each, seed=0)
        assert (low, value, high) == pytest.approx((boot.low, boot.difference, boot.high), abs=1e-4)
        assert (low < value < high) == ((state, tap) != (after[0], "stem"))  # whose stem the training left as it was
    for table, names in ((layers, ("probe low", "probe", "probe high")), (layers, ("kNN low", "kNN", "kNN high"))):
        for low, value, high in zip(*(column(table, n) for n in names), strict=True):
            assert (low, high) == pytest.approx(wilson(round(value * len(y)), len(y)))


def test_what_was_learned_behind_the_first_layer_shows_there_and_only_there(found: BeforeAfter) -> None:
    moves = found.tables["before and after, difference"]
    early, middle, late = moves.rows[:3]
    at = moves.columns.index
    assert [row[at("layer")] for row in (early, middle, late)] == ["early (stem)", "middle (body)", "late (head)"]
    assert early[at("CKA")] == pytest.approx(1, abs=1e-6)
    assert early[at("probe, points")] == early[at("low")] == early[at("high")] == 0
    assert early[at("silhouette change")] == pytest.approx(0, abs=1e-6)
    assert late[at("CKA")] < 0.95
    assert late[at("probe, points")] > 30
    assert late[at("low")] > 0
    assert late[at("Holm p")] < 0.01
    assert late[at("silhouette low")] > 0
    assert found.scores["pretrained", "head"].probe.top1 < 0.7
    assert found.scores["fine-tuned (full)", "head"].probe.top1 > 0.9


def test_the_classes_that_differ_in_blue_alone_stop_being_confused(found: BeforeAfter) -> None:
    table = found.tables["before and after, mistakes"]
    assert set(column(table, "networks")) == {"pretrained → fine-tuned (full)"}, "no mistakes against random weights"
    assert set(column(table, "judged by")) == {"probe, late (head)"}
    fell = [r for r in table.rows if r[table.columns.index("change")] < 0]
    assert fell
    pairs = [{r[table.columns.index("class")], r[table.columns.index("taken for")]} for r in fell]
    assert all(pair in ({"dark", "blue"}, {"red", "violet"}) for pair in pairs)
    assert column(table, "change") == [
        a - b for a, b in zip(column(table, "after"), column(table, "before"), strict=True)
    ]


def test_findings_say_where_it_moved_what_stayed_and_which_mistake_went(found: BeforeAfter) -> None:
    where, last, first, mistake = found.findings
    moves = found.tables["before and after, difference"]
    cka = column(moves, "CKA")
    most = column(moves, "layer")[int(np.argmin(cka[:3]))]
    assert f"moved the most at {most}: linear CKA {min(cka[:3]):.2f}" in where
    assert "least" in where
    assert f"random weights have {cka[3 + int(np.argmin(cka[:3]))]:.2f} there" in where
    assert last.startswith("At late (head) the linear probe goes from")
    assert "chance" not in last
    assert "early (stem), stayed as it was: CKA 1.00, probe +0.0 points" in first
    assert mistake.startswith("Taking ")
    assert "probe, late (head)" in mistake


def test_maps_share_rows_columns_and_a_frame(found: BeforeAfter, splits: Splits) -> None:
    figure = next(f for f in found.figures if f.kind == "maps")
    panels = figure.data["panels"]
    assert [p["row"] for p in panels] == [s for s in ("pretrained", "fine-tuned (full)", "random") for _ in range(3)]
    for panel in panels:
        points = found.arrays[panel["points"]].astype(np.float64)
        assert points.shape == (len(splits.test), 2)
        np.testing.assert_allclose(points.mean(0), 0, atol=1e-5)
        assert np.sqrt((points**2).sum(1).mean()) == pytest.approx(1, abs=1e-5)
        assert 0 <= panel["trust"]["neighbours_kept"] <= panel["trust"]["trustworthiness"] <= 1
    assert len(found.arrays[figure.data["labels"]]) == len(splits.test)
    # Nothing was learned in front of the first tap, so its maps are one and the same.
    np.testing.assert_allclose(found.arrays[panels[0]["points"]], found.arrays[panels[3]["points"]], atol=1e-4)
    # Of every column's maps none could be turned closer to the first.
    for first, other in ((panels[2], panels[5]), (panels[1], panels[7])):
        goal, points = (found.arrays[p["points"]].astype(np.float64) for p in (first, other))
        least = ((points - goal) ** 2).sum()
        for angle in np.linspace(0, 2 * np.pi, 361):
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            for flip in (-1.0, 1.0):
                assert ((points @ turn * [flip, 1.0] - goal) ** 2).sum() > least - 1e-3
    assert np.abs(found.arrays[panels[2]["points"]] - found.arrays[panels[5]["points"]]).max() > 0.1


def test_every_figure_is_drawn_and_carries_the_numbers_of_the_tables(found: BeforeAfter) -> None:
    by_name = {f.name: f for f in found.figures}
    assert list(by_name) == [
        "before-after-maps",
        "before-after-probe",
        "before-after-separability",
        "before-after-cka",
    ]
    for figure in found.figures:
        for form in ("png", "svg", "pdf"):
            assert to_bytes(draw(upgraded_figure(figure, found.arrays)), form)  # type: ignore[arg-type]
    layers, moves = found.tables["before and after"], found.tables["before and after, difference"]
    series = by_name["before-after-separability"].data["series"]
    assert [v for s in series for v in s["y"]] == column(layers, "silhouette")
    assert [s["x"] for s in series] == [[0.3, 0.7, 1.0]] * 3
    cka = by_name["before-after-cka"].data["series"]
    assert [s["name"] for s in cka] == [s["name"] for s in series], "one colour a network in all figures"
    assert [v for s in cka for v in s["y"]] == [1.0] * 3 + column(moves, "CKA")
    groups = by_name["before-after-probe"].data["groups"]
    assert [v for g in groups for v in g["values"]] == pytest.approx([100 * v for v in column(layers, "probe")])


def test_the_same_weights_are_no_change(images: ImageSet, splits: Splits) -> None:
    same = run(images, splits, {"before": network(blue=True), "after": network(blue=True)})
    moves = same.tables["before and after, difference"]
    assert column(moves, "CKA") == pytest.approx([1, 1, 1], abs=1e-12)
    for name in ("probe, points", "low", "high", "silhouette change", "silhouette low", "silhouette high"):
        assert column(moves, name) == [0, 0, 0]
    assert column(moves, "McNemar p") == [1, 1, 1]
    assert "before and after, mistakes" not in same.tables
    assert "every layer" in same.findings[0]
    assert not any("Taking" in f for f in same.findings)


def test_what_is_known_is_not_computed_again(
    found: BeforeAfter,
    images: ImageSet,
    splits: Splits,
    states: dict[str, Backbone],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from visus.studies.transfer.layers import scores as layers

    asked: list[tuple[str, str]] = []
    real = layers.score_layer

    def counted(*args: Any, **more: Any) -> Any:
        asked.append((more["model"], more["tap"]))
        return real(*args, **more)

    monkeypatch.setattr(layers, "score_layer", counted)
    known = {key: score for key, score in found.scores.items() if key != ("random", "body")}
    again = run(images, splits, states, known=known)
    assert asked == [("random", "body")]
    assert again.tables == found.tables
    assert again.findings == found.findings
    short = replace(splits, test=splits.test[:-1])
    with pytest.raises(DataError, match="use one split"):
        run(images, short, states, known=known)


def test_the_classifiers_own_answers_are_compared_and_spoken_of(
    found: BeforeAfter, images: ImageSet, splits: Splits, states: dict[str, Backbone]
) -> None:
    y = images.labels[splits.test]  # type: ignore[index]
    early = np.where(y == 3, 0, y)
    late = np.where(y == 1, 2, y)
    early[np.flatnonzero(y == 2)[:2]] = late[np.flatnonzero(y == 2)[:2]] = 0  # a mistake that both make
    both = run(images, splits, states, known=found.scores, test_predictions={"head only": early, "full": late})
    table = both.tables["before and after, mistakes"]
    own = [row for row in table.rows if row[0] == "classifier"]
    n, m = int((y == 3).sum()), int((y == 1).sum())
    assert [row[1:8] for row in own] == [
        ("head only → full", "violet", "dark", n, 0, -n, n),
        ("head only → full", "blue", "red", 0, m, m, m),
    ]
    assert own[0][8] == pytest.approx(2 * 0.5**n)
    assert f"Taking violet for dark stopped: {n} of {n} test images with head only, 0 with full" in both.findings[-1]
    with pytest.raises(DataError, match="one classifier"):
        run(images, splits, states, test_predictions={"full": late})


def test_weights_trained_in_place_are_not_mistaken_for_those_before(images: ImageSet, splits: Splits) -> None:
    trained = network(blue=False)
    assert trained.fingerprint == network(blue=False).fingerprint
    trained.module.load_state_dict(network(blue=True).module.state_dict())
    found = run(images, splits, {"before": network(blue=False), "after": trained}, taps=["late"])
    assert column(found.tables["before and after, difference"], "CKA")[0] < 0.95
    assert len(found.findings) == 3
    assert [f.kind for f in found.figures] == ["intervals"]


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
        run(images, splits, {"one": one, "other": network(blue=False)}, taps=["nowhere"])
    with pytest.raises(DataError, match="label of every kept image"):
        run(images, splits, {"one": one, "other": network(blue=False)}, y=np.zeros(3, np.int64))


def test_a_picture_that_cannot_be_decoded_may_not_be_among_those_kept(images: ImageSet, splits: Splits) -> None:
    files = list(images.source.files)  # type: ignore[attr-defined]
    files[7] = b"\x89PNG no picture"
    broken = replace(images, source=tiny.Pictures(tuple(files)))
    pair = {"a": network(blue=False), "b": network(blue=True)}
    with pytest.raises(DataError, match="1 of the images"):
        run(broken, splits, pair, taps=["late"])
    kept = np.delete(np.arange(len(images)), 7)
    where = np.cumsum(np.isin(np.arange(len(images)), kept)) - 1

    def move(rows: np.ndarray) -> np.ndarray:
        return where[rows[rows != 7]]

    moved = Splits(move(splits.train), tuple((move(a), move(b)) for a, b in splits.folds), move(splits.test))
    found = run(broken, moved, pair, taps=["late"], kept=kept, y=images.labels[kept])  # type: ignore[index]
    assert found.scores["b", "head"].probe.top1 > 0.9


def test_a_dead_layer_has_no_cka_and_says_so(images: ImageSet, splits: Splits) -> None:
    dead = network(blue=True)
    with torch.no_grad():
        dead.module.get_submodule("head").weight.zero_()  # type: ignore[operator,union-attr]
    found = run(images, splits, {"alive": network(blue=True), "dead": dead}, taps=["late"])
    assert np.isnan(column(found.tables["before and after, difference"], "CKA")[0])
    assert any("no value" in w for w in found.warnings)
    assert all("nan" not in f for f in found.findings)


def test_flattened_layers_are_reduced_on_training_rows(images: ImageSet, splits: Splits) -> None:
    found = run(images, splits, {"a": network(blue=False), "b": network(blue=True)}, taps=["body"], pool="flatten")
    assert found.scores["a", "body"].width == min(12 * 16, 256, len(splits.train) - 1)


def test_many_layers_give_three_columns_of_maps() -> None:
    from types import SimpleNamespace

    from visus.studies.transfer.before_after.figures import map_taps

    assert map_taps(SimpleNamespace(taps=tuple("abcd"))) == tuple("abcd")  # type: ignore[arg-type]
    assert map_taps(SimpleNamespace(taps=tuple("abcdefg"))) == ("a", "d", "g")  # type: ignore[arg-type]
