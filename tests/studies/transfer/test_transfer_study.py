"""The transfer study on images whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.colours import write as write_colours

import visus
from visus.errors import DataError
from visus.measures import wilson
from visus.studies.common.schema1 import Result


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy pictures of three colours: any network that lets colour through can tell them apart."""
    return write_colours(tmp_path_factory.mktemp("colours"), each=30, noise=25)


@pytest.fixture(scope="module")
def result(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUS_HOME", str(tmp_path_factory.mktemp("home")))
        models = ["visus:effnet-lite0", "timm:resnet18?weights=none"]
        return visus.transfer(
            model=models, images=f"folder:{colours}", taps=["early", "late"], engine="torch", regime=["probe"]
        )


def _column(result: Result, table: str, column: str) -> list[object]:
    found = result.tables[table]
    at = found.columns.index(column)
    return [row[at] for row in found.rows]


def test_colours_are_told_apart_and_shuffled_labels_are_not(result: Result) -> None:
    real = [
        v
        for v, m in zip(_column(result, "controls", "probe"), _column(result, "controls", "model"), strict=True)
        if "effnet" in str(m)
    ]
    assert min(map(float, real)) > 0.9  # type: ignore[arg-type]
    assert float(np.mean([float(v) for v in _column(result, "controls", "shuffled labels")])) < 0.75  # type: ignore[arg-type]


def test_every_model_and_layer_has_probe_and_knn_with_an_interval(result: Result) -> None:
    keys = list(zip(*(_column(result, "accuracy", c) for c in ("model", "layer", "method")), strict=True))
    assert len(keys) == len(set(keys)) == 2 * 2 * 2
    for low, value, high, n in zip(
        *(_column(result, "accuracy", c) for c in ("low", "accuracy", "high", "n")), strict=True
    ):
        assert n == 18  # a fifth of the pictures
        hits = float(value) * 18  # type: ignore[arg-type]
        assert hits == pytest.approx(round(hits))
        assert (low, high) == pytest.approx(wilson(round(hits), 18))


def test_models_are_compared_in_pairs_and_findings_speak_of_both(result: Result) -> None:
    (pair,) = result.tables["models compared"].rows
    rows = [dict(zip(result.tables["accuracy"].columns, row, strict=True)) for row in result.tables["accuracy"].rows]
    best = {}
    for row in (r for r in rows if r["method"] == "linear probe"):
        if row["model"] not in best or row["validation"] > best[row["model"]]["validation"]:
            best[row["model"]] = row
    first, second = best["visus:effnet-lite0"], best["timm:resnet18?weights=none"]
    assert str(pair[0]).startswith("visus:effnet-lite0")
    assert str(pair[1]).startswith("timm:resnet18?weights=none")
    assert pair[2] == pytest.approx(100 * (first["accuracy"] - second["accuracy"]))
    assert pair[3] <= pair[2] <= pair[4]
    (said,) = [f for f in result.findings if str(pair[0]) in f and str(pair[1]) in f]
    assert ("undecided" in said) == (pair[3] <= 0 <= pair[4])


def test_maps_carry_trust_figures_and_thumbnails(result: Result) -> None:
    maps = [f for f in result.figures if f.kind == "map"]
    assert len(maps) == 2 * 2 * 2
    for figure in maps:
        points = result.arrays[figure.data["points"]]
        assert len(points) == len(figure.data["ids"]) == len(result.arrays[figure.data["sprite"]])
        assert 0.5 <= figure.data["trust"]["trustworthiness"] <= 1


def test_the_result_survives_saving(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path)
    again = Result.load(tmp_path)
    assert again.to_json() == result.to_json()


def test_a_picture_that_cannot_be_decoded_is_named_and_moves_no_label(colours: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(colours, broken)
    whole = (broken / "green" / "03.png").read_bytes()
    (broken / "green" / "03.png").write_bytes(whole[: len(whole) // 2])
    found = visus.transfer(
        images=f"folder:{broken}", taps=["early"], maps=False, controls=False, engine="torch", regime=["probe"]
    )
    assert [row[0] for row in found.tables["quarantine"].rows] == ["green/03.png"]
    assert float(_column(found, "accuracy", "accuracy")[0]) > 0.9  # type: ignore[arg-type]


def test_the_same_call_gives_the_same_numbers(colours: Path) -> None:
    def run() -> Result:
        return visus.transfer(
            images=f"folder:{colours}", taps=["early"], maps=False, engine="torch", limit=60, regime=["probe"]
        )

    first, second = run(), run()
    for name in ("accuracy", "controls", "geometry", "classes"):
        assert first.tables[name] == second.tables[name]


def test_unlabelled_images_are_refused_in_one_line(tmp_path: Path) -> None:
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match="--labels"):
        visus.transfer(images=f"folder:{tmp_path}")


def test_layers_and_models_are_chosen_by_validation_not_by_test(result: Result) -> None:
    from visus.studies.transfer.layers.subject import Subject

    from visus.studies.transfer.evaluation import LayerScore

    def score(tap: str, validation: float, top1: float) -> LayerScore:
        class Probe:
            validation_accuracy = validation

        probe = Probe()
        probe.top1 = top1  # type: ignore[attr-defined]
        empty = np.zeros(0, np.int64)
        return LayerScore("m", tap, tap, 1, probe, None, None, {}, 1, empty, 0.0, 0.0)  # type: ignore[arg-type]

    scores = (score("a", validation=0.9, top1=0.1), score("b", validation=0.2, top1=0.99))
    subject = Subject(None, None, None, None, (), scores)  # type: ignore[arg-type]
    assert subject.best.tap == "a"
    assert subject.best_layer("m").tap == "a"
    assert replace(subject, scores=scores[::-1]).best.tap == "a"
