"""What a folder of a dual encoder must hold: a model type whose text tower is known here, all its weights, and both towers in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from visus.errors import DataError, SpecError
from visus.models.checkpoint import shard_names
from visus.models.dual_new import WEIGHTS
from visus.spec import Spec

# How the text towers of transformers' dual encoders read padding, by model type: 'causal' ones stop at the end token, 'masked' ones
# are told which tokens count, 'fixed' ones were trained on texts padded to the context and see the padding.
KINDS = {"clip": "causal", "metaclip_2": "causal", "siglip": "fixed", "chinese_clip": "masked"}
OPEN_CLIP = "open_clip_config.json"
INDEX = "model.safetensors.index.json"


def kind_of(body: Mapping[str, Any]) -> str:
    """The model's type as its config says; one that was fine-tuned to classify is none of a dual encoder's."""
    kind = str(body.get("model_type") or body.get("architecture") or "nameless")
    return f"{kind} classifier" if "ForImageClassification" in str(body.get("architectures")) else kind


def check_kind(spec: Spec, body: Mapping[str, Any]) -> None:
    """Raise SpecError for a model that reads no texts, or in a way that is not known here."""
    kind = kind_of(body)
    if kind not in KINDS:
        raise SpecError(
            f"{spec.text} holds a {kind} model, which reads no texts, or in a way unknown here; give a dual encoder ({', '.join(KINDS)})"
        )


def weight_files(folder: Path) -> list[str]:
    """Names of the files of weights that a folder of transformers' should hold."""
    return shard_names(folder / INDEX) if (folder / INDEX).is_file() else [WEIGHTS]


def check_texts(names: Iterable[str], folder: Path) -> None:
    """Raise DataError when there is no text tower among the tensors' names."""
    if not any("text" in n or n.startswith("token_embedding") for n in names):
        raise DataError(
            f"the weights in {folder} have no text tower; load it as an image model, or put the whole checkpoint there"
        )
