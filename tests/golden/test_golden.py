"""Every study's results are those on record. They may change only in a commit that says why; README.md here says how."""

from __future__ import annotations

import os

import pytest
from tests.golden.compare import differences
from tests.golden.record import golden, made
from tests.golden.runs import RUNS

EXACT = os.environ.get("VISUS_GOLDEN") == "exact"


@pytest.mark.parametrize("run", list(RUNS))
def test_the_result_is_the_one_on_record(run: str) -> None:
    found = differences(golden(run), made(run), exact=EXACT)
    assert not found.bad(exact=EXACT), f"{len(found.lines)} differences, expected against found:\n" + "\n".join(
        found.lines[:20]
    )


def test_numbers_are_held_to_a_tolerance_and_text_without_its_numbers() -> None:
    old = {"text": "right on 76.3 % of 59", "rows": [["a", 1.0, True, None]], "trust": {"kept": 0.5}}
    near = {"text": "right on 76.4 % of 59", "rows": [["a", 1.00005, True, None]], "trust": {"kept": 0.6}}
    assert differences(old, near, exact=False).lines == []
    assert len(differences(old, near, exact=True).lines) == 3
    for changed in (
        {**old, "text": "wrong on 76.3 % of 59"}, {**old, "rows": [["a", 1.001, True, None]]},
        {**old, "rows": [["a", 1.0, 1, None]]}, {**old, "rows": []}, {k: old[k] for k in ("text", "rows")},
    ):  # fmt: skip
        assert differences(old, changed, exact=False).bad(exact=False)
