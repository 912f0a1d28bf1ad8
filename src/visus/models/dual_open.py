"""Opening a dual encoder: what its spec names, its weights, and its two towers as functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from visus.arguments import checked
from visus.errors import DataError, OfflineError, SpecError
from visus.models.checkpoint import opened, read, take_in
from visus.models.dual import DualEncoder
from visus.models.dual_new import CONFIG, PROCESSOR, TOKENIZER, WEIGHTS
from visus.models.dual_text import SETTINGS, Words, json_words, simple_words
from visus.models.hub import first_line, hub_file, hub_url, reachable
from visus.models.local import read_config
from visus.models.registry import SCHEMES, random_init
from visus.paths import expanded
from visus.spec import Spec, check_options, parse_spec

# How the text towers of transformers' dual encoders read padding, by model type: 'causal' ones stop at the end token, 'masked' ones
# are told which tokens count, 'fixed' ones were trained on texts padded to the context and see the padding.
KINDS = {"clip": "causal", "metaclip_2": "causal", "siglip": "fixed", "chinese_clip": "masked"}
OPEN_CLIP, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
INDEX = "model.safetensors.index.json"


@checked
def load_dual(spec: str, *, seed: int = 0, download: bool = False, place: str = "cpu") -> DualEncoder:
    """A dual encoder by its spec; it comes in eval mode, on the CPU, gradients off.

    spec: `visus:emoji-clip`, `hf:OWNER/NAME`, `openclip:ARCH@TAG`, or a folder as transformers or open_clip keep them; `?weights=none`
    gives a random initialisation. seed: of that; the global generator is not touched. download: permission to fetch what is missing.
    place: the device that encodes where none is named; weights come there when they are needed.
    Raises SpecError for what is no dual encoder, DataError for files that are missing, damaged or do not fit together, OfflineError
    where something must be fetched and cannot or may not be.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return replace(open_dual(_parse(spec), download=download), place=place)


def is_dual(spec: str, *, download: bool = False) -> bool:
    """Whether the spec names a dual encoder, by its configuration alone; False for one of the hub that is not on this machine.

    download: permission to fetch that configuration.
    """
    return names_dual(_parse(spec), download=download)


def _parse(spec: str) -> Spec:
    return parse_spec(str(spec), SCHEMES, revisions=("torchvision", "openclip", "hf"))


def open_dual(spec: Spec, *, download: bool) -> DualEncoder:
    """The dual encoder that a spec names; errors as `load_dual` has them."""
    if _is_file(spec):
        return _file(spec, download=download)
    check_options(spec, ("weights", "split") if spec.scheme == "visus" else ("weights",))
    random = random_init(spec)
    if spec.scheme == "openclip":
        return _named(spec, random=random, download=download)
    folder = _fetched(spec, random=random, download=download) if spec.scheme == "hf" else _folder(spec)
    if (folder / OPEN_CLIP).is_file() and spec.scheme != "hf":
        return _open_clip_folder(spec, folder, random=random)
    return _transformers(spec, folder, random=random)


def names_dual(spec: Spec, *, download: bool) -> bool:
    """Whether the spec names a dual encoder, by its configuration."""
    if spec.scheme == "visus":
        return spec.name == "emoji-clip"
    if spec.scheme == "hf":
        try:
            folder = hub_file(spec.name, (CONFIG,), download=download, revision=spec.revision).parent
        except (OfflineError, ValueError):  # ValueError: no name that a repository could have
            return False
    elif spec.scheme:
        return spec.scheme == "openclip"
    elif _is_file(spec):
        return True
    else:
        folder = expanded(spec.name)
        if (folder / OPEN_CLIP).is_file():
            return True
    return (folder / CONFIG).is_file() and _kind(read_config(folder)) in KINDS


def _is_file(spec: Spec) -> bool:
    """Whether the spec is a file of weights for an architecture of open_clip."""
    return not spec.scheme and spec.options.get("arch", "").startswith("openclip:") and expanded(spec.name).is_file()


def _file(spec: Spec, *, download: bool) -> DualEncoder:
    from visus.models import from_openclip

    check_options(spec, ("arch", "key"))
    arch = parse_spec(spec.options["arch"], ("openclip",), revisions=("openclip",))
    model = from_openclip.open_file(arch, opened(expanded(spec.name)), spec)
    return _with_tokenizer(spec, arch.name, model, random=False, download=download)


def _kind(body: Mapping[str, Any]) -> str:
    """The model's type as its config says; one that was fine-tuned to classify is none of a dual encoder's."""
    kind = str(body.get("model_type") or body.get("architecture") or "nameless")
    return f"{kind} classifier" if "ForImageClassification" in str(body.get("architectures")) else kind


def _folder(spec: Spec) -> Path:
    if spec.scheme == "visus":
        from visus.models.shipped import shipped_folder

        return shipped_folder(spec)
    path = expanded(spec.name)
    if spec.scheme or not path.is_dir():
        raise SpecError(
            f"{spec.text!r} is no folder of a dual encoder; give such a folder, visus:emoji-clip, hf:OWNER/NAME or openclip:ARCH@TAG"
        )
    return path


