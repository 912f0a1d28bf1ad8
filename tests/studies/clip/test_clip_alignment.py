"""What alignment says of hand-made measures, and what it measures of planted pairs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from tests.studies.clip.sample import COST, GAIN, alignment_measures, check_findings, fit, fits, side

from visus.errors import DataError
from visus.studies.clip import alignment
from visus.studies.clip.alignment.findings import width
from visus.studies.clip.alignment.judge import judge, sides
from visus.studies.clip.alignment.measure import AlignmentMeasures, fit_sizes
from visus.studies.clip.pairs import PairedEmbeddings, keys_of
from visus.studies.common.comparisons import Comparison
from visus.studies.common.section import section


def pairs(n: int = 120, *, noise: float = 0.5) -> PairedEmbeddings:
    """n images in 12 dimensions and texts that lie at them but for the noise."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(n, 12))
    texts = images + noise * rng.normal(size=(n, 12))
    return PairedEmbeddings(
        name="planted",
        images=images.astype(np.float32),
        texts=texts.astype(np.float32),
        image_keys=np.arange(n),
        text_keys=np.arange(n),
        ids=tuple(map(str, range(n))),
    )


def test_the_table_puts_in_sample_and_held_out_side_by_side() -> None:
    table, control = alignment.tables(alignment_measures())
    assert len(table.rows) == 22
    assert table.records()[1] == {
        "alignment": "Procrustes", "moves": "images", "fitted_on": 25,
        "cosine_in_sample": 0.3, "cosine_held_out": 0.3, "gap_in_sample": 0.5, "gap_held_out": 0.2,
        "image_to_text_1_in_sample": 0.9, "image_to_text_1_held_out": 0.46, "image_to_text_5_in_sample": 0.7, "image_to_text_5_held_out": 0.7,
        "image_to_text_10_in_sample": None, "image_to_text_10_held_out": None, "text_to_image_1_in_sample": 0.9, "text_to_image_1_held_out": 0.46,
        "text_to_image_5_in_sample": 0.6, "text_to_image_5_held_out": 0.6, "text_to_image_10_in_sample": None, "text_to_image_10_held_out": None,
        "zero_shot_in_sample": 0.6, "zero_shot_held_out": 0.66, "judged_on": 50, "half_width": 0.13,
    }  # fmt: skip
    assert table.column("moves")[:3] == ("", "images", "both")
    assert (control.key, control.column("alignment")) == ("alignment-control", ("none", "Procrustes"))


def test_without_classes_there_is_no_column_of_accuracy() -> None:
    m = alignment_measures(zero_shot=False, control=())
    (table,) = alignment.tables(m)
    assert not any("zero_shot" in c.key for c in table.columns)
    assert [f.key for f in alignment.figures(m)] == ["alignment_recall"]


def test_the_note_says_what_other_pairs_share() -> None:
    assert "(other images with other texts)" in alignment.tables(alignment_measures())[0].note
    named = alignment_measures(texts_are_classes=True)
    assert "the texts are the same class names" in alignment.tables(named)[0].note


def test_curves_follow_images_moved_by_the_number_of_pairs() -> None:
    recall, accuracy = alignment.figures(alignment_measures())
    assert (recall.unit, recall.y_label, accuracy.y_label) == ("share", "recall@1, image to text", "zero-shot accuracy")
    inside, held = recall.panels
    assert (inside.title, held.title) == ("in-sample", "held-out")
    series = {s.name: s for s in held.series}
    assert series["as it is"].y == (0.4, 0.4)
    assert (series["ridge"].x, series["ridge"].y) == ((25.0, 50.0), (0.2, 0.46))
    assert "up to 25 pairs are too few for 16 dimensions (under 48)" in recall.caption


def test_findings_are_short_and_name_what_there_is() -> None:
    check_findings(section(alignment, alignment_measures()))


