"""What zero-shot classification says of hand-made measures, and what it measures of planted pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.studies.clip.sample import check_findings, score, several_labels_measures, zero_shot_measures

from visus.studies.clip import zero_shot
from visus.studies.clip.pairs import PairedEmbeddings
from visus.studies.common.comparisons import Comparison
from visus.studies.common.section import section


def pairs(logits: np.ndarray, labels: np.ndarray, prompts: tuple[str, ...] = ("plain",)) -> PairedEmbeddings:
    """Images whose cosines with the classes rank as the logits [n, k] do; a classifier a prompt set, each a turn of the first."""
    n, k = logits.shape
    images = np.concatenate([logits, np.ones((n, 1))], axis=1).astype(np.float32)
    turns = {p: np.roll(np.eye(k, k + 1, dtype=np.float32), i, axis=0) for i, p in enumerate(prompts)}
    return PairedEmbeddings(
        name="planted",
        images=images,
        texts=images,
        image_keys=np.arange(n),
        text_keys=np.arange(n),
        ids=tuple(f"{i}.png" for i in range(n)),
        labels=labels,
        classes=tuple("abcdefgh"[:k]),
        classifiers=turns,
        templates={p: i + 1 for i, p in enumerate(prompts)},
    )


def test_the_table_of_accuracies_reads_each_score_and_the_control() -> None:
    table, *_ = zero_shot.tables(zero_shot_measures())
    rows = table.records()
    assert [r["prompts"] for r in rows] == ["plain", "short", "random-weights"]
    assert rows[0] == {
        "prompts": "plain", "templates": 1, "accuracy": 0.6, "low": 0.55, "high": 0.65, "balanced_accuracy": 0.59, "top_5": 0.9, "ece": 0.04,
        "nll": 1.25, "n": 200,
    }  # fmt: skip
    assert "3 classes: chance is 33.3 %" in table.note
    assert "scale, 50.0" in table.note


def test_tables_of_prompts_come_with_several_sets_alone() -> None:
    assert [t.key for t in zero_shot.tables(zero_shot_measures())] == [
        "zero-shot", "prompt-pairs", "classes-by-prompts", "images-by-prompts", "zero-shot-confused", "hardest-images",
    ]  # fmt: skip
    one = zero_shot_measures(scores=(score("plain", 0.6),), comparisons=(), wrong=(), n_wrong=0, decided=None)
    assert [t.key for t in zero_shot.tables(one)] == ["zero-shot", "zero-shot-confused"]
    check_findings(section(zero_shot, one))


def test_columns_of_classes_and_images_bear_the_names_of_the_sets() -> None:
    found = {t.key: t for t in zero_shot.tables(zero_shot_measures())}
    classes, images = found["classes-by-prompts"], found["images-by-prompts"]
    assert classes.records()[0] == {"class": "bee", "recall_plain": 0.9, "recall_short": 0.4, "range": 0.5, "n": 70}
    assert [c.heading for c in classes.columns] == ["class", "plain, %", "short, %", "range, points", "n"]
    assert images.records() == [
        {"image": "1.png", "class": "bee", "answer_plain": "bee", "answer_short": "ant", "sets_right": 1}
    ]
    assert "1 of 28 images (of 200)" in images.note
    assert "1 of 80 wrong answers" in found["hardest-images"].note


def test_figures_hold_fractions_and_chance_as_a_line() -> None:
    bars, confusion, hardest, decided = zero_shot.figures(zero_shot_measures())
    assert (bars.unit, bars.groups[0].values, bars.groups[0].low[0]) == ("share", (0.6, 0.5, 0.3), 0.55)
    assert bars.reference[0].value == pytest.approx(1 / 3)
    assert (confusion.values[0], confusion.low, confusion.high) == ((0.5, 0.5, 0.0), 0.0, 1.0)
    assert (hardest.key, hardest.captions) == ("hardest", ("ant: said bee 99 %",))
    assert decided.groups == ("right with plain, wrong with short",) * 2
    few = zero_shot_measures(confusion=None, hardest=None, decided=None)
    assert [f.key for f in zero_shot.figures(few)] == ["zero_shot"]


def test_findings_say_the_first_set_beside_random_weights_and_what_prompts_do() -> None:
    made = section(zero_shot, zero_shot_measures())
    check_findings(made)
    texts = [f.text for f in made.findings]
    assert texts == [
        "Zero-shot with plain prompts, a-clip is right on 60.0 % of 200 images (95 % interval 55.0 to 65.0 %).",
        "Averaged over its 3 classes that is 59.0 %; the calibration error is 4.0 %.",
        "The same network with random weights is right on 30.0 %; chance is 33.3 %.",
        "Prompts matter here: plain beats short by 10.0 points (28 images flip, more than chance).",
    ]
    assert made.findings[3].metrics == ("a-clip/zero-shot/plain-minus-short/accuracy",)
    assert made.source == "visus.studies.clip.zero_shot"


@pytest.mark.parametrize(("difference", "first", "second"), [(0.1, "plain", "short"), (-0.1, "short", "plain")])
def test_the_better_of_two_sets_is_named_first(difference: float, first: str, second: str) -> None:
    c = Comparison("plain", "short", difference, difference - 0.05, difference + 0.05, 24, 4, 0.001, 0.001)
    assert f"{first} beats {second} by 10.0 points" in zero_shot.findings(zero_shot_measures(comparisons=(c,)))[3].text


def test_sets_that_do_not_differ_are_undecided() -> None:
    c = Comparison("plain", "short", 0.1, -0.01, 0.2, 24, 4, 0.04, 0.08)  # Holm's p counts, not McNemar's alone
    found = zero_shot.findings(zero_shot_measures(comparisons=(c,)))[3]
    assert found.kind == "undecided"
    assert found.text.startswith("The prompt sets lie within 10.0 points; no difference between two of them is more")


def test_classes_without_images_are_a_caution() -> None:
    (caution,) = (f for f in zero_shot.findings(zero_shot_measures(unseen=("cat",))) if f.kind == "caution")
    assert (
        caution.text == "1 of 3 classes have no test image (the first: cat); they can be answered but never be right."
    )


def test_metrics_are_keyed_by_model_prompts_and_measure() -> None:
    found = {m.key: m for m in zero_shot.metrics(zero_shot_measures())}
    accuracy = found["a-clip/zero-shot/plain/accuracy"]
    assert (accuracy.value, accuracy.low, accuracy.high, accuracy.n, accuracy.unit) == (0.6, 0.55, 0.65, 200, "share")
    assert found["a-clip/zero-shot/short/nll"].better == "lower"
    assert found["a-clip/zero-shot/random-weights/top-5"].value == 0.9
    assert found["a-clip/zero-shot/plain-minus-short/accuracy"].unit == "points"
    one = zero_shot_measures(scores=(score("plain", 0.6, top_5=None),), control=None, comparisons=())
    assert not any("top-5" in m.key for m in zero_shot.metrics(one))


def test_several_labels_an_image_are_told_by_average_precision() -> None:
    made = section(zero_shot, several_labels_measures())
    check_findings(made)
    assert made.tables[0].column("average_precision") == (0.8, 0.6)
    assert made.figures == ()
    precision, caution = made.findings
    assert "the mean average precision of a-clip is 70.0 % over 2 classes (90 images, several labels" in precision.text
    assert caution.text.endswith("they have no average precision.")
    assert [(m.key, m.value) for m in made.metrics] == [("a-clip/zero-shot/plain/mean-average-precision", 0.7)]


def test_planted_answers_are_counted() -> None:
    labels = np.arange(60) % 3
    logits = np.eye(3)[labels]
    logits[:6] = np.eye(3)[(labels[:6] + 1) % 3]  # six wrong ones, two of each class
    m = zero_shot.measure(pairs(logits + 0.01 * np.random.default_rng(0).normal(size=logits.shape), labels), seed=0)
    assert (m.scores[0].accuracy.value, m.n_wrong) == (0.9, 6)
    assert m.scores[0].balanced == pytest.approx(0.9)
    assert m.scores[0].top_5 is None  # of three classes five answers are all
    assert sorted((c.label, c.answer, c.count) for c in m.confused) == [("a", "b", 2), ("b", "c", 2), ("c", "a", 2)]
    assert m.confusion is not None
    assert np.allclose(m.confusion, 0.9 * np.eye(3) + 0.1 * np.roll(np.eye(3), 1, axis=1))
    assert {w.id for w in m.wrong} == {f"{i}.png" for i in range(6)}
    assert sorted(w.p_label for w in m.wrong) == [w.p_label for w in m.wrong]
    assert (m.hardest, m.decided, m.comparisons, m.recalls) == (None, None, (), ())
    assert m.predictions["prediction"].tolist()[:3] == ["b", "c", "a"]
    assert {len(column) for column in m.predictions.values()} == {60}


def test_prompt_sets_are_compared_on_the_same_images() -> None:
    labels = np.arange(40) % 4
    m = zero_shot.measure(pairs(np.eye(4)[labels], labels, ("Mine.txt", "mine.txt")), seed=0)
    assert [s.key for s in m.scores] == ["mine.txt", "mine.txt-2"]  # files whose keys would be one
    assert [s.templates for s in m.scores] == [1, 2]
    assert [s.accuracy.value for s in m.scores] == [1.0, 0.0]  # the second is a turn of the first
    (c,) = m.comparisons
    assert (c.difference, c.only_a, c.only_b, m.flipped, m.spread) == (1.0, 40, 0, 40, 1.0)
    assert m.flips[0].answers == (m.flips[0].label, "bcda"["abcd".index(m.flips[0].label)])
    assert [r.spread for r in m.recalls] == [1.0] * 4
    keys = [x.key for x in zero_shot.metrics(m)]
    assert len(set(keys)) == len(keys)
    check_findings(section(zero_shot, m))


def test_a_repeated_image_counts_once_and_a_class_without_images_is_named() -> None:
    labels = np.repeat(np.arange(4), 5)
    given = replace(pairs(np.eye(6)[labels], labels), image_keys=np.arange(20) // 2)
    m = zero_shot.measure(given, seed=0, control=replace(given, name="other"))
    assert (m.n, m.scores[0].accuracy.n, m.unseen) == (10, 10, ("e", "f"))
    assert m.control is not None
    assert m.control.prompts == "random weights"
    assert m.control.accuracy.value == m.scores[0].accuracy.value == 1.0
    assert m.chance == pytest.approx(1 / 6)


def test_average_precision_is_over_classes_that_have_images() -> None:
    labels = np.zeros((30, 3), bool)
    labels[:15, 0] = labels[10:, 1] = True
    given = replace(pairs(labels.astype(float), labels.argmax(axis=1)), labels=labels)
    m = zero_shot.measure(given, seed=0)
    (one,) = m.precisions
    assert [c.name for c in one.classes] == ["a", "b"]
    assert [c.positives for c in one.classes] == [15, 20]
    assert one.mean == 1.0
    assert one.blind == pytest.approx(35 / 60)
    assert m.unseen == ("c",)