def _fetched(spec: Spec, *, random: bool, download: bool) -> Path:
    """The snapshot of a repository in the Hugging Face cache, with all that a dual encoder needs; safetensors alone."""
    try:
        folder = hub_file(spec.name, (CONFIG,), download=download, revision=spec.revision).parent
    except ValueError as error:
        raise SpecError(f"{spec.text!r} names no repository: {first_line(error)}; write hf:OWNER/NAME") from error
    _check_kind(spec, read_config(folder))

    def fetch(*names: str) -> str:
        found = next((n for n in names if (folder / n).is_file()), None)
        return found or hub_file(spec.name, names, download=download, revision=folder.name).name

    fetch(TOKENIZER)
    if not random and fetch(WEIGHTS, INDEX) == INDEX:
        for name in _shards(folder):
            fetch(name)
    for name in (SETTINGS, PROCESSOR):  # not every repository has them
        if not (folder / name).is_file() and download and reachable(hub_url()):
            try:
                fetch(name)
            except OfflineError:
                continue
    return folder


def _check_kind(spec: Spec, body: Mapping[str, Any]) -> None:
    kind = _kind(body)
    if kind not in KINDS:
        raise SpecError(
            f"{spec.text} holds a {kind} model, which reads no texts, or in a way unknown here; give a dual encoder ({', '.join(KINDS)})"
        )


def _shards(folder: Path) -> list[str]:
    try:
        return sorted(set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{folder / INDEX} cannot be read: {first_line(error)}; save the model again") from error


def _transformers(spec: Spec, folder: Path, *, random: bool) -> DualEncoder:
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from visus.models.preprocess_hf import preprocess_of

    body = read_config(folder)
    _check_kind(spec, body)
    names = [] if random else _shards(folder) if (folder / INDEX).is_file() else [WEIGHTS]
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
        _check_texts(tensors, folder)
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


def _check_texts(names: Any, folder: Path) -> None:
    """Raise DataError when there is no text tower among the tensors' names."""
    if not any("text" in n or n.startswith("token_embedding") for n in names):
        raise DataError(
            f"the weights in {folder} have no text tower; load it as an image model, or put the whole checkpoint there"
        )


def _open_clip_folder(spec: Spec, folder: Path, *, random: bool) -> DualEncoder:
    from visus.models import from_openclip

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
                f"{folder} is no whole dual encoder: {OPEN_CLIP_WEIGHTS} is missing; put it there or add ?weights=none"
            )
        _check_texts([n for tensors in opened(file).states.values() for n in tensors], folder)
    model = from_openclip.open_folder(folder, random=random)
    return _open_clip(spec, model, texts, folder, random=random)


def _named(spec: Spec, *, random: bool, download: bool) -> DualEncoder:
    from visus.models import from_openclip

    model = from_openclip.open_named(spec, download=download)
    return _with_tokenizer(spec, spec.name, model, random=random, download=download)


def _with_tokenizer(spec: Spec, arch: str, model: Any, *, random: bool, download: bool) -> DualEncoder:
    """A model of open_clip with the tokenizer of its architecture."""
    import open_clip

    texts = dict(open_clip.get_model_config(arch)["text_cfg"])
    folder = None
    if repo := texts.get("hf_tokenizer_name"):
        folder = hub_file(repo, (TOKENIZER,), download=download).parent
        if download and not (folder / SETTINGS).is_file():
            hub_file(repo, (SETTINGS,), download=True, revision=folder.name)
    return _open_clip(spec, model, texts, folder, random=random)


def _open_clip(spec: Spec, model: Any, texts: Mapping[str, Any], folder: Path | None, *, random: bool) -> DualEncoder:
    """An open_clip model with the tokenizer that its text_cfg names: the one in the folder, or else open_clip's own."""
    import open_clip

    from visus.models.from_openclip import preprocess_of

    model.eval().requires_grad_(requires_grad=False)
    tower = _causal_tower(model)
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
        tower = _causal_tower(model)
        found: torch.Tensor = model.encode_text(ids, normalize=False) if tower is None else _causal(tower, ids)
        return found

    preprocess = preprocess_of(open_clip.get_model_preprocess_cfg(model))
    return DualEncoder(spec.text, model, preprocess, words, image, text, random, {"library": "open_clip"})


def _causal_tower(model: Any) -> Any:
    """open_clip's text tower where no token sees a later one and the end token is taken, so that padding may go; else None."""
    tower = getattr(model, "text", model)
    pool = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    plain = getattr(tower, "attn_mask", None) is not None and getattr(tower, "cls_emb", None) is None
    return tower if plain and pool in ("argmax", "eos") and not getattr(tower, "use_pad_mask", False) else None


def _causal(tower: Any, ids: torch.Tensor) -> torch.Tensor:
    """encode_text of such a tower (open_clip.CLIP.encode_text, TextTransformer.forward) for any number of tokens."""
    from open_clip.transformer import text_global_pool

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