def test_an_alignment_is_told_by_its_gap_and_by_what_it_changes() -> None:
    found = [f for f in alignment.findings(alignment_measures()) if "Centring" in f.text]
    assert [f.text for f in found[:2]] == [
        "Centring on 50 pairs closes most of the gap on other pairs (0.50 to 0.20) at no cost that is more than chance.",
        "Centring takes recall@1 of the text to 46.0 % (+6.0 points, 95 % interval -2.0 to +16.0: may be chance).",
    ]
    assert [f.kind for f in found] == ["result", "undecided", "undecided"]
    assert found[2].metrics == (
        "a-clip/alignment/centring/zero-shot-accuracy",
        "a-clip/alignment/centring/zero-shot-accuracy-gained",
    )


@pytest.mark.parametrize(
    ("recall", "accuracy", "verdict"),
    [
        (COST, COST, "at a cost in recall@1 of the text and zero-shot accuracy."),
        (COST, GAIN, "at a cost in recall@1 of the text, but gains zero-shot accuracy."),
        (GAIN, None, "at no cost that is more than chance, and gains recall@1 of the text."),
    ],
)
def test_costs_and_gains_are_named_where_they_are_more_than_chance(
    recall: Comparison, accuracy: Comparison | None, verdict: str
) -> None:
    ridge = fit("ridge", 50, side(distance=0.02), recall=recall, accuracy=accuracy)
    found = alignment.findings(alignment_measures(fits=fits(50, ridge=ridge)))
    told = next(f.text for f in found if f.text.startswith("Ridge on"))
    assert told.startswith("Ridge on 50 pairs closes the gap on other pairs (0.50 to 0.02)")
    assert told.endswith(verdict)


def test_no_sentence_is_longer_than_the_rule_whatever_the_verdict() -> None:
    for recall, accuracy, distance in product((COST, GAIN), (COST, GAIN), (0.2, 0.5, 0.9)):
        changed = fit("whitening", 12_800, side(distance=distance), recall=recall, accuracy=accuracy)
        check_findings(section(alignment, alignment_measures(fits=fits(12_800, whitening=changed))))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (0.01, 0.02, "finds hardly a gap to close"),
        (0.01, 0.3, "opens a gap that was not there"),
        (0.5, 0.6, "widens the gap"),
        (0.5, 0.5, "leaves the gap as it is"),
        (0.5, 0.3, "closes part of the gap"),
        (0.5, 0.2, "closes most of the gap"),
        (0.5, 0.03, "closes the gap"),
    ],
)
def test_the_width_of_a_gap_in_words(before: float, after: float, words: str) -> None:
    assert width(before, after) == words


def test_fiction_is_told_on_both_sides() -> None:
    texts = [f.text for f in alignment.findings(alignment_measures())]
    at = texts.index("Fitted on 25 pairs ridge seems to lift recall@1 from 40.0 % to 90.0 % of these pairs.")
    assert texts[at + 1 : at + 3] == [
        "On other pairs it falls from 40.0 % to 20.0 %: the improvement is fiction, 25 pairs for 16 dimensions.",
        "So it is, beyond chance, with 1 of 10 fits that move images alone.",
    ]
    assert not any("fiction" in f.text for f in alignment.findings(alignment_measures(worst=None)))


def test_random_weights_say_that_neither_cosine_nor_gap_is_understanding() -> None:
    texts = [f.text for f in alignment.findings(alignment_measures())]
    assert (
        "With random weights Procrustes takes the cosine of other pairs to 0.90 and the gap from 1.28 to 0.10." in texts
    )
    assert any("is 4.0 %: neither cosine nor gap says that pairs are understood" in text for text in texts)
    assert not any("random" in f.text for f in alignment.findings(alignment_measures(control=())))


def test_too_few_pairs_texts_or_groups_are_cautions() -> None:
    def cautions(**changed: int) -> list[str]:
        return [f.text for f in alignment.findings(alignment_measures(**changed)) if f.kind == "caution"]

    (few,) = cautions()
    assert few.startswith(
        "Alignments on 25 pairs have under three times as many pairs as the space has dimensions (16)"
    )
    assert cautions(texts=9, groups=9)[1].startswith("The 100 pairs say 9 different texts, in 16 dimensions")
    assert cautions(groups=9)[1].startswith("The 100 pairs make 9 groups that share neither image nor text, in 16")


