"""transformers' image processors: our pixels are the processor's own, or it is refused by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models._hub import save_for_hf
from torchvision import models
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from visus.errors import DataError
from visus.models import load_backbone, preprocess_hf
from visus.models.from_timm import from_data_config
from visus.models.from_torchvision import preprocess_of
from visus.models.preprocess import Preprocess
from visus.models.preprocess_hf import fitted
from visus.training.batches import at_size, canvas

ODD = [(53, 37), (29, 61), (211, 303)]  # other sizes than those that are tried when a model is loaded


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))


def ours(preprocess: Preprocess, image: Image.Image) -> torch.Tensor:
    array = preprocess(image)
    assert array.shape == (*preprocess.size, 3)
    assert array.dtype == preprocess.dtype
    assert array.flags.c_contiguous
    return preprocess.normalize(torch.from_numpy(array)[None])[0]


def check(processor, preprocess: Preprocess, pictures) -> None:
    for image in pictures:
        found = processor(image, return_tensors="pt")
        theirs = (found if isinstance(found, torch.Tensor) else found["pixel_values"])[0].float()
        torch.testing.assert_close(ours(preprocess, image), theirs, rtol=0, atol=1e-4)


def classes() -> list[str]:
    found: set[str] = set()
    for entry in IMAGE_PROCESSOR_MAPPING_NAMES.values():
        found |= {n for n in (entry.values() if hasattr(entry, "values") else entry) if n}
    return sorted(found)


def small(cls):
    """The processor by its defaults; where those are large pictures, at a smaller size, so that the test stays quick."""
    processor = cls()
    size = {k: v for k, v in dict(getattr(processor, "size", None) or {}).items() if v}
    smaller = {k: (96 if k != "width" else 80) if v > 100 else v for k, v in size.items() if isinstance(v, int)}
    if (
        size
        and max(size.values(), default=0) > 300
        and set(size) in ({"height", "width"}, {"shortest_edge", "longest_edge"})
    ):
        try:
            return cls(size=smaller)
        except (ValueError, TypeError):
            return processor
    return processor


# By their nature: no picture of one fixed size, more than one picture, or patches.
REFUSED = "no fixed size|something else|of a picture alone"


@pytest.mark.parametrize("backend", ["", "Pil"])
def test_every_processor_gives_its_own_pixels_or_is_refused(backend):
    exact, refused, wrong = {}, {}, {}
    for name in classes():
        if name.endswith("Pil") != bool(backend):
            continue
        cls = getattr(transformers, name)
        try:
            processor = small(cls)
        except TypeError:  # TimmWrapperImageProcessor is nothing without its model's settings
            continue
        try:
            preprocess = fitted(processor, "some/model")
        except DataError as error:
            refused[name] = str(error)
            continue
        try:
            check(processor, preprocess, [picture(*size) for size in ODD[: 1 + (max(preprocess.size) < 500)]])
        except AssertionError as error:
            wrong[name] = error
        exact[name] = preprocess
    assert not wrong
    assert all(name in text and "\n" not in text for name, text in refused.items())
    assert all(any(w in text for w in REFUSED.split("|")) for text in refused.values()), refused
    needed = ("Levit", "PoolFormer", "ConvNext", "ViT", "DeiT", "Beit", "Bit", "CLIP", "Siglip", "MobileViT", "MobileNetV1", "Perceiver",
              "EfficientNet", "DPT", "Segformer", "Sam", "Owlv2", "SuperPoint", "Pvt")  # fmt: skip
    assert {f"{n}ImageProcessor{backend}" for n in needed} <= exact.keys()
    assert not exact.keys() & {
        f"{n}ImageProcessor{backend}" for n in ("Siglip2", "Qwen2VL", "ImageGPT", "Detr", "VideoMAE")
    }


def saved(folder: Path, *, kind: str = "vit", processor: dict | None = None, **config):
    """A small model of transformers on disk with the processor that it was saved with; (model, processor)."""
    sizes = {"vit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
                     "patch_size": 8},
             "dinov3_vit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
                            "image_size": 32, "patch_size": 8},
             "resnet": {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForImageClassification.from_config(CONFIG_MAPPING[kind](**{**sizes[kind], **config})).eval()
    model.save_pretrained(folder)
    if processor is None:
        return model, None
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model, AutoImageProcessor.from_pretrained(folder)


VIT = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "resample": 2}
PROCESSORS = {
    "levit": {"feature_extractor_type": "LevitFeatureExtractor", "size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
    "poolformer": {"image_processor_type": "PoolFormerImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.9,
                   "crop_size": {"height": 32, "width": 32}},
    "convnext": {"image_processor_type": "ConvNextImageProcessorFast", "size": {"shortest_edge": 32}, "crop_pct": 0.875},
    "mobilevit": {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32},
                  "do_flip_channel_order": True},
    "efficientnet": {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 32, "width": 32}, "include_top": True,
                     "rescale_offset": True},
    "dinov3": {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 32, "width": 32}},
    "no normalising": {**VIT, "do_normalize": False},
    "no rescaling": {**VIT, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3},
    "old size": {"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]},
    "lanczos": {**VIT, "resample": 1},
    "nearest": {**VIT, "resample": 0},
    "no resizing": {"image_processor_type": "BitImageProcessor", "do_resize": False, "crop_size": {"height": 32, "width": 32}},
}  # fmt: skip


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_folder_is_prepared_as_its_preprocessor_config_says(name, tmp_path):
    model, processor = saved(tmp_path, processor=PROCESSORS[name])
    backbone = load_backbone(str(tmp_path))
    pictures = [picture(*size) for size in ODD]
    check(processor, backbone.preprocess, pictures)
    with torch.no_grad():
        logits = model(**processor(pictures[0], return_tensors="pt")).logits
    x = backbone.preprocess.normalize(torch.from_numpy(backbone.preprocess(pictures[0]))[None])
    torch.testing.assert_close(backbone.classify(x), logits, rtol=1e-3, atol=1e-4)


GREY = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "image_mean": [0.1307],
    "image_std": [0.3081],
}


@pytest.mark.parametrize(
    "settings", [GREY, {**GREY, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_convert_rgb": True}, None]
)
@pytest.mark.parametrize("kind", ["vit"])
def test_a_grey_model_sees_the_grey_of_a_picture(kind, settings, tmp_path):
    model, processor = saved(tmp_path, kind=kind, num_channels=1, processor=settings)
    backbone = load_backbone(str(tmp_path))
    if processor is None:
        processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5], image_std=[0.5])
    processor.do_convert_rgb = False
    image = picture(53, 37)
    if len(processor.image_mean) == 3:
        processor.image_mean, processor.image_std = [0.5], [0.5]
    theirs = processor(image.convert("L"), return_tensors="pt")["pixel_values"]
    assert theirs.shape == (1, 1, 32, 32)
    found = backbone.preprocess.normalize(torch.from_numpy(backbone.preprocess(image))[None])
    torch.testing.assert_close(found, theirs, rtol=0, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(backbone.classify(found), model(theirs).logits, rtol=1e-4, atol=1e-5)
    late = backbone.forward(found, backbone.resolve(["early", "late"]))
    assert len(late) == 2


def test_a_grey_model_without_one_mean_is_refused(tmp_path):
    saved(tmp_path, num_channels=1, processor={**GREY, "image_mean": [0.4, 0.5, 0.6]})
    with pytest.raises(DataError, match="3 different values"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize("channels", [4, 12])
def test_other_channels_are_refused_in_one_line(channels, tmp_path):
    saved(tmp_path / "hf", num_channels=channels, processor=VIT)
    model = timm.create_model("resnet18", in_chans=channels, num_classes=3)
    save_for_hf(model, str(tmp_path / "timm"), safe_serialization=True)
    for spec in (tmp_path / "hf", tmp_path / "timm"):
        with pytest.raises(DataError, match=f"{channels} channels") as error:
            load_backbone(str(spec))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "said", [None, {"mean": (0.1307,), "std": (0.3081,), "input_size": (1, 28, 28), "crop_pct": 1.0}]
)
def test_a_grey_timm_model_is_prepared_as_timm_prepares_it(said, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = timm.create_model("resnet18", in_chans=1, num_classes=3, pretrained_cfg_overlay=said).eval()
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    cfg = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    kept = {k: tuple(v) if isinstance(v, list) else v for k, v in cfg.items()}
    transform = create_transform(
        **{k: kept[k] for k in ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")}
    )
    backbone = load_backbone(str(tmp_path))
    image = picture(53, 37)
    theirs = transform(image.convert("L"))[None]
    found = backbone.preprocess.normalize(torch.from_numpy(backbone.preprocess(image))[None])
    torch.testing.assert_close(found, theirs, rtol=0, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(backbone.classify(found), model(theirs), rtol=1e-4, atol=1e-4)


def test_what_is_taken_without_a_preprocessor_config_is_noted(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(preprocess_hf, "note", said.append)
    saved(tmp_path)
    assert load_backbone(str(tmp_path)).preprocess.size == (32, 32)
    assert len(said) == 1
    assert "ViTImageProcessor" in said[0]
    assert "32 × 32" in said[0]


def test_a_processor_survives_saving_and_other_sizes(tmp_path):
    """Training makes larger canvases and smaller pictures of it, and a trained folder keeps it."""
    processor = transformers.LevitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    preprocess = fitted(processor, "some/model")
    assert preprocess.processor
    back = Preprocess(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(json.dumps(asdict(preprocess))).items()}
    )
    assert back == preprocess
    check(processor, back, [picture(53, 37)])
    for other in (canvas(preprocess), at_size(preprocess, 16)):
        array = other(picture(53, 37))
        assert array.shape == (*other.size, 3)
        assert array.dtype == np.uint8


def test_every_timm_and_torchvision_transform_is_the_librarys_own():
    image = picture(29, 61)
    theirs: dict[str, tuple] = {}
    for name in [*timm.list_pretrained(), *timm.list_models()]:
        cfg = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        if max(cfg["input_size"]) <= 320:
            theirs.setdefault(repr(sorted(cfg.items())), (from_data_config(cfg), create_transform(**cfg)))
    assert len(theirs) > 80
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            theirs.setdefault(repr(weights.transforms()), (preprocess_of(weights), weights.transforms()))
    for what, (preprocess, transform) in theirs.items():
        found = ours(preprocess, image)
        expected = transform(image)
        assert found.shape == expected.shape, what
        assert float((found - expected).abs().max()) <= 1e-4, what
