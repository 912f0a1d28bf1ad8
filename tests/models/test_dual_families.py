"""Dual encoders of every family: embeddings and logits are the library's own, texts are cut and padded as it does, errors say what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    CLIPConfig,
    CLIPForImageClassification,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import visus
from visus import load_backbone, load_dual
from visus.errors import DataError, OfflineError, SpecError
from visus.images import load_images
from visus.models import dual, dual_new, dual_open, from_openclip
from visus.models.dual_open import is_dual
from visus.models.dual_openclip import causal_tower
from visus.models.zero_shot import classifier_for, zero_shot_classifier
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


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_and_logits_are_the_librarys_own(family, folders, pictures):
    folder, model = folders[family]
    encoder = load_dual(str(folder))
    x = encoder.preprocess.normalize(
        torch.from_numpy(np.stack([encoder.preprocess(pictures.decode(i)) for i in range(3)]))
    )
    images, texts, logits = theirs(family, folder, model, x)
    found_images = encoder.encode_images(pictures, unit=False)
    found_texts = encoder.encode_texts(TEXTS, unit=False)
    assert found_images.dtype == found_texts.dtype == np.float32
    np.testing.assert_allclose(found_images, images.numpy(), atol=1e-5)
    np.testing.assert_allclose(found_texts, texts.numpy(), atol=1e-5)
    units = encoder.encode_images(pictures), encoder.encode_texts(TEXTS)
    assert all(np.allclose(np.linalg.norm(u, axis=1), 1, atol=1e-5) for u in units)
    np.testing.assert_allclose(
        encoder.logit_scale * units[0] @ units[1].T + encoder.logit_bias, logits.numpy(), atol=1e-4, rtol=1e-5
    )
    assert encoder.sigmoid == ("siglip" in family) == (encoder.logit_bias != 0)
    assert not encoder.random
    assert is_dual(str(folder))


@pytest.mark.parametrize("family", ["siglip", "openclip"])
def test_the_clip_study_takes_a_local_folder_and_its_own_loss(family, folders, tmp_path):
    for i in range(30):
        noise = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
        (tmp_path / CLASSES[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / CLASSES[i % 2] / f"{i}.png")
    encoder = load_dual(str(folders[family][0]))
    found = visus.clip(
        str(folders[family][0]), str(tmp_path), prompts=["short"], part=["zero-shot", "gap"], control=False
    )
    images = load_images(str(tmp_path))
    test = images.split(seed=0).test
    said = encoder.encode_images(images, test) @ encoder.encode_texts([f"a photo of a {c}" for c in images.classes]).T
    (row, *_) = found.tables["zero-shot"].records()
    assert row["accuracy"] == pytest.approx(np.mean(said.argmax(1) == images.labels[test]))
    assert found.provenance["bias"] == encoder.logit_bias
    assert ("sigmoid" in found.tables["gap-shift"].note) == (family == "siglip")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_towers_are_differentiable_and_the_module_stays_frozen(family, folders):
    encoder = load_dual(str(folders[family][0]))
    x = torch.randn(2, 3, 32, 32, requires_grad=True)
    encoder.image_embedding(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
    ids = encoder.words.batch(encoder.words.rows(TEXTS))
    with torch.no_grad():
        units = torch.nn.functional.normalize(encoder.text_embedding(ids), dim=1)
    np.testing.assert_allclose(units.numpy(), encoder.encode_texts(TEXTS), atol=1e-6)
    assert not encoder.module.training
    assert not any(p.requires_grad for p in encoder.module.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_in_chunks_and_batches_come_back_in_their_order(family, folders, monkeypatch):
    encoder = load_dual(str(folders[family][0]))
    alone = np.concatenate([encoder.encode_texts([t]) for t in TEXTS])
    monkeypatch.setattr(dual, "BATCH", 2)
    monkeypatch.setattr(dual, "CHUNK", 3)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS[::-1]), alone[::-1], atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "metaclip_2", "chinese_clip", "openclip"])
def test_padding_that_is_left_out_changes_nothing_and_is_left_out(family, folders):
    encoder = load_dual(str(folders[family][0]))
    short = encoder.words.rows(["a cat", "tree"])
    ids = encoder.words.batch(short)
    assert ids.shape[1] == max(map(len, short)) < encoder.context
    more = torch.nn.functional.pad(ids, (0, encoder.context - ids.shape[1]), value=encoder.words.pad)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.text_embedding(ids), encoder.text_embedding(more), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["siglip", "openclip_siglip"])
def test_siglip_pads_to_the_context(family, folders):
    encoder = load_dual(str(folders[family][0]))
    assert encoder.words.batch(encoder.words.rows(["a cat"])).shape == (1, 12)


@pytest.mark.parametrize("eos", [2, None])
def test_clips_own_tokenizer_and_its_old_end_token_are_read_as_transformers_reads_them(tmp_path, eos):
    """The vocabulary of 49,408 tokens that CLIP has; old configs say 2 for the end token, and the highest id is taken instead."""
    simple = open_clip.SimpleTokenizer()
    vocabulary = {
        {"<start_of_text>": dual_new.START, "<end_of_text>": dual_new.END}.get(k, k): v
        for k, v in simple.encoder.items()
    }
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=list(simple.bpe_ranks), model_max_length=12)
    tokenizer.save_pretrained(tmp_path)
    text = {**SMALL, "max_position_embeddings": 12, "vocab_size": 49408, "eos_token_id": eos or simple.eot_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)).eval()
    model.save_pretrained(tmp_path)
    given = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, truncation=True, return_tensors="pt")
    encoder = load_dual(str(tmp_path))
    assert encoder.words.rows(TEXTS[:3]) == [
        i[m.bool()].tolist() for i, m in zip(given.input_ids[:3], given.attention_mask, strict=False)
    ]
    assert encoder.words.rows(TEXTS[:3]) == [
        [simple.sot_token_id, *simple.encode(t), simple.eot_token_id] for t in TEXTS[:3]
    ]
    with torch.inference_mode():
        expected = model.get_text_features(**given).pooler_output
    np.testing.assert_allclose(encoder.encode_texts(TEXTS, unit=False), expected.numpy(), atol=1e-5)


def test_an_open_clip_tower_that_sees_its_padding_keeps_it(tmp_path):
    model = openclip_folder(tmp_path / "m", no_causal_mask=True)
    encoder = load_dual(str(tmp_path / "m"))

    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'm'}")(TEXTS)
    assert torch.equal(encoder.words.batch(encoder.words.rows(TEXTS)), ids)
    np.testing.assert_allclose(
        encoder.encode_texts(TEXTS, unit=False), model.encode_text(ids).detach().numpy(), atol=1e-5
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_that_are_cut_are_named_and_keep_their_end(family, folders):
    encoder = load_dual(str(folders[family][0]))
    assert encoder.context == (77 if family == "openclip" else 12)
    long = " ".join(["cat"] * 100)
    found = encoder.cut(["cat", long, "dog", TEXTS[3]])
    (row, *_) = encoder.words.rows([long])
    assert found[0][0] == 1
    assert found[0][1] >= 101
    assert [i for i, _ in found] == ([1] if family == "openclip" else [1, 3])
    assert len(row) == encoder.context
    assert row[-1] == encoder.words.rows(["cat"])[0][-1]
    assert encoder.cut(["cat", "dog"]) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_shot_is_the_slow_loop(family, folders, monkeypatch):
    encoder = load_dual(str(folders[family][0]))
    meant = [("cat", "tabby"), ("dog",), ("red tree", "tree", "one")]

    def slow(classes):
        rows = []
        for words in classes:
            units = [encoder.encode_texts([p.format(w)])[0] for w in words for p in PROMPTS]
            mean = np.mean(units, axis=0)
            rows.append(mean / np.linalg.norm(mean))
        return np.stack(rows)

    monkeypatch.setattr(dual, "BATCH", 4)
    monkeypatch.setattr(dual, "CHUNK", 5)
    np.testing.assert_allclose(encoder.zero_shot(meant, PROMPTS), slow(meant), atol=1e-5)
    np.testing.assert_allclose(encoder.zero_shot(CLASSES, PROMPTS), slow([(c,) for c in CLASSES]), atol=1e-5)
    for classes, prompts in (([], PROMPTS), (CLASSES, []), ([("cat",), ()], PROMPTS)):
        with pytest.raises(DataError, match="a wording of each"):
            encoder.zero_shot(classes, prompts)


@pytest.mark.parametrize("family", ["openclip", "openclip_siglip"])
def test_zero_shot_is_open_clips(family, folders):
    folder, model = folders[family]
    expected = open_clip.build_zero_shot_classifier(
        model, open_clip.get_tokenizer(f"local-dir:{folder}"), CLASSES, PROMPTS
    )
    np.testing.assert_allclose(load_dual(str(folder)).zero_shot(CLASSES, PROMPTS), expected.T.numpy(), atol=1e-5)


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
