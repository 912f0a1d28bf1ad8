"""Splits: disjoint, exhaustive, stratified, groups whole, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visus.errors import DataError
from visus.images import ImageSet, Splits
from visus.images.split import allocate
from visus.progress import collecting


class Blank:
    """A source of n black pictures."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def read(self, i: int) -> np.ndarray:
        return np.zeros((2, 2), np.uint8)

    def digest(self) -> str:
        return "blank"


def made(labels: Sequence[int] | np.ndarray | None, n: int | None = None, **columns: object) -> ImageSet:
    y = None if labels is None else np.asarray(labels, np.int64)
    n = len(y) if y is not None else n or 0
    classes = tuple(f"class{i}" for i in range(int(y.max()) + 1)) if y is not None and n else ()
    return ImageSet("made", Blank(n), np.arange(n), tuple(str(i) for i in range(n)), y, classes, **columns)  # type: ignore[arg-type]


def check(images: ImageSet, s: Splits) -> None:
    assert len(np.intersect1d(s.train, s.test)) == 0
    assert s.train.dtype == s.test.dtype == np.int64
    assert np.all(np.diff(s.train) > 0)
    for fit, val in s.folds:
        assert len(fit)
        assert len(val)
        assert np.array_equal(np.sort(np.concatenate([fit, val])), s.train)
    if len(s.folds) > 1:
        assert np.array_equal(np.sort(np.concatenate([v for _, v in s.folds])), s.train)
    if images.groups is not None:
        g = images.groups
        for a, b in [(s.train, s.test), *s.folds]:
            assert not set(g[a]) & set(g[b])


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(3, 60), min_size=2, max_size=12), seed=st.integers(0, 2**31))
def test_plain_sets(counts: list[int], seed: int) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    images = made(y)
    s = images.split(seed=seed)
    check(images, s)
    assert np.array_equal(np.sort(np.concatenate([s.train, s.test])), np.arange(len(y)))
    assert len(s.folds) == min(5, len(s.train))
    c = np.array(counts)
    in_test = np.bincount(y[s.test], minlength=len(c))
    assert (in_test >= 1).all()
    assert (in_test < c).all()
    # A class of 3 or 4 gives one picture, more than its fifth; as the whole test part has its size, larger classes give that much less.
    assert np.abs(in_test - 0.2 * c).max() <= 1 + np.maximum(1 - 0.2 * c, 0).sum()
    in_train = c - in_test
    for _, val in s.folds:
        held = np.bincount(y[val], minlength=len(c))
        assert np.abs(held - in_train / len(s.folds)).max() < 1
    again = images.split(seed=seed)
    assert all(
        np.array_equal(a, b)
        for a, b in [(s.train, again.train), (s.test, again.test), (s.folds[0][1], again.folds[0][1])]
    )


@settings(max_examples=25, deadline=None)
@given(groups=st.integers(12, 60), classes=st.integers(2, 5), size=st.integers(1, 6), seed=st.integers(0, 1000))
def test_groups_stay_whole(groups: int, classes: int, size: int, seed: int) -> None:
    # Each group has one class, as one object photographed several times has.
    g = np.repeat(np.arange(groups), size)
    y = g % classes
    order = np.random.default_rng(seed).permutation(len(g))
    images = made(y[order], groups=g[order])
    s = images.split(seed=seed)
    check(images, s)
    assert np.array_equal(np.sort(np.concatenate([s.train, s.test])), np.arange(len(g)))
    assert 0.05 < len(s.test) / len(g) < 0.45


