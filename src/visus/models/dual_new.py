"""Making and saving a small CLIP, in transformers' format, so that transformers opens it as well."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from visus.models.dual_text import SETTINGS, TOKENIZER
from visus.models.preprocess import Preprocess
from visus.paths import atomic_path, write_text

WEIGHTS, CONFIG, PROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
START, END, PAD = "<|startoftext|>", "<|endoftext|>", "<|pad|>"  # of the tokenizers that are trained here
MEAN = STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of a small CLIP. image: side in pixels. width, layers: of the image tower; heads are 64 wide."""

    image: int = 64
    patch: int = 8
    width: int = 192
    layers: int = 6
    text_width: int = 192
    text_layers: int = 4
    space: int = 192
    context: int = 32


def new_clip(tokenizer: Tokenizer, sizes: ClipConfig, *, seed: int) -> Any:
    """transformers' CLIPModel of these sizes, randomly initialised from `seed` (the global generator is not touched)."""
    # Seconds, and nothing else in this file, which every training reads, needs it.
    from transformers import CLIPConfig, CLIPModel

    start, end, pad = (tokenizer.token_to_id(t) for t in (START, END, PAD))
    config = CLIPConfig(
        text_config={
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": sizes.text_width,
            "intermediate_size": 4 * sizes.text_width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": max(sizes.text_width // 64, 1),
            "max_position_embeddings": sizes.context,
            "hidden_act": "gelu",
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": pad,
        },
        vision_config={
            "hidden_size": sizes.width,
            "intermediate_size": 4 * sizes.width,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": max(sizes.width // 64, 1),
            "image_size": sizes.image,
            "patch_size": sizes.patch,
            "hidden_act": "gelu",
        },
        projection_dim=sizes.space,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPModel(config).eval()


def square(side: int) -> Preprocess:
    """The evaluation transform of a model that is trained here: squash to a square, scale to [-1, 1]."""
    return Preprocess((side, side), (side, side), "bicubic", MEAN, STD, crop_rounding="down")


def save_dual(folder: Path, clip: Any, tokenizer: Tokenizer, preprocess: Preprocess, *, half: bool = False) -> Path:
    """Write a folder that transformers and visus open: config.json, model.safetensors, tokenizer and preprocessor.

    half: store the weights as float16. Each file is written whole or not at all.
    """
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in clip.state_dict().items()}
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, str(temporary), metadata={"format": "pt"})
    config = json.loads(clip.config.to_json_string())
    config["architectures"] = ["CLIPModel"]
    side = preprocess.size[0]
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 3,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }
    context = int(clip.config.text_config.max_position_embeddings)
    words = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": context,
    }
    for name, body in ((PROCESSOR, processor), (SETTINGS, words), (CONFIG, config)):
        write_text(folder / name, json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / TOKENIZER, tokenizer.to_str())
    return folder
