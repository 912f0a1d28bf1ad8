"""What the gap says of hand-made measures, and what it measures of planted pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.studies.clip.sample import check_findings, gap_measures, space

from visus.studies.clip import gap
from visus.studies.clip.gap.measure import measure_maps, measure_space, measure_sweep
from visus.studies.clip.gap.retrieval import measure_retrieval, rank
from visus.studies.clip.pairs import PairedEmbeddings, keys_of
from visus.studies.common.comparisons import Comparison
from visus.studies.common.section import section


def pairs(n: int = 60, *, apart: float = 1.0, texts_each: int = 1) -> PairedEmbeddings:
    """n images in 8 dimensions and texts near them, all texts pushed off along the last axis; several texts to an image."""
    rng = np.random.default_rng(0)
    images = np.repeat(rng.normal(size=(n, 8)), texts_each, axis=0)
    texts = images + 0.1 * rng.normal(size=images.shape)
    texts[:, -1] += apart
    return PairedEmbeddings(
        name="planted",
        images=images.astype(np.float32),
        texts=texts.astype(np.float32),
        image_keys=np.repeat(np.arange(n), texts_each),
        text_keys=np.arange(len(texts)),
        ids=tuple(map(str, range(len(texts)))),
        captions=tuple(f"caption {i}" for i in range(len(texts))),
    )


def test_the_table_reads_every_space() -> None:
    table = gap.tables(gap_measures())[0]
    assert [r["space"] for r in table.records()] == ["a-clip", "random weights"]
    assert table.records()[0] == {
        "space": "a-clip", "centroid_distance": 0.8, "cosine_paired": 0.6, "cosine_unpaired": 0.1, "separable": 0.95, "cosine_images": 0.3,
        "cosine_texts": 0.2, "cone_images": 40.4, "cone_texts": 55.6, "distance_raw": 2.5, "norm_images": 9.0, "norm_texts": 8.0, "n": 100,
    }  # fmt: skip
    assert table.columns[7].heading == "cone of images, °"
    assert len(gap.tables(gap_measures(control=None))[0].rows) == 1


def test_the_cosine_of_others_may_be_unknown() -> None:
    m = gap_measures(space=space("a-clip", 0.8, unpaired=float("nan")))
    assert gap.tables(m)[0].column("cosine_unpaired")[0] is None
    assert gap.findings(m)[1].text == "A pair's cosine is 0.60, that of images with other texts –."


def test_retrieval_has_a_row_for_each_k_and_way() -> None:
    table = {t.key: t for t in gap.tables(gap_measures())}["retrieval"]
    assert table.column("way") == ("image to text", "image to text", "text to image")
    assert table.records()[1] == {
        "way": "image to text", "k": 10, "recall": 0.8, "low": 0.7, "high": 0.9, "chance": 0.02, "random_weights": 0.05, "candidates": 500,
        "partners": 5.0, "n": 100,
    }  # fmt: skip
    assert table.column("random_weights")[2] is None
    assert "retrieval" not in {t.key for t in gap.tables(gap_measures(retrieval=()))}


def test_the_sweep_is_a_table_and_two_figures() -> None:
    m = gap_measures()
    table = gap.tables(m)[-1]
    assert (table.key, table.column("moved")) == ("gap-shift", (-1.0, 0.0, 1.0))
    assert table.columns[3].heading == "zero-shot accuracy, %"
    assert "symmetric InfoNCE at scale 50.0 over 100 pairs" in table.note
    assert "Loss: sigmoid" in gap.tables(gap_measures(sweep=replace(m.sweep, sigmoid=True)))[-1].note
    *_, scores, loss = gap.figures(m)
    assert (scores.unit, scores.series[0].y, scores.series[0].low[2]) == ("share", (0.5, 0.6, 0.58), 0.53)
    assert (loss.unit, loss.series[0].y, loss.series[0].low) == ("nats", (2.0, 1.5, 1.25), None)
    assert [(mark.label, mark.x) for mark in scores.marks] == [("as trained", 0.0), ("closed", 1.0)]


def test_maps_share_labels_and_say_how_many_there_are() -> None:
    tsne, umap, *_ = gap.figures(gap_measures())
    assert (tsne.key, umap.key) == ("modality_tsne", "modality_umap")
    assert tsne.labels is umap.labels
    assert (tsne.trust, umap.trust) == ({"trustworthiness": 0.9}, {})
    assert tsne.caption.startswith("3 images and their 2 texts, unit vectors, seed 0.")


@pytest.mark.parametrize("without", [{}, {"control": None}, {"retrieval": ()}])
def test_findings_are_short_and_name_what_there_is(without: dict[str, None]) -> None:
    check_findings(section(gap, gap_measures(**without)))


def test_the_distance_stands_beside_that_of_random_weights() -> None:
    assert (
        gap.findings(gap_measures())[0].text == "Images and texts of a-clip lie 0.80 apart (with random weights 1.28)."
    )
    assert gap.findings(gap_measures(control=None))[0].text == "Images and texts of a-clip lie 0.80 apart."


@pytest.mark.parametrize(
    ("low", "high", "kind", "verdict"),
    [
        (-0.06, 0.02, "undecided", "no sign that the gap itself costs accuracy"),
        (0.01, 0.05, "result", "closing it helps here"),
        (-0.06, -0.01, "result", "closing it costs accuracy here"),
    ],
)
def test_whether_the_gap_matters_is_read_from_the_interval(low: float, high: float, kind: str, verdict: str) -> None:
    change = Comparison("closed", "as trained", (low + high) / 2, low, high, 3, 5, 0.1)
    found = gap.findings(gap_measures(sweep=replace(gap_measures().sweep, change=change)))[4]
    assert (found.kind, found.text.rpartition(": ")[2]) == (kind, f"{verdict}.")


def test_retrieval_says_one_of_several_texts_and_the_first_ten_where_there_are_more() -> None:
    there, back = gap.findings(gap_measures())[-2:]
    assert there.text.startswith("For 40.0 % of images one of their own texts comes first among 500, and for 80.0 %")
    assert there.metrics == ("a-clip/retrieval/image-to-text/recall@1", "a-clip/retrieval/image-to-text/recall@10")
    assert back.text == "For 35.0 % of texts their own image comes first among 100."


def test_metrics_of_the_control_are_keyed_apart() -> None:
    found = {m.key: m for m in gap.metrics(gap_measures())}
    assert found["a-clip/gap/centroid-distance"].value == 0.8
    assert found["a-clip/random-weights/gap/centroid-distance"].value == 1.28
    assert found["a-clip/gap/closed/change"].unit == "points"
    assert found["a-clip/gap/closed/loss"].value == 1.25
    assert found["a-clip/retrieval/text-to-image/recall@1"].n == 500


def test_a_planted_gap_is_measured_each_image_once() -> None:
    found = measure_space(pairs(apart=3.0), "planted", seed=0)
    assert found.centroid_distance > 0.4
    assert found.separable.value > 0.7
    assert 40 < found.separable.n < 80  # two vectors of each held-out pair
    assert found.paired > 0.5 > abs(found.unpaired)
    several = measure_space(pairs(apart=3.0, texts_each=3), "planted", seed=0)
    assert several.images.cosine == pytest.approx(found.images.cosine, abs=1e-6)
    assert several.n == 180


def test_moving_the_centroids_together_closes_the_gap_and_is_compared_with_as_trained() -> None:
    sweep = measure_sweep(pairs(apart=3.0), seed=0)
    assert sweep.score == "recall@1, image to text"
    assert (sweep.trained.shift, sweep.closed.shift) == (0.0, 1.0)
    assert sweep.closed.centroid_distance < 0.3 * sweep.trained.centroid_distance
    assert sweep.change.difference == pytest.approx(sweep.closed.score.value - sweep.trained.score.value)


def test_where_there_are_classes_the_sweep_is_of_their_accuracy() -> None:
    labels, classifier = np.arange(60) % 2, np.eye(2, 8, dtype=np.float32)
    given = replace(pairs(), labels=labels, classes=("a", "b"), classifiers={"plain": classifier}, sigmoid=True)
    sweep = measure_sweep(given, seed=0)
    assert (sweep.score, sweep.sigmoid, sweep.loss_pairs) == ("zero-shot accuracy", True, 60)
    cosines = given.images / np.linalg.norm(given.images, axis=1, keepdims=True) @ classifier.T
    assert sweep.trained.score.value == pytest.approx(np.mean(cosines.argmax(axis=1) == labels))


def test_recall_counts_each_image_once_and_ends_where_all_are_candidates() -> None:
    given = pairs(8, texts_each=2)
    there, back = measure_retrieval(given, given)
    assert [r.k for r in there.recalls] == [1, 5, 10]
    assert [r.k for r in back.recalls] == [1, 5]  # of eight images ten are more than there are
    assert (there.candidates, there.recalls[0].recall.n, there.most_partners) == (16, 8, 2)
    assert (back.candidates, back.recalls[0].recall.n, back.most_partners) == (8, 16, 1)
    assert there.recalls[0].control == there.recalls[0].recall.value
    assert measure_retrieval(given)[0].recalls[0].control is None


def test_queries_that_most_others_hang_together_with_count_one_by_one() -> None:
    given = pairs(20)
    tied = replace(given, text_keys=keys_of(np.where(np.arange(20) < 15, 0, np.arange(20))))
    there, _ = rank(tied)
    assert there.groups.tolist() == list(range(20))
    assert len(set(rank(replace(given, text_keys=np.arange(20) // 2))[0].groups)) == 10


def test_maps_take_each_image_and_each_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = replace(pairs(30, texts_each=2), text_keys=np.repeat(np.arange(15), 4))
    drawn: list[np.ndarray] = []
    monkeypatch.setitem(measure_maps.__globals__, "layer_maps", lambda x, **_: drawn.append(x) or {})
    maps = measure_maps(given, seed=0)
    assert (maps.images, maps.texts, drawn[0].shape) == (30, 15, (45, 8))
    assert np.allclose(np.linalg.norm(drawn[0], axis=1), 1)
    assert maps.labels.tolist() == [0] * 30 + [1] * 15
    assert (maps.ids[30], maps.sprite) == ("text: caption 0", None)
