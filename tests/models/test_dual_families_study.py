"""Dual encoders of every family: embeddings and logits are the library's own, texts are cut and padded as it does, errors say what to do."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models import dual_families as samples
from tests.models.dual_families import CLASSES, FAMILIES, PROMPTS, TEXTS, VISION, openclip_folder
from transformers import (
    CLIPForImageClassification,
    CLIPVisionConfig,
    CLIPVisionModel,
)

from visus import load_backbone, load_dual
from visus.errors import DataError, OfflineError, SpecError
from visus.models import dual_new, dual_open, from_openclip
from visus.models.dual_open import is_dual
from visus.models.dual_openclip import causal_tower
from visus.models.zero_shot import classifier_for, zero_shot_classifier

cache = samples.cache
folders = samples.folders
pictures = samples.pictures


@pytest.mark.parametrize("family", FAMILIES)
def test_the_classifier_gives_scale_and_bias_and_predict_takes_it(family, folders, pictures):
    encoder = load_dual(str(folders[family][0]))
    backbone = zero_shot_classifier(encoder, CLASSES, PROMPTS)
    x = encoder.preprocess.normalize(
        torch.from_numpy(np.stack([encoder.preprocess(pictures.decode(i)) for i in range(3)]))
    )
    expected = encoder.logit_scale * encoder.encode_images(pictures) @ encoder.zero_shot(CLASSES, PROMPTS).T
    np.testing.assert_allclose(backbone.classify(x).numpy(), expected + encoder.logit_bias, atol=1e-4)
    assert classifier_for(str(folders[family][0]), CLASSES, seed=0, download=False).labels == tuple(CLASSES)
    with pytest.raises(DataError, match="--classes"):
        classifier_for(str(folders[family][0]), None, seed=0, download=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_random_twin_is_seeded_needs_no_weights_and_leaves_the_generator_alone(family, folders, tmp_path):
    shutil.copytree(folders[family][0], tmp_path / "m")
    for file in (tmp_path / "m").glob("*.safetensors"):
        file.unlink()
    state = torch.random.get_rng_state()
    a, b, c = (load_dual(f"{tmp_path / 'm'}?weights=none", seed=s) for s in (1, 1, 2))
    assert a.random
    assert np.array_equal(a.encode_texts(TEXTS), b.encode_texts(TEXTS))
    assert not np.array_equal(a.encode_texts(TEXTS), c.encode_texts(TEXTS))
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(DataError, match="safetensors is missing"):
        load_dual(str(tmp_path / "m"))


def test_an_open_clip_name_opens_with_both_towers():
    encoder = load_dual("openclip:RN50?weights=none", seed=3)
    assert is_dual("openclip:RN50?weights=none")
    assert encoder.random
    with torch.inference_mode():
        expected = encoder.module.encode_text(open_clip.get_tokenizer("RN50")(TEXTS))
    np.testing.assert_allclose(encoder.encode_texts(TEXTS, unit=False), expected.numpy(), atol=1e-5)
    with pytest.raises(SpecError, match="nearest: RN50"):
        load_dual("openclip:RN5?weights=none")
    with pytest.raises(SpecError, match="names no pretrained weights"):
        load_dual("openclip:RN50")


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_repository_in_the_hugging_face_cache_opens(family, folders, cache):
    folder, _ = folders[family]
    cache(folder, "some/dual")
    encoder = load_dual("hf:some/dual")
    assert is_dual("hf:some/dual")
    assert encoder.spec == "hf:some/dual"
    assert np.array_equal(encoder.encode_texts(TEXTS), load_dual(str(folder)).encode_texts(TEXTS))
    assert load_dual("hf:some/dual?weights=none").random


def test_shards_are_read_together(folders, cache):
    folder, _ = folders["clip"]
    snapshot = cache(folder, "some/shards")
    tensors = load_file(folder / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(12)[None]  # older checkpoints have it
    names = sorted(tensors)
    (snapshot / "model.safetensors").unlink()
    where = {n: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, n in enumerate(names)}
    for file in set(where.values()):
        save_file({n: tensors[n] for n in names if where[n] == file}, str(snapshot / file), metadata={"format": "pt"})
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    expected = load_dual(str(folder)).encode_texts(TEXTS)
    assert np.array_equal(load_dual("hf:some/shards").encode_texts(TEXTS), expected)
    (snapshot / next(iter(where.values()))).unlink()
    with pytest.raises(OfflineError, match=r"model-0000.-of-00002\.safetensors of some/shards"):
        load_dual("hf:some/shards")
    (snapshot / "model.safetensors.index.json").write_text("{")
    with pytest.raises(DataError, match=r"index\.json cannot be read"):
        load_dual("hf:some/shards")


def test_what_is_not_cached_is_said_and_pickles_are_not_read(folders, cache, monkeypatch):
    assert not is_dual("hf:some/thing")
    with pytest.raises(OfflineError, match="--download"):
        load_dual("hf:some/thing")
    with pytest.raises(OfflineError, match="HF_HUB_OFFLINE"):
        load_dual("hf:some/thing", download=True)
    with pytest.raises(OfflineError, match="--download"):  # not: it reads no texts
        classifier_for("hf:some/thing", CLASSES, seed=0, download=False)
    with pytest.raises(SpecError, match="OWNER/NAME"):
        load_dual("hf:a/b/c")
    assert not is_dual("hf:a/b/c")
    snapshot = cache(folders["clip"][0], "some/pickle")
    torch.save({}, snapshot / "pytorch_model.bin")
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(OfflineError, match=r"model\.safetensors of some/pickle"):
        load_dual("hf:some/pickle")
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(OfflineError, match=r"tokenizer\.json of some/pickle"):
        load_dual("hf:some/pickle")


def test_a_fetch_stays_at_one_commit_and_takes_what_a_dual_encoder_needs(folders, tmp_path, monkeypatch):
    asked = []

    def fetch(repo, names, *, download, revision=None):
        asked.append((names, revision))
        (tmp_path / "c0ffee").mkdir(exist_ok=True)
        for name in names:
            if (folders["clip"][0] / name).is_file():
                shutil.copy(folders["clip"][0] / name, tmp_path / "c0ffee")
                return tmp_path / "c0ffee" / name
        raise OfflineError(f"{repo} holds none of {names}")

    monkeypatch.setattr(dual_open, "hub_file", fetch)
    monkeypatch.setattr(dual_open, "reachable", lambda url: True)
    found = load_dual("hf:some/dual@v1", download=True).encode_texts(TEXTS)
    assert np.array_equal(found, load_dual(str(folders["clip"][0])).encode_texts(TEXTS))
    assert asked[0] == (("config.json",), "v1")
    assert {revision for _, revision in asked[1:]} == {"c0ffee"}
    assert ("preprocessor_config.json",) in [names for names, _ in asked]


def test_a_tokenizer_of_the_hub_is_found_for_an_open_clip_name(folders, cache, monkeypatch):
    folder, model = folders["openclip_siglip"]
    body = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setattr(from_openclip, "open_named", lambda spec, download: model)
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: body)
    monkeypatch.setattr(
        open_clip, "get_model_preprocess_cfg", lambda model: {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    )
    with pytest.raises(OfflineError, match=r"tokenizer\.json of timm/ViT-B-16-SigLIP"):
        load_dual("openclip:ViT-B-16-SigLIP@webli")
    cache(folders["siglip"][0], "timm/ViT-B-16-SigLIP")
    found = load_dual("openclip:ViT-B-16-SigLIP@webli").encode_texts(TEXTS)
    np.testing.assert_allclose(found, load_dual(str(folder)).encode_texts(TEXTS), atol=1e-6)


def test_what_is_no_dual_encoder_is_none_and_says_so(folders, tmp_path):
    CLIPVisionModel(CLIPVisionConfig(**VISION)).save_pretrained(tmp_path / "vision")
    CLIPForImageClassification(folders["clip"][1].config).save_pretrained(tmp_path / "classifier")
    for name in ("vision", "classifier"):
        assert not is_dual(str(tmp_path / name))
        with pytest.raises(SpecError, match="reads no texts"):
            load_dual(str(tmp_path / name))
    assert load_backbone(str(tmp_path / "classifier")).labels
    assert not is_dual("timm:resnet18")
    assert not is_dual("visus:effnet-lite0")
    assert not is_dual(str(tmp_path / "nowhere"))
    with pytest.raises(SpecError, match="no folder of a dual encoder"):
        load_dual(str(tmp_path / "nowhere"))
    with pytest.raises(SpecError, match="option"):
        load_dual(f"{folders['clip'][0]}?split=a")


@pytest.mark.parametrize("family", ["clip", "siglip", "openclip_siglip"])
def test_a_missing_tokenizer_is_named(family, folders, tmp_path):
    shutil.copytree(folders[family][0], tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as a dual encoder"):
        load_dual(str(tmp_path / "m"))
    (tmp_path / "m" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"tokenizer\.json is missing"):
        load_dual(str(tmp_path / "m"))


@pytest.mark.parametrize("family", ["clip", "siglip", "openclip"])
def test_truncated_weights_and_a_missing_text_tower_are_said(family, folders, tmp_path):
    shutil.copytree(folders[family][0], tmp_path / "m")
    (file,) = (tmp_path / "m").glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        load_dual(str(tmp_path / "m"))
    file.write_bytes(whole)
    images = {k: v for k, v in load_file(file).items() if k.startswith("vis")}
    save_file(images, str(file), metadata={"format": "pt"})
    with pytest.raises(DataError, match="have no text tower") as error:
        load_dual(str(tmp_path / "m"))
    assert "\n" not in str(error.value)


def test_an_open_clip_folder_without_text_tower_or_with_a_broken_config_is_said(folders, tmp_path):
    shutil.copytree(folders["openclip"][0], tmp_path / "m")
    file = tmp_path / "m" / "open_clip_config.json"
    body = json.loads(file.read_text())
    del body["model_cfg"]["text_cfg"]
    file.write_text(json.dumps(body))
    with pytest.raises(SpecError, match="no text tower"):
        load_dual(str(tmp_path / "m"))
    for text in ("{", "[]", '{"model_cfg": 3}'):
        file.write_text(text)
        with pytest.raises(DataError, match=r"open_clip_config\.json cannot be read"):
            load_dual(str(tmp_path / "m"))


def test_a_tokenizer_of_another_model_and_one_without_padding_are_said(folders, tmp_path):
    openclip_folder(tmp_path / "m", vocab_size=64)
    with pytest.raises(DataError, match="beyond the 64 of the text tower"):
        load_dual(str(tmp_path / "m")).encode_texts(TEXTS)
    shutil.copytree(folders["openclip_siglip"][0], tmp_path / "s")
    words = json.loads((tmp_path / "s" / "tokenizer.json").read_text())
    words["padding"] = None
    (tmp_path / "s" / "tokenizer.json").write_text(json.dumps(words))
    (tmp_path / "s" / "tokenizer_config.json").write_text("{}")
    with pytest.raises(DataError, match="pad_token"):
        load_dual(str(tmp_path / "s"))


def test_texts_that_are_empty_are_refused(folders):
    encoder = load_dual(str(folders["siglip"][0]))
    for texts in ([], ["cat", " "]):
        with pytest.raises(DataError, match="at least one word"):
            encoder.encode_texts(texts)


def test_siglip2_reads_lower_case_and_padding_may_come_first(folders, tmp_path):
    shutil.copytree(folders["siglip"][0], tmp_path / "m")
    words = json.loads((tmp_path / "m" / "tokenizer.json").read_text())
    words["normalizer"] = None
    (tmp_path / "m" / "tokenizer.json").write_text(json.dumps(words))
    settings = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Siglip2Tokenizer", "padding_side": "left"}
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps(settings))
    encoder = load_dual(str(tmp_path / "m"))
    assert np.array_equal(encoder.encode_texts(["A CAT"]), encoder.encode_texts(["a cat"]))
    (ids,) = encoder.words.batch(encoder.words.rows(["a cat"])).tolist()
    assert ids[0] == encoder.words.pad
    assert ids[-1] == encoder.tokenizer.token_to_id(dual_new.END)


def test_open_clip_text_towers_that_may_not_be_trimmed_are_not():
    mask = torch.zeros(2, 2)
    for change, trims in (
        ({}, True),
        ({"pool_type": "eos"}, True),
        ({"pool_type": "last"}, False),
        ({"attn_mask": None}, False),
        ({"cls_emb": 1}, False),
        ({"use_pad_mask": True}, False),
    ):
        tower = SimpleNamespace(
            **{"pool_type": "argmax", "attn_mask": mask, "cls_emb": None, "use_pad_mask": False, **change}
        )
        assert (causal_tower(SimpleNamespace(text=tower)) is tower) == trims
