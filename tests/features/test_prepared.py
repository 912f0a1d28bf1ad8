"""Images are decoded once for networks that see them the same way, and never more of them kept than there is room for."""

from __future__ import annotations

import numpy as np
import pytest
from tests.features import tiny

from visus.features import extract, prepared
from visus.features.prepared import PreparedImage, Shelf, decoded_once


def reads(images: object) -> list[int]:
    found: list[int] = images.source.reads  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_second_network_decodes_nothing(engine: str) -> None:
    images, models = tiny.noise(9), [tiny.backbone(0), tiny.backbone(1)]
    with decoded_once():
        first = extract(images, models[0], ["body"], engine=engine, batch=2)
        reads(images).clear()
        second = extract(images, models[1], ["body"], engine=engine, batch=2)
    assert reads(images) == []
    assert list(first.pixels) == list(second.pixels)
    for features, model in zip((first, second), models, strict=True):
        np.testing.assert_allclose(features["body"], tiny.reference(images, model, "body"), rtol=1e-4, atol=1e-4)


def test_outside_of_the_block_nothing_stays() -> None:
    images = tiny.noise(4)
    with decoded_once():
        extract(images, tiny.backbone(0), ["body"], engine="torch")
    reads(images).clear()
    extract(images, tiny.backbone(1), ["body"], engine="torch")
    assert sorted(set(reads(images))) == [0, 1, 2, 3]


def test_what_cannot_be_decoded_is_set_aside_for_every_network() -> None:
    images = tiny.plain_images(6, broken=(2,))
    with decoded_once():
        found = [extract(images, tiny.backbone(seed), ["body"], engine="torch", batch=4) for seed in (0, 1)]
    assert [[q.id for q in f.quarantine] for f in found] == [["p/2.png"]] * 2


def test_a_subset_finds_the_images_of_its_set() -> None:
    images = tiny.noise(6)
    part = images.subset(np.array([4, 1]))
    with decoded_once():
        extract(images, tiny.backbone(0), ["body"], engine="torch")
        reads(images).clear()
        features = extract(part, tiny.backbone(1), ["body"], engine="torch")
    assert reads(images) == []
    np.testing.assert_allclose(features["body"], tiny.reference(part, tiny.backbone(1), "body"), rtol=1e-4, atol=1e-4)


def test_a_shelf_has_room_for_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    image = PreparedImage(np.zeros((2, 2, 3), np.uint8), b"")
    monkeypatch.setattr(prepared, "BUDGET", 2 * image.pixels.nbytes)
    shelf = Shelf()
    for row in (0, 0, 1, 2):
        shelf.put(row, image)
    assert [shelf.take(row) is image for row in (0, 1, 2, 0)] == [True, True, False, True]
