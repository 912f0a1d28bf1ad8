"""Features before and after training, on a network whose training is planted: it learns to see blue behind its first layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.features import tiny
from tests.studies.transfer.planted_change import column, network, run, sentences, tables, told

from visus.errors import DataError, SpecError
from visus.images import ImageSet, Splits
from visus.models import Backbone
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.section import section
from visus.studies.transfer import before_after
from visus.studies.transfer.before_after import measure as measuring
from visus.studies.transfer.before_after.measure import (
    BeforeAfterMeasures,
    FeatureChange,
    Known,
    map_taps,
)
from visus.studies.transfer.evaluation import LayerScore
from visus.studies.transfer.options import ProbeOptions


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