def test_what_was_left_out_is_a_caution_and_nothing_else() -> None:
    made = section(
        alignment,
        AlignmentMeasures(
            name="a", d=4, zero_shot=False, texts_are_classes=False, pairs=5, texts=5, groups=5, left_out="Too few."
        ),
    )
    assert [(f.text, f.kind) for f in made.findings] == [("Too few.", "caution")]
    assert (made.tables, made.figures, made.metrics) == ((), (), ())


def test_metrics_are_of_the_most_pairs_and_of_other_pairs() -> None:
    found = {m.key: m for m in alignment.metrics(alignment_measures())}
    gap = found["a-clip/alignment/procrustes/gap"]
    assert (gap.value, gap.split, gap.better) == (0.2, "held-out", "lower")
    gained = found["a-clip/alignment/ridge/recall@1-gained"]
    assert (gained.value, gained.low, gained.high, gained.unit) == (0.06, -0.02, 0.16, "points")
    assert "a-clip/alignment/none/recall@1-gained" not in found


def test_sizes_double_to_half_of_the_pairs_or_are_those_asked_for() -> None:
    assert fit_sizes(1000, None, 1000) == (25, 50, 100, 200, 400)
    assert fit_sizes(100_000, None, 100_000) == (800, 1600, 3200, 6400, 12_800, 25_600)
    assert fit_sizes(40, None, 40) == (20,)
    assert fit_sizes(40, None, 1) == ()
    assert fit_sizes(100, (10, 60), 100) == (10, 60)
    with pytest.raises(DataError, match="some must be left to judge on"):
        fit_sizes(100, (100,), 100)
    with pytest.raises(DataError, match="60 of 100 pairs hang together by shared images and texts; give at most 40"):
        fit_sizes(100, (50,), 40)


def test_sides_are_equal_and_disjoint_and_whole_groups() -> None:
    groups = np.repeat(np.arange(30), 4)
    on = sides(120, 40, groups, seed=1)
    assert len(on.inside) == len(on.held) == 40
    assert not set(groups[on.used]) & set(groups[on.held])
    assert set(on.inside) <= set(on.used)


def test_a_side_is_judged_among_its_own_pairs_alone() -> None:
    given = pairs(40, noise=0.0)
    found = judge(given, np.arange(8), None)
    assert found.side.to_text == (1.0, 1.0, None)  # among eight ten are more than there are
    assert found.side.cosine == pytest.approx(1.0, abs=1e-6)
    assert found.side.distance == pytest.approx(0.0, abs=1e-6)
    assert (found.side.accuracy, found.right, bool(found.found.all())) == (None, None, True)
    shared = replace(given, text_keys=np.arange(40) // 2)
    assert judge(shared, np.arange(8), None).half_width > found.half_width
    named = replace(shared, texts_are_classes=True)  # every image is asked for its class
    assert judge(named, np.arange(8), None).half_width == found.half_width


def test_every_alignment_is_compared_with_the_space_as_it_is_on_the_same_pairs() -> None:
    found = alignment.measure(pairs(noise=2.5), sizes=(20, 30), seed=0)
    assert (len(found.fits), found.moved, found.d, found.pairs) == (22, 10, 12, 120)
    assert all((f.recall is None) == (f.both or f.kind == "none") for f in found.fits)
    assert all(f.accuracy is None for f in found.fits)
    base = found.at_most("none")
    assert base.n == 30
    turned = next(f for f in found.fits if f.kind == "procrustes" and f.both and f.n == 30)
    assert turned.held.to_text == base.held.to_text  # a rotation of both changes no score
    for f in (found.at_most(kind) for kind in ("procrustes", "ridge")):
        assert f.recall is not None
        assert f.recall.difference == pytest.approx((f.held.to_text[0] or 0) - (base.held.to_text[0] or 0))


def test_pairs_that_hang_together_leave_it_out() -> None:
    few = alignment.measure(pairs(6), sizes=None, seed=0)
    assert few.left_out.startswith("6 pairs make 6 groups that share no image or text, too few")
    assert (few.fits, few.worst, few.control) == ((), None, ())
    tied = replace(pairs(20), text_keys=keys_of(np.where(np.arange(20) < 13, 0, np.arange(20))))
    assert {f.n for f in alignment.measure(tied, sizes=None, seed=0).fits} == {7}  # of the other seven
