"""What a library would print on its own account, and nobody asked for, is not printed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.features import tiny

from visus.features import extract
from visus.models import load_backbone


def test_transformers_says_nothing_of_a_loss_that_nobody_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from transformers import ViTConfig, ViTImageProcessor, ViTModel
    from transformers.utils import logging as theirs

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=16)).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    theirs.get_logger("transformers.modeling_utils").warning_once.__func__.cache_clear()
    logger.addHandler(handler)
    try:
        features = extract(tiny.noise(3), load_backbone(str(tmp_path)), ["late"], engine="openvino")
    finally:
        logger.removeHandler(handler)
    assert features.cost["engine"] == "openvino"
    assert not [line for line in said if "loss_type" in line]
