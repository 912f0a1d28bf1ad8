"""What a training is told apart by: names are not enough, since files and weights change under them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.features import tiny

from visus.errors import DataError
from visus.training import from_scratch
from visus.training.from_scratch import Plan
from visus.training.parts import Parts
from visus.training.vectors import read_vectors


def content(**changed: Any) -> dict[str, Any]:
    parts = Parts(np.arange(4), np.arange(4, 6), np.arange(6, 8))
    given = {"parts": parts, "teacher": None, "vectors": None, **changed}
    return Plan.content(SimpleNamespace(**given))  # type: ignore[arg-type]


def test_a_teacher_counts_by_its_weights_and_vectors_by_their_numbers(tmp_path: Path) -> None:
    teacher = tiny.backbone()
    first = content(teacher=teacher)
    assert content(teacher=tiny.backbone()) == first
    teacher.module.head.weight.data.add_(1e-3)  # type: ignore[union-attr, operator]
    assert content(teacher=teacher) != first
    file = tmp_path / "glove.txt"
    file.write_text("red 1 2\nblue 3 1\n")
    before = content(vectors=read_vectors(file))
    assert content(vectors=read_vectors(file)) == before
    file.write_text("red 1 2\nblue 3 2\n")
    assert content(vectors=read_vectors(file)) != before


def test_the_same_numbers_of_other_pictures_in_the_parts_are_another_split() -> None:
    assert content() == content()
    assert content(parts=Parts(np.arange(1, 5), np.array([0, 5]), np.arange(6, 8))) != content()


def test_a_folder_of_another_teacher_is_refused(tmp_path: Path) -> None:
    teacher = tiny.backbone()
    plan = SimpleNamespace(
        parts=SimpleNamespace(train=np.arange(4)), recipe=SimpleNamespace(batch=2), folder=tmp_path, describe=lambda: {"teacher": "tiny"},
        content=lambda: content(teacher=teacher),
    )  # fmt: skip
    images = tiny.noise(4)
    from_scratch.claim(plan, "vit", images)  # type: ignore[arg-type]
    from_scratch.claim(plan, "vit", images)  # type: ignore[arg-type]
    teacher.module.head.bias.data.add_(1)  # type: ignore[union-attr, operator]
    with pytest.raises(DataError, match="other settings or images"):
        from_scratch.claim(plan, "vit", images)  # type: ignore[arg-type]
