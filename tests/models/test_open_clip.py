"""open_clip's pretrained pairs: what is built for ARCH@TAG is what the tag's weights were trained with, in both doors, for every pair."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from PIL import Image

from visus.models import from_openclip
from visus.models.from_openclip import preprocess_of
from visus.spec import Spec

PAIRS = open_clip.list_pretrained()


class Recorded(torch.nn.Module):
    """Stands for open_clip's CLIP: keeps what it is built with."""

    def __init__(self, **cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        self.visual = torch.nn.Module()
        self.visual.image_size = cfg["vision_cfg"].get("image_size", 224)


@contextmanager
def recorded():
    """open_clip builds nothing and reads nothing, but goes its own way to the last call."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CLIP", "CustomTextCLIP", "CoCa"):
            patch.setattr(open_clip.factory, name, type(name, (Recorded,), {}))
        patch.setattr(open_clip.factory, "load_checkpoint", lambda *a, **k: {})
        patch.setattr(open_clip.factory, "download_pretrained", lambda *a, **k: __file__)
        for fetch in ("hub_file", "url_file"):
            patch.setattr(from_openclip, fetch, lambda *a, **k: Path(__file__))
        yield


def built(model: Recorded) -> tuple[str, dict[str, Any]]:
    cfg = {k: v for k, v in model.cfg.items() if k not in ("quick_gelu", "cast_dtype")}
    return type(model).__name__, cfg


@pytest.mark.parametrize("random", [False, True])
def test_every_pretrained_pair_is_built_as_its_weights_want_it(random):
    assert len(PAIRS) > 150
    wrong, seen = {}, set()
    with recorded():
        for arch, tag in PAIRS:
            text = f"openclip:{arch}@{tag}" + "?weights=none" * random
            ours = from_openclip.open_named(
                Spec("openclip", arch, tag, {"weights": "none"} if random else {}, text), download=False
            )
            with pytest.warns(UserWarning, match="QuickGELU") if _mismatch(arch, tag) else _quiet():
                theirs = open_clip.create_model(arch, pretrained=tag, pretrained_text=False)
            tagged = open_clip.get_pretrained_cfg(arch, tag)
            # The weights' activation is said by the tag, by the architecture (the '-quickgelu' ones, roberta-ViT-B-32), or by both.
            quick = bool(tagged.get("quick_gelu") or theirs.cfg.get("quick_gelu"))
            same = (
                bool(ours.cfg.get("quick_gelu")) == quick
                and built(ours) == built(theirs)
                and ours.visual.preprocess_cfg == theirs.visual.preprocess_cfg
            )
            if not same:
                wrong[arch, tag] = (ours.cfg, theirs.cfg)
            seen.add(tuple(sorted(ours.visual.preprocess_cfg.items())))
    assert not wrong
    _pixels(seen)


def _mismatch(arch: str, tag: str) -> bool:
    said = bool(open_clip.get_model_config(arch).get("quick_gelu"))
    return said != bool(open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu"))


@contextmanager
def _quiet():
    yield


def _pixels(seen) -> None:
    """Every distinct preprocessing of the pairs gives open_clip's own pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (61, 29, 3), np.uint8)
    picture = Image.fromarray(noise)
    for items in seen:
        cfg = dict(items)
        theirs = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**cfg), is_train=False)(
            picture
        )
        preprocess = preprocess_of(cfg)
        ours = preprocess.normalize(torch.from_numpy(preprocess(picture))[None])[0]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "tag", "quick"),
    [("RN50", "openai", True), ("RN50-quickgelu", "cc12m", True), ("ViT-B-32", "laion2b_s34b_b79k", False)],
)
def test_the_activation_of_a_tag_is_in_both_towers(arch, tag, quick):
    model = from_openclip.open_named(Spec("openclip", arch, tag, {"weights": "none"}, ""), download=False)
    towers = model.transformer, *([model.visual.transformer] if "ViT" in arch else [])
    for tower in towers:
        found = {type(m) for m in tower.modules() if isinstance(m, (QuickGELU, torch.nn.GELU))}
        assert found == ({QuickGELU} if quick else {torch.nn.GELU})
