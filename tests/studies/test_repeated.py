"""The same image in training and in test: found by its pixels in the one pass, named, counted, and taken out beside."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.studies.repeated_folder import folder

import visus
from visus.images import load_images
from visus.progress import collecting
from visus.studies.common.schema1 import Table
from visus.studies.vae import report as vae_report
from visus.studies.vae import subject as vae_subject


def columns(table: Table, *names: str) -> list[tuple]:
    at = [table.columns.index(n) for n in names]
    return [tuple(row[i] for i in at) for row in table.rows]


@pytest.mark.slow
def test_poolings_of_a_vit_are_judged_without_them_too(tmp_path: Path) -> None:
    result = visus.vit(
        model=["timm:test_vit?weights=none"], images=str(folder(tmp_path)), part=["pooling"], controls=False
    )
    rows = columns(result.tables["pooling without repeats"], "pooling", "n", "n ")
    assert {row[1:] for row in rows} == {(24, 16)}
    assert {row[0] for row in rows} >= {"CLS", "mean"}
    assert len(result.tables["repeated images"].rows) == 8
    assert any("8 of 24 test images" in w for w in result.warnings)


def test_a_vae_is_judged_without_them_too(tmp_path: Path) -> None:
    with collecting() as remarks:
        subject = vae_subject.load(load_images(str(folder(tmp_path))), size=None, channels=None, seed=0)
    assert any("the same image in test and in training: " in c and "of 24 test pictures" in c for c in remarks.cautions)
    taught = {p.tobytes() for p in subject.train}
    again = np.array([p.tobytes() in taught for p in subject.test])
    assert subject.repeated is not None
    assert again.any()
    assert np.array_equal(subject.repeated, again)
    rng = np.random.default_rng(1)
    bound, likelihood = rng.normal(size=24), rng.normal(size=10)
    judged = SimpleNamespace(
        name="mine",
        bounds=SimpleNamespace(reconstruction=bound, kl=np.zeros(24)),
        likelihood=SimpleNamespace(per_image=likelihood),
    )
    rows = vae_report.without_repeats(again, [judged]).rows  # type: ignore[list-item]
    for row, values in zip(rows, (bound, likelihood), strict=True):
        left = values[~again[: len(values)]]
        assert (row[2], row[5], row[6], row[9]) == (values.mean(), len(values), left.mean(), len(left))
