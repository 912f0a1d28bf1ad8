"""Masking by the engine gives what PyTorch gives, in less time: answers, probabilities, and PyTorch where the engine cannot."""

from __future__ import annotations

import numpy as np
import pytest

from visus.features.arrays import ArrayRunner
from visus.measures.masking import patch_order
from visus.models import load_backbone
from visus.models.vit import vit_layout
from visus.studies.vit import engine
from visus.studies.vit.evaluated import EvaluatedModel, PreparedImages
from visus.studies.vit.masking.curves import Curve, Hiding, WholeImages, blanked, dropped

RATIOS = (1.0, 0.7, 0.2)


def curves(model: EvaluatedModel, images: PreparedImages) -> tuple[list[Curve], WholeImages]:
    order = patch_order("random", (8, 8), len(images.raw), seed=0)
    whole = WholeImages.of(model, images, None, "cpu")
    paint = np.full((1, 1, 1, 3), 127, np.uint8)
    found = [blanked(whole, order, "random", RATIOS, Hiding((8, 8), paint))]
    return [*found, *([dropped(whole, order, "random", RATIOS)] if model.layout else [])], whole


@pytest.mark.parametrize("spec", ["visus:emoji-vit", "visus:effnet-lite0"])
def test_the_engine_gives_what_pytorch_gives(monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    pytest.importorskip("openvino")
    backbone = load_backbone(spec)
    model = EvaluatedModel(backbone, vit_layout(backbone) if "vit" in spec else None, "output")
    size = backbone.preprocess.size
    images = PreparedImages(np.random.default_rng(0).integers(0, 256, (13, *size, 3), dtype=np.uint8))
    expected, plain = curves(model, images)
    assert plain.engine is None
    monkeypatch.setattr(engine, "FEWEST", 13)
    found, whole = curves(model, images)
    assert whole.engine is not None
    assert isinstance(whole.engine.runner, ArrayRunner)
    assert whole.engine.patches == (64 if model.layout else 0)
    np.testing.assert_allclose(whole.outputs, plain.outputs, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.answers == theirs.answers).all()
        np.testing.assert_allclose(ours.chosen, theirs.chosen, rtol=1e-3, atol=1e-5)


def test_without_openvino_pytorch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone("visus:emoji-vit")
    model = EvaluatedModel(backbone, vit_layout(backbone), "output")
    images = PreparedImages(np.zeros((3, 64, 64, 3), np.uint8))
    monkeypatch.setattr(engine, "FEWEST", 1)
    monkeypatch.setattr("visus.features.arrays.choose_engine", lambda *_: "torch")
    (blank, drop), whole = curves(model, images)
    assert whole.engine is not None
    assert whole.engine.runner is None
    assert (blank.answers == blank.answers[0]).all()
    assert drop.chosen.shape == (3, 3)
