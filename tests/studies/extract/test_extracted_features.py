"""What is told of an extraction, on one made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from tests.studies.told import check

from visus.images import Quarantined
from visus.studies.extract import features


def extracted(*, cached: bool) -> Any:
    class Extraction:
        folders: ClassVar = {"early": "/store/a", "late": "/store/b"}
        cost: ClassVar = {"cached": True} if cached else {"images_per_second": 812.4}
        quarantine = (Quarantined("torn.png", "truncated"),)

        def __len__(self) -> int:
            return 1200

        def blocks(self, name: str, size: int) -> Any:
            yield np.zeros((size, 64 if name == "early" else 512), np.float32)

    return Extraction()


@pytest.mark.parametrize("cached", [False, True])
def test_every_layer_names_its_folder_shape_and_width(cached: bool) -> None:
    taps = (SimpleNamespace(name="early", shape=(64, 28, 28)), SimpleNamespace(name="late", shape=(512,)))
    backbone: Any = SimpleNamespace(spec="timm:net", taps=taps)
    images: Any = SimpleNamespace(quarantine=())
    told = check(features, features.measure(images, backbone, extracted(cached=cached)))
    assert told.tables[0].rows == (("early", "64×28×28", 1200, 64, "/store/a"), ("late", "512", 1200, 512, "/store/b"))
    assert told.tables[1].rows == (("torn.png", "truncated"),)
    speed = "they were in the store already" if cached else "at 812 images/s"
    assert told.findings[0].text == f"1,200 images went through timm:net once, 2 layers tapped; {speed}."
    assert told.metrics[0].value == 1200
    assert told.figures == ()
