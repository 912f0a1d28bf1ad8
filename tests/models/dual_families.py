"""Made for test_dual_families, test_dual_families_study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from visus.images import load_images
from visus.models import dual_new
from visus.training.captions import learn_tokenizer

TEXTS = [
    "a cat",
    "A photo of a red-hot Dog, sitting",
    "tree",
    "one two three four five six seven eight nine ten eleven",
]


CLASSES, PROMPTS = ["cat", "dog", "red tree"], ["{}", "a photo of a {}", "one {}, of two"]


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


VISION = {**SMALL, "image_size": 32, "patch_size": 8}


HF = ("clip", "metaclip_2", "siglip", "chinese_clip")


def hf_folder(folder: Path, kind: str) -> Any:
    """A small model as transformers saves it, with a tokenizer.json; its text tower reads 12 tokens."""
    words = learn_tokenizer([*TEXTS, *CLASSES, "a photo of one two"] * 3, size=330, context=12)
    start, end, pad = (words.token_to_id(t) for t in (dual_new.START, dual_new.END, dual_new.PAD))
    text = {**SMALL, "vocab_size": words.get_vocab_size(), "max_position_embeddings": 12,
            "bos_token_id": start, "eos_token_id": end, "pad_token_id": pad}  # fmt: skip
    config = CONFIG_MAPPING[kind](
        text_config=text, vision_config=VISION, **({} if kind == "siglip" else {"projection_dim": 16})
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModel.from_config(config).eval()
        for p in model.parameters():  # initialised small, every text would be near every other
            p.data += 0.05 * torch.randn_like(p)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=dual_new.START, eos_token=dual_new.END, pad_token=dual_new.PAD, model_max_length=12,
        model_input_names=["input_ids"] if kind == "siglip" else ["input_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    return model


def openclip_folder(folder: Path, tokenizer: Path | None = None, **text: Any) -> Any:
    """A small open_clip model as open_clip keeps it; with `tokenizer`, the one of that folder instead of open_clip's own."""
    cfg: dict[str, Any] = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2, **text},
    }
    custom = "no_causal_mask" in text
    if custom:
        cfg |= {"init_logit_bias": -10.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**cfg).eval()
    folder.mkdir()
    body = {"model_cfg": cfg | ({"custom_text": True} if custom else {}),
            "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2], "interpolation": "bilinear"}}  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(body))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(folder / "open_clip_model.safetensors"))
    if tokenizer:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tokenizer / name, folder)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """family -> (folder, the library's model)."""
    root = tmp_path_factory.mktemp("duals")
    made = {kind: (root / kind, hf_folder(root / kind, kind)) for kind in HF}
    made["openclip"] = (root / "openclip", openclip_folder(root / "openclip"))
    made["openclip_siglip"] = (
        root / "openclip_siglip",
        openclip_folder(
            root / "openclip_siglip", root / "siglip", hf_tokenizer_name="timm/ViT-B-16-SigLIP", no_causal_mask=True,
            pool_type="last", context_length=12, vocab_size=330, tokenizer_kwargs={"clean": "canonicalize"},
        ),
    )  # fmt: skip
    return made


FAMILIES = (*HF, "openclip", "openclip_siglip")


@pytest.fixture
def pictures(tmp_path: Path) -> Any:
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (40, 52, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    return load_images(str(tmp_path))


def theirs(family: str, folder: Path, model: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image features, text features and logits per image as the library gives them."""
    with torch.inference_mode():
        if family.startswith("openclip"):
            ids = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
            return model.encode_image(x), model.encode_text(ids), model.get_logits(x, ids)[0]

        read = AutoTokenizer.from_pretrained(folder)
        ids = read(
            TEXTS,
            padding="max_length" if family == "siglip" else True,
            truncation=True,
            max_length=12,
            return_tensors="pt",
        )
        # Nothing but what the tokenizer of the family gives to the model.
        given = {k: v for k, v in ids.items() if k in ("input_ids", "attention_mask")}
        assert family != "siglip" or set(given) == {"input_ids"}
        said = model(pixel_values=x, **given)
        return (
            model.get_image_features(pixel_values=x).pooler_output,
            model.get_text_features(**given).pooler_output,
            said.logits_per_image,
        )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Puts a folder into an otherwise empty Hugging Face cache, as the repository OWNER/NAME."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(folder: Path, name: str) -> Path:
        repo = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        commit = "0123456789abcdef0123456789abcdef01234567"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "main").write_text(commit)
        shutil.copytree(folder, repo / "snapshots" / commit)
        return repo / "snapshots" / commit

    return put
