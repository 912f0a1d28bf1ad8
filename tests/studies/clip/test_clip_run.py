"""The study from its options to its result, on files of pairs: what is answered, what is left out, and that nothing is measured twice."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visus.errors import DataError
from visus.measures.alignment import KINDS
from visus.result import Result
from visus.studies.clip import clip
from visus.studies.clip.gap.measure import measure_maps


@pytest.fixture(autouse=True)
def _no_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """t-SNE and UMAP take longer than all the rest, and are tested in their own room."""
    monkeypatch.setitem(measure_maps.__globals__, "layer_maps", lambda x, **_: {})


def written(path: Path, *, n: int = 120, labelled: bool = True, **more: Any) -> str:
    """A file of pairs around four class directions."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 4
    images = np.eye(12)[y] + 0.2 * rng.normal(size=(n, 12))
    texts = images + 0.2 * rng.normal(size=(n, 12)) + np.eye(12)[-1]
    given = {"labels": y, "class_texts": np.eye(12)[:4]} if labelled else {}
    np.savez(path, images=images, texts=texts, **given | more)
    return str(path)


def test_a_result_has_its_sections_in_order_an_answer_and_a_headline(tmp_path: Path) -> None:
    result = clip(embeddings=written(tmp_path / "pairs.npz"), pairs="30,60", device="cpu")
    assert [(s.key, s.source) for s in result.sections] == [
        ("zero-shot", "visus.studies.clip.zero_shot"),
        ("gap", "visus.studies.clip.gap"),
        ("alignment", "visus.studies.clip.alignment"),
    ]
    assert result.answer.startswith("pairs.npz names ")
    assert "; images and texts lie 0." in result.answer
    assert len(result.answer.split()) <= 25
    assert [key.partition("/")[2] for key in result.headline] == [
        "zero-shot/the-file's/accuracy",
        "gap/centroid-distance",
        "gap/separable",
        "retrieval/image-to-text/recall@1",
        "alignment/procrustes/gap",
    ]
    assert (result.status, result.reason) == ("complete", "")
    assert {k: result.provenance[k] for k in ("pairs", "scale", "seed")} == {"pairs": 120, "scale": 100.0, "seed": 0}
    assert result.predictions["id"].tolist()[:2] == ["row 0", "row 1"]
    assert set(result.predictions["label"]) == set("0123")
    accuracy = result.metrics["pairs.npz/zero-shot/the-file's/accuracy"]
    assert np.mean(result.predictions["label"] == result.predictions["prediction"]) == accuracy.value


def test_a_saved_result_reads_back_as_it_was(tmp_path: Path) -> None:
    result = clip(embeddings=written(tmp_path / "pairs.npz"), part=["zero-shot,gap"], device="cpu")
    result.save(tmp_path / "out")
    again = Result.load(tmp_path / "out")
    assert again.tables["gap"].rows == result.tables["gap"].rows
    assert again.metrics == result.metrics
    assert again.predictions["confidence"].tolist() == result.predictions["confidence"].tolist()


def counted(monkeypatch: pytest.MonkeyPatch, *names: str) -> Counter[str]:
    """How often functions of the measures were called, wherever a module of the studies holds them."""
    calls: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    for module in [m for key, m in sys.modules.items() if key.startswith("visus.studies.")]:
        for name in names:
            if callable(function := vars(module).get(name)):
                monkeypatch.setattr(module, name, counting(name, function))
    return calls


def test_every_interval_and_count_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "pairs.npz")
    clip(embeddings=path, part=["zero-shot"], device="cpu")  # so that every module is imported
    calls = counted(
        monkeypatch, "paired_bootstrap", "mcnemar", "confusion_matrix", "confused_pairs", "balanced_accuracy", "ece", "modality_gap", "fit"
    )  # fmt: skip
    clip(embeddings=path, pairs="30,60", device="cpu")
    compared = 1 + 2 * 2 * len(KINDS)  # the sweep; recall and accuracy of each alignment of images alone, of two sizes
    assert calls == {
        "paired_bootstrap": compared, "mcnemar": compared, "confusion_matrix": 1, "confused_pairs": 1, "balanced_accuracy": 1, "ece": 1,
        "modality_gap": 1, "fit": 2 * 2 * len(KINDS),
    }  # fmt: skip


def test_zero_shot_without_labels_is_a_warning_and_partial_where_it_was_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "pairs.npz", labelled=False)
    asked = clip(embeddings=path, part=["zero-shot", "gap"], device="cpu")
    assert [s.key for s in asked.sections] == ["gap"]
    assert (asked.status, asked.reason) == ("partial", asked.warnings[-1])
    assert "no labels of two classes or more, so zero-shot classification is left out" in asked.reason
    usual = clip(embeddings=path, pairs="30", device="cpu")
    assert [s.key for s in usual.sections] == ["gap", "alignment"]
    assert (usual.status, usual.predictions) == ("complete", {})
    assert usual.answer.startswith("Images and texts lie")
    assert usual.metrics["pairs.npz/gap/closed/change"].label == "closed − as trained"


def test_one_section_alone_is_answered_by_a_sentence_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path / "pairs.npz")
    assert clip(embeddings=path, part=["gap"], device="cpu").answer.startswith("Images and texts lie 0.")
    alone = clip(embeddings=path, part=["alignment"], pairs="60", device="cpu")
    assert alone.answer.startswith("Procrustes closes")
    assert len(alone.headline) == 1


def test_several_labels_are_answered_by_the_mean_average_precision(tmp_path: Path) -> None:
    y = np.eye(4, dtype=bool)[np.arange(120) % 4]
    path = written(tmp_path / "pairs.npz", labels=y)
    result = clip(embeddings=path, part=["zero-shot"], device="cpu")
    assert result.answer.startswith("pairs.npz has a mean average precision of ")
    assert result.headline == ("pairs.npz/zero-shot/the-file's/mean-average-precision",)


def test_too_few_pairs_to_fit_are_a_caution_of_the_section(tmp_path: Path) -> None:
    result = clip(embeddings=written(tmp_path / "few.npz", n=6, labelled=False), part=["alignment"], device="cpu")
    (section,) = result.sections
    assert (section.tables, section.figures, result.headline) == ((), (), ())
    assert result.cautions[-1].startswith("6 pairs make 6 groups that share no image or text, too few to fit")
    with pytest.raises(DataError, match="asks for 12 of 12 pairs, and some must be left to judge on"):
        clip(
            embeddings=written(tmp_path / "more.npz", n=12, labelled=False),
            part=["alignment"],
            pairs="12",
            device="cpu",
        )