def test_large_sets_have_one_fold_of_a_tenth() -> None:
    y = np.arange(5000) % 10
    images = made(y)
    s = images.split(seed=3)
    check(images, s)
    assert len(s.test) == 1000
    assert [len(v) for _, v in s.folds] == [400]
    assert (np.bincount(y[s.folds[0][1]]) == 40).all()
    assert not np.array_equal(s.test, images.split(seed=4).test)
    grouped = made(y, groups=np.arange(5000) // 50)
    s = grouped.split(seed=3)
    check(grouped, s)
    assert len(s.folds) == 1
    assert len(s.folds[0][1]) == pytest.approx(400, abs=150)


def test_the_line_between_one_fold_and_five() -> None:
    for n, folds in ((2499, 5), (2500, 1)):  # a fifth is test: 1,999 and 2,000 remain
        assert len(made(np.arange(n) % 2).split(seed=0).folds) == folds


def test_declared_splits_are_honoured() -> None:
    declared = {"train": np.arange(60), "validation": np.arange(60, 80), "test": np.arange(80, 100)}
    images = made(np.arange(100) % 4, declared=declared)
    s = images.split(seed=0)
    check(images, s)
    assert np.array_equal(s.test, declared["test"])
    assert len(s.folds) == 1
    assert np.array_equal(s.folds[0][0], declared["train"])
    assert np.array_equal(s.folds[0][1], declared["validation"])
    assert np.array_equal(s.train, np.arange(80))
    only_test = made(np.arange(100) % 4, declared={"test": np.arange(5)})
    assert np.array_equal(only_test.split(seed=0).test, np.arange(5))
    only_val = made(np.arange(100) % 4, declared={"validation": np.arange(5)})
    s = only_val.split(seed=0)
    check(only_val, s)
    assert np.array_equal(s.folds[0][1], np.arange(5))
    assert len(s.test) == 19


def test_undeclared_images_are_left_out_where_train_is_declared() -> None:
    s = made(np.arange(100) % 4, declared={"train": np.arange(60), "test": np.arange(80, 100)}).split(seed=0)
    assert np.array_equal(s.train, np.arange(60))


def test_a_class_in_one_declared_split_only() -> None:
    y = [0] * 10 + [1] * 10 + [2]
    images = made(y, declared={"train": np.arange(20), "test": np.array([0, 20])[1:]})
    with collecting() as said:
        assert images.split(seed=0).test.tolist() == [20]
    assert said.cautions == [
        "made: 1 of 3 classes stand in the test images only: no model can learn them ('class2').",
        "made: 2 of 3 classes stand in the training images only: nothing is tested on them ('class0', 'class1').",
    ]


@settings(max_examples=25, deadline=None)
@given(
    groups=st.integers(15, 40),
    size=st.integers(2, 5),
    held=st.sampled_from(["test", "validation", "both"]),
    seed=st.integers(0, 99),
)
def test_groups_stay_whole_where_train_is_not_declared(groups: int, size: int, held: str, seed: int) -> None:
    """Only test (or validation) is declared, and cuts through groups: what is left of them is not trained on."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), size)
    chosen = rng.permutation(groups)[:6]
    cut = {"test": chosen[:3], "validation": chosen[3:]}
    declared = {
        k: np.concatenate([np.flatnonzero(g == c)[:1] for c in v]) for k, v in cut.items() if held in (k, "both")
    }
    images = made(g % 2, groups=g, declared=declared)
    with collecting() as said:
        s = images.split(seed=seed)
    parts = [s.test, s.train] if held == "test" else [s.test, *s.folds[0]]
    for i, a in enumerate(parts):
        for b in parts[i + 1 :]:
            assert not set(g[a]) & set(g[b])
    left_out = (size - 1) * 3 * len(declared)
    assert said.cautions[0].startswith(f"{left_out} images of made share a group with declared")
    if held == "test":
        for fit, val in s.folds:
            assert not set(g[fit]) & set(g[val])


def test_unlabelled_sets_split_at_random() -> None:
    images = made(None, n=50)
    s = images.split(seed=0)
    check(images, s)
    assert len(s.test) == 10


def test_what_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"one class only \('class0'\)"):
        made([0] * 9).split(seed=0)
    with pytest.raises(DataError, match=r"single image of 1 class \('class1'\)"):
        made([0] * 9 + [1]).split(seed=0)
    with pytest.raises(DataError, match="too few"):
        made([0, 0, 1, 1]).split(seed=0)
    with pytest.raises(DataError, match="too few groups"):
        made([0, 1] * 6, groups=np.zeros(12, np.int64)).split(seed=0)
    with pytest.raises(DataError, match="declared as train and as test"):
        made([0, 1] * 6, declared={"train": np.arange(8), "test": np.arange(7, 12)}).split(seed=0)
    with pytest.raises(DataError, match="must not straddle"):
        made([0, 1] * 6, groups=np.arange(12) // 3, declared={"train": np.arange(8), "test": np.arange(8, 12)}).split(
            seed=0
        )


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 80), min_size=1, max_size=8), n=st.integers(1, 300), seed=st.integers(0, 99))
def test_limit_keeps_shares_and_order(counts: list[int], n: int, seed: int) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    images = made(y, declared={"test": np.arange(len(y) // 3)})
    small = images.limit(n, seed=seed)
    assert len(small) == min(n, len(y))
    kept = np.array([int(i) for i in small.ids])
    assert np.all(np.diff(kept) > 0)
    assert small.labels is not None
    assert np.array_equal(small.labels, y[kept])
    assert np.array_equal(kept[small.declared["test"]], kept[kept < len(y) // 3])
    assert small.ids == images.limit(n, seed=seed).ids


def test_limit_is_proportional() -> None:
    y = np.repeat([0, 1, 2], [700, 200, 100])
    small = made(y).limit(100, seed=0)
    assert small.labels is not None
    assert np.bincount(small.labels).tolist() == [70, 20, 10]
    with pytest.raises(DataError, match="at least 1"):
        made(y).limit(0, seed=0)
    images = made(y)
    assert images.limit(None, seed=0) is images


@given(counts=st.lists(st.integers(1, 500), min_size=1, max_size=20), share=st.floats(0.01, 0.99))
def test_allocation_is_within_one_of_the_exact_share(counts: list[int], share: float) -> None:
    c = np.array(counts)
    total = round(share * c.sum())
    got = allocate(c, total, low=np.zeros_like(c), high=c)
    assert got.sum() == total
    assert np.abs(got - c * total / c.sum()).max() < 1


def test_sets_that_contradict_themselves() -> None:
    with pytest.raises(DataError, match="'0' stands for 2 images"):
        ImageSet("x", Blank(2), np.arange(2), ("0", "0"))
    with pytest.raises(DataError, match="1 labels for 2 images"):
        ImageSet("x", Blank(2), np.arange(2), ("0", "1"), np.zeros(1, np.int64), ("a",))
    with pytest.raises(DataError, match="outside its 1 classes"):
        ImageSet("x", Blank(2), np.arange(2), ("0", "1"), np.array([0, 1]), ("a",))
    with pytest.raises(DataError, match="outside its source"):
        ImageSet("x", Blank(1), np.arange(2), ("0", "1"))
    with pytest.raises(DataError, match="unknown split 'dev'"):
        made([0, 1], declared={"dev": np.arange(1)})


@pytest.mark.parametrize("counts", [(30, 30, 30), (45, 45), (60, 20, 10), (80, 5, 5), (30, 30, 30, 30, 30)])
@pytest.mark.parametrize("declared", [(), ("test",), ("train", "test"), ("train", "validation", "test")])
def test_a_limit_keeps_what_the_classes_need_or_says_the_least_that_would(
    counts: tuple[int, ...], declared: tuple[str, ...]
) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    images = made(y)
    if declared:
        # Of every five images of a class one is tested, one validated where that is declared, and three are for training.
        place = np.arange(len(y)) % 5
        parts = {"test": np.flatnonzero(place == 0), "train": np.flatnonzero(place > 0)}
        if "validation" in declared:
            parts |= {"validation": np.flatnonzero(place == 1), "train": np.flatnonzero(place > 1)}
        images = replace(images, declared={name: parts[name] for name in declared})
    refused = []
    for n in range(1, len(y)):
        try:
            small = images.limit(n, seed=0, by_class=True)
        except DataError as error:
            refused.append((n, str(error)))
            continue
        assert len(small) == n
        assert np.bincount(np.asarray(small.labels), minlength=len(counts)).min() >= 2
        small.split(seed=0)  # which raises where a class is missing
    # Refused are all below one number, which every message names.
    assert [n for n, _ in refused] == list(range(1, len(refused) + 1))
    assert len(refused) >= 2 * len(counts) - 1
    for n, message in refused:
        assert message.startswith(f"--limit {n} of the {len(y)} images of {images.name} cannot keep")
        assert message.endswith(f"give --limit {len(refused) + 1} or more")


def test_a_limit_without_classes_takes_any_number() -> None:
    images = made(np.arange(90) % 3)
    assert len(images.limit(2, seed=0)) == 2
    unlabelled = replace(images, labels=None, classes=())
    assert len(unlabelled.limit(1, seed=0, by_class=True)) == 1
    assert np.bincount(np.asarray(images.limit(6, seed=0).labels)).tolist() == [2, 2, 2]
