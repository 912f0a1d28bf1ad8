"""Paired comparisons, proportions and repeated images, as every study states them."""

from __future__ import annotations

import numpy as np
import pytest

from visus.errors import SpecError
from visus.measures.compare import holm, mcnemar, paired_bootstrap
from visus.measures.intervals import wilson
from visus.measures.repeats import repeats
from visus.result import Column
from visus.studies.common import repeated_images
from visus.studies.common.comparisons import Comparison, compare, comparisons_table, family
from visus.studies.common.options import split_commas, split_numbers
from visus.studies.common.proportion import proportion


def test_a_comparison_is_the_bootstrap_and_the_test_of_the_measures() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(200) < 0.8, rng.random(200) < 0.6
    found = compare(a, b, names=("a", "b"), seed=3)
    boot, test = paired_bootstrap(a, b, seed=3), mcnemar(a, b)
    assert (found.difference, found.low, found.high) == (boot.difference, boot.low, boot.high)
    assert (found.only_a, found.only_b, found.p) == (test.a_only, test.b_only, test.p_value)


def test_of_several_runs_the_interval_is_of_their_mean() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((3, 100)) < 0.7, rng.random((3, 100)) < 0.7
    found = compare(a, b, names=("a", "b"), seed=0)
    assert found.difference == pytest.approx(a.mean() - b.mean(), abs=1e-12)


def test_holm_is_taken_over_the_family_and_stands_in_the_table() -> None:
    pair = [Comparison("a", "b", 0.1, 0.05, 0.15, 9, 1, p) for p in (0.01, 0.04, 0.03)]
    table = comparisons_table("pairs", "Pairs", family(pair))
    assert table.column("p_holm") == tuple(holm(np.array([0.01, 0.04, 0.03])))
    assert table.column("difference") == (0.1, 0.1, 0.1)
    assert "10.0" in str(table)  # points in print


@pytest.mark.parametrize(
    ("low", "high", "kind"), [(-0.1, 0.1, "undecided"), (0.0, 0.2, "undecided"), (0.01, 0.2, "result")]
)
def test_an_interval_that_holds_nought_is_undecided(low: float, high: float, kind: str) -> None:
    assert Comparison("a", "b", 0.05, low, high, 1, 0, 0.5).kind == kind


@pytest.mark.parametrize(("a", "b"), [(0.8, 0.6), (0.6, 0.8)])
def test_the_better_one_is_ahead_as_it_would_be_if_compared_so(a: float, b: float) -> None:
    rng = np.random.default_rng(2)
    right = {name: rng.random(200) < share for name, share in (("a", a), ("b", b))}
    found = compare(right["a"], right["b"], names=("a", "b"), seed=3)
    better, worse = ("a", "b") if a > b else ("b", "a")
    assert (found.ahead.a, found.ahead.b) == (better, worse)
    assert found.ahead.difference == pytest.approx(right[better].mean() - right[worse].mean(), abs=1e-12)
    assert found.ahead.low < found.ahead.difference < found.ahead.high
    assert found.ahead.only_a == int((right[better] & ~right[worse]).sum())


def test_a_proportion_carries_wilsons_interval_and_n() -> None:
    found = proportion(np.array([True] * 8 + [False] * 2))
    assert (found.value, found.n) == (0.8, 10)
    assert (found.low, found.high) == wilson(8, 10)
    assert (
        found.text("images") == f"80.0 % of 10 images (95 % interval {100 * found.low:.1f} to {100 * found.high:.1f} %)"
    )
    assert found.metric("a/b", label="x").unit == "share"


def _repeated(pixels: list[str], right: list[bool]) -> repeated_images.RepeatedImages:
    """Four images of training, then three of test; every second of class 1."""
    train, test, y = np.arange(4), np.arange(4, 7), np.array([0, 1, 0, 1, 0, 1, 0])
    found = repeats(np.array(pixels), y, train, test)
    rows = repeated_images.Rows([f"i{k}" for k in range(7)], test, y, ("cat", "dog"))
    return repeated_images.measure(found, rows, [repeated_images.Answers(("m",), np.array(right))])


def test_accuracy_without_repeats_counts_the_other_images_alone() -> None:
    m = _repeated(list("abcd") + list("bxy"), [True, False, True])
    assert (m.count, m.n_test, m.against) == (1, 3, 1)
    table = repeated_images.without_table(m, "without", [Column("model", "model")])
    (row,) = table.records()
    assert (row["accuracy"], row["n"]) == (pytest.approx(2 / 3), 3)
    assert (row["accuracy_without"], row["n_without"]) == (0.5, 2)
    assert repeated_images.pairs_table(m).rows == (("i4", "cat", "i1", "dog"),)
    assert "bear another class" in repeated_images.cautions(m)[0]
    assert "50.0 % of 2" in repeated_images.finding(m, "the probe", m.accuracies[0]).text


def test_where_every_test_image_is_a_training_image_no_accuracy_is_made_up() -> None:
    m = _repeated(list("abcd") + list("abc"), [True, True, True])
    assert m.accuracies[0].without is None
    assert repeated_images.finding(m, "the probe", m.accuracies[0]).kind == "caution"
    assert repeated_images.without_table(m, "without", [Column("model", "model")]).column("accuracy_without") == (None,)


def test_without_repeats_nothing_is_said() -> None:
    assert repeated_images.cautions(_repeated(list("abcdxyz"), [True, True, True])) == []


@pytest.mark.parametrize(
    ("given", "words"), [(None, []), ("a, b", ["a", "b"]), (["a,b", " c "], ["a", "b", "c"]), (["", ","], [])]
)
def test_lists_may_be_repeated_or_separated_by_commas(given: str | list[str] | None, words: list[str]) -> None:
    assert split_commas(given) == words


def test_a_part_that_is_no_number_is_one_line() -> None:
    assert split_numbers("1e-3,2", float, wrong="") == [1e-3, 2.0]
    with pytest.raises(SpecError, match="rates"):
        split_numbers(["1", "x"], float, wrong="--lr holds rates, as 1e-4,3e-4")
