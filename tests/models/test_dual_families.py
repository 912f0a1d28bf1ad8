"""Dual encoders of every family: embeddings and logits are the library's own, texts are cut and padded as it does, errors say what to do."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from tests.models import dual_families as samples
from tests.models.dual_families import CLASSES, FAMILIES, PROMPTS, SMALL, TEXTS, VISION, openclip_folder, theirs
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
)

import visus
from visus import load_dual
from visus.errors import DataError
from visus.images import load_images
from visus.models import dual, dual_new
from visus.models.dual_open import is_dual

folders = samples.folders
pictures = samples.pictures


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
