"""Splits by protocol P0: test used once, choices made on validation, no group on two sides, all decided by the seed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.images.protocols import ImageColumns
from visus.progress import caution

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
FOLDS, FEW = 5, 2000  # five folds when there are fewer training images than FEW


@dataclass(frozen=True)
class Splits:
    """Positions in an ImageSet, int64, ascending.

    train: everything but test, what the final model is fitted on. folds: pairs (fit, val) for choosing hyperparameters,
    each a partition of train, or of a part of it (one pair, or five whose val parts add up to train). test: used once.
    """

    train: np.ndarray
    folds: tuple[tuple[np.ndarray, np.ndarray], ...]
    test: np.ndarray


def split(imageset: ImageColumns, *, seed: int) -> Splits:
    """Train, validation folds and test of an image set, the same for the same set and seed.

    Declared test images are the test set; else a stratified fifth. Declared validation images are the one fold; else a
    stratified tenth of train, or five stratified folds where train has under 2,000 images. Images that a set with declared
    train images leaves undeclared are left out, and so are, where a set declares none, those that share a group with declared
    ones. Every class keeps its share as nearly as whole images allow and has at least one image on either side of the test split.
    With groups, which stay whole, shares are as near as the groups allow
    (scikit-learn's StratifiedGroupKFold). Unlabelled sets are split at random.
    Raises DataError: declared splits that overlap or share a group; one class only; a class with a single image where a
    test split must be made; too few images or groups to split.
    """
    n = len(imageset)
    labels = np.zeros(n, np.int64) if imageset.labels is None else np.asarray(imageset.labels, np.int64)
    labelled, groups = imageset.labels is not None, imageset.groups
    declared = _declared(imageset)
    rng = np.random.default_rng(seed)
    train, val, test = (declared.get(k, np.empty(0, np.int64)) for k in ("train", "validation", "test"))
    if not len(train):
        train = np.setdiff1d(np.arange(n, dtype=np.int64), np.concatenate([val, test]))
        train = _apart(imageset, train, np.concatenate([val, test]))
    if labelled:
        _check_classes(imageset, labels, np.concatenate([train, val]), untested=not len(test))
    if not len(test):
        taken = _part(labels, groups, train, TEST_SHARE, rng, name=imageset.name)
        test, train = train[taken], train[~taken]
    if len(val):
        folds = [(train, val)]
    elif len(train) >= FEW:
        taken = _part(labels, groups, train, VALIDATION_SHARE, rng, name=imageset.name)
        folds = [(train[~taken], train[taken])]
    else:
        number = _folds(labels, groups, train, FOLDS, rng, name=imageset.name)
        folds = [(train[number != k], train[number == k]) for k in np.unique(number)]
    result = Splits(
        np.sort(np.concatenate([train, val])), tuple((np.sort(a), np.sort(b)) for a, b in folds), np.sort(test)
    )
    _check_result(imageset, labels, result, labelled=labelled)
    if labelled:
        _say_classes(imageset, labels, result)
    return result


def sampled(imageset: ImageColumns, n: int | None, *, seed: int, by_class: bool = False) -> np.ndarray | None:
    """Positions of n images, ascending: a random sample in which every class of every declared split keeps its share.

    by_class: the sample is to be split for a study of its classes: every class keeps what that needs, two images at least (see
    `_needed`), and an n too small for it is refused with the least that would do. Otherwise rare classes keep one image at least,
    or two or three where n is large enough. None, for all of them, where n is None or at least the set's size. Raises DataError when n < 1.
    """
    if n is not None and n < 1:
        raise DataError(f"--limit must be at least 1, not {n}")
    if n is None or n >= len(imageset):
        return None
    part = np.zeros(len(imageset), np.int64)
    names = sorted(imageset.declared)
    for number, name in enumerate(names, start=1):
        part[imageset.declared[name]] = number
    labels = np.zeros(len(imageset), np.int64) if imageset.labels is None else np.asarray(imageset.labels, np.int64)
    cells, cell = np.unique(np.stack([part, labels]), axis=1, return_inverse=True)
    counts = np.bincount(cell.ravel())
    roomy = n // len(counts)
    least = np.minimum(counts, 3 if roomy >= 6 else 2 if roomy >= 3 else min(roomy, 1))
    needed = np.minimum(counts, _needed(["", *names], cells))
    if needed.sum() <= n:
        least = np.maximum(least, needed)
    elif by_class and imageset.labels is not None:
        classes, parts = len(np.unique(cells[1])), len(np.unique(cells[0]))
        raise DataError(
            f"--limit {n} of the {len(imageset):,} images of {imageset.name} cannot keep what its {classes} classes need"
            f"{f' in {parts} declared parts' if parts > 1 else ''}, two images a class at least; give --limit {int(needed.sum())} or more"
        )
    take = allocate(counts, n, low=least, high=counts)
    chosen = _draw(cell.ravel(), take, np.random.default_rng(seed))
    return np.flatnonzero(chosen)


def _needed(names: list[str], cells: np.ndarray) -> np.ndarray:
    """int64 [cells]: how many images of every (part, class) a split and its folds need. names: of the parts, '' what is undeclared.

    Two to train on, so that a fold can hold one out; one where they are tested or validated. What is undeclared beside declared
    training images is not used, and elsewhere gives the test image as well: two in all, of two classes three, as a fold must keep both.
    """
    declared = {names[number] for number in cells[0]} - {""}
    # Nobody trains on what is left over beside declared training images.
    rest = 0 if "train" in declared else 2 if "test" in declared else 3 if len(np.unique(cells[1])) == 2 else 2
    train = 2 if "test" in declared else 3 if len(np.unique(cells[1])) == 2 else 2
    needs = {"": rest, "train": train, "validation": 1, "test": 1}
    return np.array([needs.get(names[number], 1) for number in cells[0]], np.int64)


def allocate(counts: np.ndarray, total: int, *, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Share `total` among cells in proportion to `counts` (int64 [k]) by largest remainders, within low <= share <= high.

    Where the bounds leave no room the sum differs from `total`: the bounds win. Ties go to the first cell.
    """
    exact = counts * (total / max(int(counts.sum()), 1))
    share = np.clip(np.floor(exact).astype(np.int64), low, high)
    while (missing := total - int(share.sum())) != 0:
        step = 1 if missing > 0 else -1
        open_ = share < high if step > 0 else share > low
        if not open_.any():
            break
        need = np.where(open_, step * (exact - share), -np.inf)
        best = np.argsort(-need, kind="stable")[: min(abs(missing), int(open_.sum()))]
        share[best] += step
    return share


def _draw(cell: np.ndarray, take: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool [n]: take[c] random members of every cell c."""
    shuffled = rng.permutation(len(cell))
    order = shuffled[np.argsort(cell[shuffled], kind="stable")]
    counts = np.bincount(cell, minlength=len(take))
    rank = np.arange(len(cell)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(len(cell), bool)
    chosen[order] = rank < np.repeat(take, counts)
    return chosen


def _part(
    labels: np.ndarray,
    groups: np.ndarray | None,
    pool: np.ndarray,
    share: float,
    rng: np.random.Generator,
    *,
    name: str,
) -> np.ndarray:
    """bool [len(pool)]: a stratified `share` of the pool, groups whole."""
    if groups is None:
        _, cell = np.unique(labels[pool], return_inverse=True)
        counts = np.bincount(cell, minlength=1)
        both = np.minimum(counts - 1, 1).clip(0)  # a class of two or more gives one and keeps one
        return _draw(cell, allocate(counts, round(share * len(pool)), low=both, high=counts - both), rng)
    number = _folds(labels, groups, pool, round(1 / share), rng, name=name)
    sizes = np.bincount(number)
    sizes = np.where(sizes > 0, sizes, np.iinfo(np.int64).max // 2)
    return np.asarray(number == int(np.argmin(np.abs(sizes - share * len(pool)))))


def _folds(
    labels: np.ndarray, groups: np.ndarray | None, pool: np.ndarray, k: int, rng: np.random.Generator, *, name: str
) -> np.ndarray:
    """int64 [len(pool)]: the fold of every image, stratified, groups whole; fewer than k where there is too little."""
    if groups is None:
        shuffled = rng.permutation(len(pool))
        order = shuffled[np.argsort(labels[pool][shuffled], kind="stable")]
        number = np.empty(len(pool), np.int64)
        number[order] = np.arange(len(pool)) % min(k, max(len(pool), 1))
        return number
    # Half a second, of which a run without groups, or one that splits nothing (predict, extract), has no need.
    from sklearn.model_selection import StratifiedGroupKFold

    k = min(k, len(np.unique(groups[pool])))
    if k < 2:
        raise DataError(
            f"{name} has too few groups to split; images of at least three groups are needed, or none (?groups=)"
        )
    y = labels[pool]
    # scikit-learn refuses when every class has fewer images than folds; the largest class then sets the number.
    k = max(2, min(k, int(np.bincount(y).max())))
    if int(np.bincount(y).max()) < 2:
        raise DataError(f"{name} has a single image of every class; at least three a class are needed to split it")
    splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=int(rng.integers(2**31)))
    number = np.empty(len(pool), np.int64)
    with warnings.catch_warnings():  # rare classes are accepted: the rules above say what becomes of them
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, held) in enumerate(splitter.split(np.zeros(len(pool)), y, groups[pool])):
            number[held] = fold
    return number


def _declared(imageset: ImageColumns) -> dict[str, np.ndarray]:
    declared = {k: np.unique(np.asarray(v, np.int64)) for k, v in imageset.declared.items() if len(v)}
    owner = np.full(len(imageset), -1, np.int64)
    names = list(declared)
    for number, name in enumerate(names):
        taken = declared[name][owner[declared[name]] >= 0]
        if len(taken):
            i = int(taken[0])
            raise DataError(
                f"{imageset.name}: {imageset.ids[i]!r} is declared as {names[owner[i]]} and as {name}; keep it in one"
            )
        owner[declared[name]] = number
    if imageset.groups is not None and len(names) > 1:
        groups, at = imageset.groups, np.flatnonzero(owner >= 0)
        at = at[np.argsort(groups[at], kind="stable")]
        change = (groups[at][1:] == groups[at][:-1]) & (owner[at][1:] != owner[at][:-1])
        if change.any():
            j = int(np.flatnonzero(change)[0])
            a, b = int(at[j]), int(at[j + 1])
            raise DataError(
                f"{imageset.name}: {imageset.ids[a]!r} ({names[owner[a]]}) and {imageset.ids[b]!r} ({names[owner[b]]}) are of "
                "one group, which must not straddle declared splits; move them into one, or give no groups (?groups=)"
            )
    return declared


def _apart(imageset: ImageColumns, train: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The training images without those whose group is held out; says how many."""
    if imageset.groups is None or not len(held):
        return train
    shared = np.isin(imageset.groups[train], imageset.groups[held])
    if shared.any():
        caution(
            f"{int(shared.sum()):,} images of {imageset.name} share a group with declared validation or test images, and are left out of "
            "training."
        )
    return np.asarray(train[~shared])


def _say_classes(imageset: ImageColumns, labels: np.ndarray, result: Splits) -> None:
    """Say which classes stand in one declared split only."""
    learned, asked = (
        np.bincount(labels[at], minlength=len(imageset.classes)) > 0 for at in (result.train, result.test)
    )
    for here, there, what in (
        (asked, learned, "in the test images only: no model can learn"),
        (learned, asked, "in the training images only: nothing is tested on"),
    ):
        names = [repr(_name(imageset, int(c))) for c in np.flatnonzero(here & ~there)]
        if names:
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            caution(f"{imageset.name}: {len(names)} of {len(imageset.classes)} classes stand {what} them ({shown}).")


def _check_classes(imageset: ImageColumns, labels: np.ndarray, pool: np.ndarray, *, untested: bool) -> None:
    counts = np.bincount(labels[pool], minlength=len(imageset.classes))
    present = np.flatnonzero(counts)
    if len(present) < 2:
        what = f"one class only ({_name(imageset, present[0])!r})" if len(present) else "no training images"
        raise DataError(f"{imageset.name} has {what}; at least two classes are needed")
    single = np.flatnonzero(counts == 1)
    if untested and len(single):
        named = ", ".join(repr(_name(imageset, c)) for c in single[:3]) + (" and more" if len(single) > 3 else "")
        raise DataError(
            f"{imageset.name} has a single image of {len(single)} class{'es' if len(single) > 1 else ''} ({named}); "
            "add images (one to learn from, one to test on) or remove the class"
        )


def _name(imageset: ImageColumns, label: int) -> str:
    return imageset.classes[label] if label < len(imageset.classes) else str(label)


def _check_result(imageset: ImageColumns, labels: np.ndarray, result: Splits, *, labelled: bool) -> None:
    need = 2 if labelled else 1
    thin = any(len(np.unique(labels[fit])) < need or not len(val) for fit, val in result.folds)
    if thin or not result.folds or not len(result.test):
        raise DataError(
            f"{imageset.name} has too few images or groups to split ({len(imageset)} images); "
            "give at least three images a class, in three groups if there are groups"
        )
