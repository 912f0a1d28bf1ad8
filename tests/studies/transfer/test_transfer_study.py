"""The transfer study on images whose answer is known."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.colours import write as write_colours

import visus
from visus.errors import DataError
from visus.figures import Map
from visus.measures import wilson
from visus.result import Result
from visus.studies.common import comparisons
from visus.studies.transfer import classes
from visus.studies.transfer.evaluation import LayerScore, best_of


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
    return list(result.tables[table].column(column))


def test_colours_are_told_apart_and_shuffled_labels_are_not(result: Result) -> None:
    real = [
        v
        for v, m in zip(_column(result, "controls", "probe"), _column(result, "controls", "model"), strict=True)
        if "effnet" in str(m)
    ]
    assert min(map(float, real)) > 0.9  # type: ignore[arg-type]
    assert float(np.mean([float(v) for v in _column(result, "controls", "shuffled")])) < 0.75  # type: ignore[arg-type]


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
    (pair,) = result.tables["models-compared"].records()
    best: dict[str, dict[str, Any]] = {}
    for row in (r for r in result.tables["accuracy"].records() if r["method"] == "linear probe"):
        if row["model"] not in best or row["validation"] > best[row["model"]]["validation"]:
            best[row["model"]] = row
    first, second = best["visus:effnet-lite0"], best["timm:resnet18?weights=none"]
    assert pair["a"].startswith("visus:effnet-lite0")
    assert pair["b"].startswith("timm:resnet18?weights=none")
    assert pair["difference"] == pytest.approx(first["accuracy"] - second["accuracy"])
    assert pair["low"] <= pair["difference"] <= pair["high"]
    (said,) = [f for f in result.findings if pair["a"] in f and pair["b"] in f]
    assert ("undecided" in said) == (pair["low"] <= 0 <= pair["high"])


def test_every_pair_is_resampled_once_and_confusion_counted_once(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    real = comparisons.paired_bootstrap

    def counted(a: np.ndarray, b: np.ndarray, **more: Any) -> Any:
        asked.append(np.stack([a, b]).tobytes())
        return real(a, b, **more)

    monkeypatch.setattr(comparisons, "paired_bootstrap", counted)
    confusions: list[str] = []
    for name in ("class_recall", "confused_pairs"):
        measure = getattr(classes, name)
        monkeypatch.setattr(classes, name, lambda *a, n=name, m=measure, **k: confusions.append(n) or m(*a, **k))
    visus.transfer(
        ["timm:test_resnet?weights=none", "timm:test_vit?weights=none"], f"folder:{colours}", taps=["early", "late"],
        engine="torch", regime=["probe"], maps=False, controls=False,
    )  # fmt: skip
    # Two layers of each model, and the models at their best layers, whatever tells of them.
    assert len(asked) == 3
    assert confusions == ["class_recall", "confused_pairs"]


def test_headline_and_predictions_are_of_the_layer_that_validation_prefers(result: Result) -> None:
    best = max(
        (r for r in result.tables["accuracy"].records() if r["method"] == "linear probe"), key=lambda r: r["validation"]
    )
    assert result.metrics[result.headline[0]].value == best["accuracy"]
    found = result.predictions
    assert float(np.mean(np.asarray(found["label"]) == np.asarray(found["prediction"]))) == best["accuracy"]
    assert len(result.answer.split()) <= 25


def test_each_section_names_the_file_that_made_it(result: Result) -> None:
    root = Path(visus.__file__).parent
    for section in result.sections:
        assert (root / f"{section.file}.py").is_file() or (root / section.file).is_dir()
        metrics, shown = (
            {m.key for m in section.metrics},
            {t.key for t in section.tables} | {f.key for f in section.figures},
        )
        for finding in section.findings:
            assert len(finding.text.split()) <= 35, finding.text
            assert set(finding.metrics) <= metrics
            assert set(finding.shows) <= shown


def test_maps_carry_trust_figures_and_thumbnails(result: Result) -> None:
    maps = [f for f in result.figures.values() if isinstance(f, Map)]
    assert len(maps) == 2 * 2 * 2
    for figure in maps:
        assert figure.sprite is maps[0].sprite
        assert len(figure.points) == len(figure.ids) == len(figure.sprite)
        assert 0.5 <= float(figure.trust["trustworthiness"] or 0) <= 1


def test_the_result_survives_saving(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path)
    again = Result.load(tmp_path)
    assert again.to_json() == result.to_json()


def test_a_picture_that_cannot_be_decoded_is_named_and_moves_no_label(colours: Path, tmp_path: Path) -> None:
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


def test_layers_and_models_are_chosen_by_validation_not_by_test() -> None:
    def score(tap: str, validation: float, top1: float) -> LayerScore:
        probe = SimpleNamespace(validation_accuracy=validation, top1=top1)
        empty = np.zeros(0, np.int64)
        return LayerScore("m", tap, tap, 1, probe, None, None, {}, 1, empty, 0.0, 0.0)  # type: ignore[arg-type]

    scores = (score("a", validation=0.9, top1=0.1), score("b", validation=0.2, top1=0.99))
    assert best_of(scores).tap == best_of(scores, "m").tap == best_of(scores[::-1]).tap == "a"
