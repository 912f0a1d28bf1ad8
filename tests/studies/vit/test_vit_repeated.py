"""The same image in training and in test: found by its pixels in the one pass, named, counted, and taken out beside."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.studies.repeated_folder import folder

import visus


@pytest.mark.slow
def test_poolings_of_a_vit_are_judged_without_them_too(tmp_path: Path) -> None:
    result = visus.vit(
        model=["timm:test_vit?weights=none"], images=str(folder(tmp_path)), part=["pooling"], controls=False
    )
    rows = result.tables["pooling-without-repeats"].records()
    assert {(r["n"], r["n_without"]) for r in rows} == {(24, 16)}
    assert {r["pooling"] for r in rows} >= {"CLS", "mean"}
    assert len(result.tables["repeated-images"].rows) == 8
    assert any("8 of 24 test images" in w for w in result.cautions)
