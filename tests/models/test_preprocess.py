"""Each library's own evaluation transform, on photographs, odd sizes, and pictures smaller than the crop."""

from __future__ import annotations

import json

import numpy as np
import pytest
import skimage
import torch
import transformers
from open_clip.transform import image_transform
from PIL import Image
from timm.data import create_transform
from torchvision import models

from visus.models.from_openclip import preprocess_of as from_openclip
from visus.models.from_timm import from_data_config
from visus.models.from_torchvision import preprocess_of as from_torchvision
from visus.models.preprocess import Preprocess
from visus.models.preprocess_hf import fitted
from visus.models.processors import revived

PHOTOS = [skimage.data.chelsea(), skimage.data.astronaut()[:333, :201], skimage.data.coffee()[:97, :301]]
PICTURES = [Image.fromarray(p) for p in PHOTOS] + [
    Image.fromarray(PHOTOS[0]).resize((s, t)) for s, t in ((31, 47), (224, 224), (225, 223))
]


def ours(preprocess: Preprocess, picture: Image.Image) -> torch.Tensor:
    array = preprocess(picture)
    assert array.dtype == np.uint8
    assert array.shape == (*preprocess.size, 3)
    assert array.flags.c_contiguous
    return preprocess.normalize(torch.from_numpy(array)[None])[0]


def levels(a: torch.Tensor, b: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """Difference in grey levels of 0 to 255."""
    return (a - b).abs() * torch.tensor(preprocess.std).view(3, 1, 1) * 255


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(3, 224, 224), (3, 96, 96), (3, 64, 96)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_timm(mode, size, interpolation):
    cfg = {
        "input_size": size,
        "crop_pct": 0.9,
        "crop_mode": mode,
        "interpolation": interpolation,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
    }
    preprocess, transform = from_data_config(cfg), create_transform(**cfg)
    for picture in PICTURES:
        torch.testing.assert_close(ours(preprocess, picture), transform(picture), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "vit_b_16", "swin_v2_t", "inception_v3"])
def test_torchvision(name):
    weights = models.get_model_weights(name).DEFAULT
    preprocess, transform = from_torchvision(weights), weights.transforms()
    for picture in PICTURES:
        torch.testing.assert_close(ours(preprocess, picture), transform(picture), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_open_clip(mode):
    cfg = {
        "size": (96, 96),
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
        "interpolation": "bicubic",
        "resize_mode": mode,
        "fill_color": 7,
    }
    preprocess = from_openclip(cfg)
    transform = image_transform(
        96, is_train=False, mean=cfg["mean"], std=cfg["std"], resize_mode=mode, interpolation="bicubic", fill_color=7
    )
    for picture in PICTURES:
        torch.testing.assert_close(ours(preprocess, picture), transform(picture), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("ViTImageProcessor", {}),
        ("CLIPImageProcessor", {}),
        ("SiglipImageProcessor", {}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
        ("BitImageProcessor", {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}),
        ("EfficientNetImageProcessor", {"rescale_offset": True}),
    ],
)
def test_transformers(name, kwargs):
    """Its torchvision backend resizes tensors, not Pillow images: at most three grey levels apart, a quarter of one on average."""
    processor = getattr(transformers, name)(**kwargs)
    preprocess = fitted(revived(json.dumps(processor.to_dict(), default=int)), name)
    for picture in PICTURES:
        theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
        off = levels(ours(preprocess, picture), theirs, preprocess)
        assert off.max() <= 3.01, (picture.size, float(off.max()))
        assert off.mean() < 0.25, (picture.size, float(off.mean()))
