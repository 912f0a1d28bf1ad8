"""Dual encoders of open_clip: by name, from a folder, and from one file of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import text_global_pool

from visus.errors import DataError, SpecError
from visus.models import from_openclip
from visus.models.checkpoint import opened
from visus.models.dual import DualEncoder
from visus.models.dual_folder import OPEN_CLIP, check_texts
from visus.models.dual_text import SETTINGS, TOKENIZER, Words, json_words, simple_words
from visus.models.folders import OPEN_CLIP_WEIGHTS
from visus.models.hub import first_line, hub_file
from visus.paths import expanded
from visus.spec import Spec, check_options, parse_spec


def open_folder(spec: Spec, folder: Path, *, random: bool) -> DualEncoder:
    """The dual encoder in a folder with an open_clip_config.json; errors as `load_dual` has them."""
    try:
        body = json.loads((folder / OPEN_CLIP).read_text("utf-8"))["model_cfg"]
        texts = dict(body.get("text_cfg") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / OPEN_CLIP} cannot be read: {first_line(error)}; save the model again") from error
    if not texts:
        raise SpecError(
            f"{folder} has no text tower (text_cfg in {OPEN_CLIP}), so it reads no texts; give a whole dual encoder"
        )
    if not random:
        file = from_openclip.weights_of(folder)
        if file is None:
            raise DataError(
                f"{folder} is no whole dual encoder: {OPEN_CLIP_WEIGHTS[0]} is missing; put it there or add ?weights=none"
            )
        check_texts([n for tensors in opened(file).states.values() for n in tensors], folder)
    model = from_openclip.open_folder(folder, random=random)
    return _open_clip(spec, model, texts, folder, random=random)


def open_named(spec: Spec, *, random: bool, download: bool) -> DualEncoder:
    """The dual encoder of `openclip:ARCH@TAG`."""
    model = from_openclip.open_named(spec, download=download)
    return _with_tokenizer(spec, spec.name, model, random=random, download=download)


def open_file(spec: Spec, *, download: bool) -> DualEncoder:
    """The dual encoder whose weights lie in a file, of the architecture that ?arch= names."""
    check_options(spec, ("arch", "key"))
    arch = parse_spec(spec.options["arch"], ("openclip",), revisions=("openclip",))
    model = from_openclip.open_file(arch, opened(expanded(spec.name)), spec)
    return _with_tokenizer(spec, arch.name, model, random=False, download=download)


def _with_tokenizer(spec: Spec, arch: str, model: Any, *, random: bool, download: bool) -> DualEncoder:
    """A model of open_clip with the tokenizer of its architecture."""
    texts = dict(open_clip.get_model_config(arch)["text_cfg"])
    folder = None
    if repo := texts.get("hf_tokenizer_name"):
        folder = hub_file(repo, (TOKENIZER,), download=download).parent
        if download and not (folder / SETTINGS).is_file():
            hub_file(repo, (SETTINGS,), download=True, revision=folder.name)
    return _open_clip(spec, model, texts, folder, random=random)


def _open_clip(spec: Spec, model: Any, texts: Mapping[str, Any], folder: Path | None, *, random: bool) -> DualEncoder:
    """An open_clip model with the tokenizer that its text_cfg names: the one in the folder, or else open_clip's own."""
    model.eval().requires_grad_(requires_grad=False)
    tower = causal_tower(model)
    kwargs = dict(texts.get("tokenizer_kwargs") or {})
    vocabulary, context = int(model.vocab_size), int(texts.get("context_length") or 77)
    words: Words
    if texts.get("hf_tokenizer_name") and folder is not None:
        if texts.get("tokenizer_mode"):
            raise SpecError(
                f"{spec.text!r} reads texts in the mode {texts['tokenizer_mode']!r}, which is not known here"
            )
        words = json_words(
            folder, context=context, vocabulary=vocabulary, trims=tower is not None,
            clean=open_clip.tokenizer.get_clean_fn(kwargs.get("clean", "whitespace")),
            without="sep_token" if kwargs.get("strip_sep_token") else None,
        )  # fmt: skip
    else:
        own = open_clip.SimpleTokenizer(context_length=context, **kwargs)
        words = simple_words(own, vocabulary=vocabulary, trims=tower is not None)

    def image(model: Any, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model.encode_image(x, normalize=False)
        return found

    def text(model: Any, ids: torch.Tensor) -> torch.Tensor:
        tower = causal_tower(model)
        found: torch.Tensor = model.encode_text(ids, normalize=False) if tower is None else _causal(tower, ids)
        return found

    preprocess = from_openclip.preprocess_of(open_clip.get_model_preprocess_cfg(model))
    return DualEncoder(spec.text, model, preprocess, words, image, text, random, {"library": "open_clip"})


def causal_tower(model: Any) -> Any:
    """open_clip's text tower where no token sees a later one and the end token is taken, so that padding may go; else None."""
    tower = getattr(model, "text", model)
    pool = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    plain = getattr(tower, "attn_mask", None) is not None and getattr(tower, "cls_emb", None) is None
    return tower if plain and pool in ("argmax", "eos") and not getattr(tower, "use_pad_mask", False) else None


def _causal(tower: Any, ids: torch.Tensor) -> torch.Tensor:
    """encode_text of such a tower (open_clip.CLIP.encode_text, TextTransformer.forward) for any number of tokens."""
    n, dtype = ids.shape[1], tower.transformer.get_cast_dtype()
    x = tower.token_embedding(ids).to(dtype) + tower.positional_embedding[:n].to(dtype)
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:n, :n]))
    pool = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    x = text_global_pool(x, ids, pool, eos_token_id=getattr(tower, "eos_id", getattr(tower, "text_eos_id", None)))
    projection = tower.text_projection
    if projection is not None:
        x = projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection
    found: torch.Tensor = x
    return found
