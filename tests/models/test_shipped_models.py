"""The models that ship: they load offline, are small, keep what their cards promise, and never met what they are judged on."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import visus
from visus.errors import SpecError
from visus.images import load_images
from visus.measures.retrieval import ranks
from visus.models.attention import attention
from visus.models.shipped import shipped_folder
from visus.models.vit import vit_layout
from visus.progress import collecting
from visus.spec import Spec
from visus.studies.train import judging
from visus.training.captioned import names_of
from visus.training.parts import parts_of


def folder(name: str, **options: str) -> Path:
    return shipped_folder(Spec("visus", name, None, options, f"visus:{name}"))


def promised(card: Path, measure: str) -> float:
    found = re.search(rf"^\| {re.escape(measure)} \| ([\d.]+) \|", card.read_text("utf-8"), re.M)
    assert found, measure
    return float(found[1])


@pytest.mark.parametrize(
    "where", [folder("emoji-vit"), folder("emoji-clip"), folder("emoji-clip", split="concept")], ids=lambda p: p.name
)
def test_each_is_small_and_has_a_card(where: Path) -> None:
    assert (where / "model.safetensors").stat().st_size < 12e6
    card = (where / "README.md").read_text("utf-8")
    for part in (
        "## Data and licence",
        "## Recipe",
        "## On held-out pictures",
        "![Curves](learning.svg)",
        "visus train",
    ):
        assert part in card
    assert (where / "learning.svg").is_file()
    assert not {"openmoji", "emojione-v1"} & set(re.findall(r"[\w-]+", card))


def test_the_vit_keeps_its_promise_on_an_artist_it_never_saw() -> None:
    images = load_images("visus:emoji")
    parts = parts_of(images, seed=0)
    assert not {images.meta["artist"][i] for i in parts.test} & {images.meta["artist"][i] for i in parts.train}
    judged = judging.judge_vit(images, parts, visus.load_backbone("visus:emoji-vit"))
    accuracy = judged.scores["accuracy"]
    assert accuracy.n == 865
    assert 100 * accuracy.value == pytest.approx(promised(folder("emoji-vit") / "README.md", "accuracy"), abs=0.3)
    assert accuracy.value > 0.8


@pytest.mark.slow
def test_the_clip_keeps_its_promise_and_far_above_its_random_untrained() -> None:
    images, task = load_images("visus:emoji?task=all"), load_images("visus:emoji")
    trained, untrained = visus.load_dual("visus:emoji-clip"), visus.load_dual("visus:emoji-clip?weights=none")
    judged = judging.judge_clip(
        images, parts_of(images, seed=0), (trained, untrained), (task, task.split(seed=0).test), seed=0
    )
    card = folder("emoji-clip") / "README.md"
    for measure, score in judged.scores.items():
        assert 100 * score.value == pytest.approx(promised(card, measure), abs=0.3), measure
    assert judged.scores["recall@10, image to name"].value > 20 * judged.scores["recall@10, image to name"].chance
    assert judged.gaps is not None
    assert judged.gaps[1].paired > judged.gaps[1].unpaired + 0.2


@pytest.mark.slow
def test_by_concept_no_emoji_of_the_test_part_was_learned() -> None:
    images = load_images("visus:emoji?split=concept&task=all")
    parts = parts_of(images, seed=0)
    emoji = np.array(images.meta["emoji"])
    assert not set(emoji[parts.test]) & set(emoji[parts.train])
    card = folder("emoji-clip", split="concept") / "README.md"
    assert "visus:emoji?split=concept&task=all" in card.read_text("utf-8")
    names, keys = names_of(images)
    own = np.unique(keys[parts.test])
    encoder = visus.load_dual("visus:emoji-clip?split=concept")
    pictures, texts = encoder.encode_images(images, parts.test), encoder.encode_texts([names[k] for k in own])
    found = ranks(pictures, texts, np.searchsorted(own, keys[parts.test]), np.arange(len(own)))
    for k in (1, 5, 10):
        measure = f"recall@{k}, image to name"
        assert 100 * np.mean(found < k) == pytest.approx(promised(card, measure), abs=0.3), measure


def test_attention_taps_and_maps_work_on_them() -> None:
    for spec in ("visus:emoji-vit", "visus:emoji-clip", "visus:emoji-clip?split=concept"):
        backbone = visus.load_backbone(spec)
        late = backbone.resolve(["early", "middle", "late"])
        assert len(late) == 3
        tokens = [t for t in backbone.taps if t.kind == "tokens"]
        assert len(tokens) >= 6
        assert {t.prefix for t in tokens} == {1}
        assert not backbone.random
        x = torch.randn(2, 3, *backbone.preprocess.size, generator=torch.Generator().manual_seed(0))
        seen = attention(backbone, x, layers=(0, -1), rows="all")
        patches = vit_layout(backbone).grid[0] * vit_layout(backbone).grid[1]
        for weights in seen.maps.values():
            assert weights.shape[-2:] == (1 + patches, 1 + patches)
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5, rtol=0)
        features = backbone.forward(x, late)
        assert [len(f) for f in features.values()] == [2, 2, 2]
        assert all(bool(f.isfinite().all()) for f in features.values())
    assert visus.load_backbone("visus:emoji-vit").labels == load_images("visus:emoji").classes


def test_predict_names_an_emoji_by_its_text() -> None:
    said = visus.predict(["visus:emoji?artist=twemoji"], model="visus:emoji-clip", limit=40, top=10)
    names = said.tables["predictions"].rows
    hits = {row[0] for row in names if row[0].split(" ", 1)[1].removeprefix("flag: ") in row[2]}
    assert len(hits) >= 12


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(SpecError, match="concept"):
        visus.load_dual("visus:emoji-clip?split=concepts")
    with pytest.raises(SpecError, match="emoji-clip"):
        visus.load_dual("visus:emoji-clp")


@pytest.mark.parametrize("spec", ["visus:emoji-vit", "visus:emoji-clip", "visus:effnet-lite0"])
def test_nothing_has_to_be_said_of_what_ships(spec: str) -> None:
    with collecting() as remarks:
        visus.load_backbone(spec)
    assert (remarks.notes, remarks.cautions) == ([], [])
