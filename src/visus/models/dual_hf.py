"""Dual encoders of transformers, from a folder: CLIP, MetaCLIP, SigLIP, ChineseCLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from visus.errors import DataError
from visus.models.checkpoint import read, take_in
from visus.models.dual import DualEncoder
from visus.models.dual_folder import KINDS, check_kind, check_texts, weight_files
from visus.models.dual_text import TOKENIZER, json_words
from visus.models.folders import read_config
from visus.models.hub import first_line
from visus.models.preprocess_hf import preprocess_of
from visus.spec import Spec


def open_folder(spec: Spec, folder: Path, *, random: bool) -> DualEncoder:
    """The dual encoder in a folder of transformers; errors as `load_dual` has them."""
    body = read_config(folder)
    check_kind(spec, body)
    names = [] if random else weight_files(folder)
    missing = [n for n in (TOKENIZER, *names) if not (folder / n).is_file()]
    if missing:
        raise DataError(f"{folder} is no whole dual encoder: {', '.join(missing)} is missing; save or fetch it again")
    try:
        config = CONFIG_MAPPING[body["model_type"]].from_dict(body)
        module = AutoModel.from_config(config, dtype=torch.float32).eval().requires_grad_(requires_grad=False)
    except Exception as error:  # a config may break a model's constructor in any way
        raise DataError(f"{folder} cannot be read as a dual encoder: {first_line(error)}") from error
    if not random:
        tensors = {k: v for n in names for k, v in read(folder / n).items() if not k.endswith("position_ids")}
        check_texts(tensors, folder)
        take_in(module, tensors, what=f"{folder / names[0]} into its config")
    way, sizes = KINDS[body["model_type"]], config.text_config
    words = json_words(
        folder, context=int(sizes.max_position_embeddings), vocabulary=int(sizes.vocab_size), trims=way != "fixed",
        end_pads=way == "causal", pad=sizes.pad_token_id,
    )  # fmt: skip

    def image(module: Any, x: torch.Tensor) -> torch.Tensor:
        return _vector(module.get_image_features(pixel_values=x))

    def text(module: Any, ids: torch.Tensor) -> torch.Tensor:
        mask = {"attention_mask": (ids != words.pad).long()} if way == "masked" else {}
        return _vector(module.get_text_features(input_ids=ids, **mask))

    preprocess = preprocess_of(str(folder), config, {})
    return DualEncoder(spec.text, module, preprocess, words, image, text, random, {"library": "transformers"})


def _vector(output: Any) -> torch.Tensor:
    """What transformers' get_*_features give: a tensor, from version 5 on an output with a pooler_output."""
    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return found
