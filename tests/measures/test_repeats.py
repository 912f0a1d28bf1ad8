"""The same image twice, against a slow loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from visus.measures.repeats import repeats


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.sampled_from("abt")), min_size=1, max_size=24))
def test_against_a_slow_loop(rows: list[tuple[int, int, str]]) -> None:
    pixels = np.array([f"h{p}" for p, _, _ in rows])
    y = np.array([c for _, c, _ in rows])
    part = np.array([s for _, _, s in rows])
    fit, val, test = (np.flatnonzero(part == s) for s in "abt")
    train = np.sort(np.concatenate([fit, val]))
    found = repeats(pixels, y, train, test, [(fit, val)])
    for k, i in enumerate(test):
        equal = [j for j in train if pixels[j] == pixels[i]]
        assert found.duplicate_of[k] == (equal[0] if equal else -1)
        assert found.against[k] == any(y[j] != y[i] for j in equal)
    assert found.count == sum(any(pixels[j] == pixels[i] for j in train) for i in test)
    assert found.within == len(test) - len({pixels[i] for i in test})
    assert found.validation == sum(any(pixels[j] == pixels[i] for j in fit) for i in val)
    assert found.n_validation == len(val)
    unlabelled = repeats(pixels, None, train, test)
    assert np.array_equal(unlabelled.duplicate_of, found.duplicate_of)
    assert not unlabelled.against.any()
