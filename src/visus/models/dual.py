"""DualEncoder: images and texts into one space. Made and saved in transformers' CLIP format, so that transformers opens it as well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from visus.errors import DataError, SpecError
from visus.models.base import Preprocess
from visus.models.hub import first_line
from visus.paths import atomic_path, write_text
from visus.progress import task
from visus.spec import Spec, check_options, parse_spec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from visus.images import ImageSet

WEIGHTS, CONFIG, TOKENIZER, PROCESSOR = "model.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json"
START, END, PAD = "<|startoftext|>", "<|endoftext|>", "<|pad|>"  # of the tokenizers that are trained here
MEAN = STD = (0.5, 0.5, 0.5)
BATCH = 256


@dataclass(frozen=True)
class Towers:
    """Sizes of a small CLIP. image: side in pixels. width, layers: of the image tower; heads are 64 wide."""

    image: int = 64
    patch: int = 8
    width: int = 192
    layers: int = 6
    text_width: int = 192
    text_layers: int = 4
    space: int = 192
    context: int = 32


@dataclass
class DualEncoder:
    """Images and texts into one space.

    spec: as the user typed it. module: transformers' CLIPModel, in eval mode, gradients off. tokenizer: of the `tokenizers` library.
    """

    spec: str
    module: Any
    tokenizer: Tokenizer
    preprocess: Preprocess
    random: bool = False
    info: Mapping[str, object] = field(default_factory=dict)

    @property
    def logit_scale(self) -> float:
        """The inverse temperature that turns cosines into logits."""
        return float(self.module.logit_scale.detach().exp())

    def encode_images(self, imageset: ImageSet, rows: np.ndarray | None = None) -> np.ndarray:
        """float32 [n, d], of unit length: the pictures at positions `rows` (all)."""
        rows = np.arange(len(imageset)) if rows is None else rows
        found = []
        with task("encoding images", len(rows)) as progress, torch.inference_mode():
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                raw = np.stack([self.preprocess(imageset.decode(int(i))) for i in part])
                x = self.preprocess.normalize(torch.from_numpy(raw))
                pooled = self.module.vision_model(pixel_values=x).pooler_output
                found.append(functional.normalize(self.module.visual_projection(pooled), dim=1).numpy())
                progress.advance(len(part))
        return np.concatenate(found)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, d], of unit length. Texts longer than the context are cut. Raises DataError for an empty list or text."""
        if not texts or not all(t.strip() for t in texts):
            raise DataError("a text to encode is empty; write at least one word")
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                batch = self.tokenizer.encode_batch([str(t) for t in texts[start : start + BATCH]])
                ids = torch.tensor([e.ids for e in batch])
                pooled = self.module.text_model(input_ids=ids).pooler_output
                found.append(functional.normalize(self.module.text_projection(pooled), dim=1).numpy())
        return np.concatenate(found)

    def zero_shot(self, classes: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
        """float32 [k, d]: a row for each class, the normalised mean over the prompts' unit vectors ('{}' stands for the class)."""
        texts = [p.format(c) for c in classes for p in prompts]
        rows = self.encode_texts(texts).reshape(len(classes), len(prompts), -1).mean(axis=1)
        found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return found


def new_clip(tokenizer: Tokenizer, sizes: Towers, *, seed: int) -> Any:
    """transformers' CLIPModel of these sizes, randomly initialised from `seed` (the global generator is not touched)."""
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
    from safetensors.torch import save_file

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
    for name, body in ((PROCESSOR, processor), ("tokenizer_config.json", words), (CONFIG, config)):
        write_text(folder / name, json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / TOKENIZER, tokenizer.to_str())
    return folder


def load_dual(spec: str, *, seed: int = 0, download: bool = False) -> DualEncoder:
    """A dual encoder by its spec: a folder in transformers' CLIP format, `visus:emoji-clip`, or `hf:OWNER/NAME` in the local cache.

    Raises SpecError for what is no dual encoder, DataError for files that are missing, damaged or do not fit together.
    """
    from visus.models.registry import SCHEMES, random_init

    parsed = parse_spec(str(spec), SCHEMES, revisions=("torchvision", "openclip", "hf"))
    check_options(parsed, ("weights", "split") if parsed.scheme == "visus" else ("weights",))
    folder = _folder(parsed)
    random = random_init(parsed)
    module, tokenizer = _open(folder, random=random, seed=seed)
    from visus.models.preprocess_hf import preprocess_of

    return DualEncoder(parsed.text, module, tokenizer, preprocess_of(str(folder), module.config, {}), random)


def is_dual(spec: str) -> bool:
    """Whether `load_dual` would take it: visus:emoji-clip, or a folder that holds a CLIP with its tokenizer."""
    from visus.models.registry import SCHEMES

    parsed = parse_spec(str(spec), SCHEMES, revisions=("torchvision", "openclip", "hf"))
    if parsed.scheme == "visus":
        return parsed.name == "emoji-clip"
    folder = Path(parsed.name).expanduser()
    return not parsed.scheme and (folder / TOKENIZER).is_file() and _kind(folder) == "clip"


def _folder(spec: Spec) -> Path:
    if spec.scheme == "visus":
        from visus.models.shipped import shipped_folder

        return shipped_folder(spec)
    path = Path(spec.name).expanduser()
    if spec.scheme or not path.is_dir():
        raise SpecError(
            f"{spec.text!r} is no folder of a dual encoder; give one that visus train clip wrote, or visus:emoji-clip"
        )
    return path


def _kind(folder: Path) -> str:
    """The model's type as its config says."""
    from visus.models.local import read_config

    body = read_config(folder)
    return str(body.get("model_type") or body.get("architecture") or "nameless")


def _open(folder: Path, *, random: bool, seed: int) -> tuple[Any, Tokenizer]:
    from tokenizers import Tokenizer
    from transformers import CLIPConfig, CLIPModel

    from visus.models.checkpoint import read, take_in

    kind = _kind(folder)
    if kind != "clip":
        raise SpecError(f"{folder} holds a {kind} model, which reads no texts; give one that visus train clip wrote")
    missing = [n for n in (TOKENIZER, WEIGHTS) if not (folder / n).is_file() and not (random and n == WEIGHTS)]
    if missing:
        raise DataError(f"{folder} is no whole dual encoder: {', '.join(missing)} is missing; save or train it again")
    try:
        config = CLIPConfig.from_dict(json.loads((folder / CONFIG).read_text("utf-8")))
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = CLIPModel(config).eval()
    except Exception as error:  # tokenizers raises bare Exception for a file that it cannot read
        raise DataError(f"{folder} cannot be read as a dual encoder: {first_line(error)}") from error
    if not random:
        take_in(module, read(folder / WEIGHTS), what=f"{folder / WEIGHTS} into its config")
    module.requires_grad_(requires_grad=False)
    return module, tokenizer
