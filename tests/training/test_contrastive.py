"""InfoNCE against a slow loop, batches that are fair to every artist, captions that stay what they were."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.training.test_loop import FABRIC
from torch.nn import functional

from visus.models.dual_new import ClipConfig as Sizes
from visus.models.dual_new import new_clip, square
from visus.training.augment import Augmentation
from visus.training.captions import encode, learn_tokenizer, wording
from visus.training.contrastive import CaptionedImages, ClipTrainer, Contrastive, info_nce, without_padding
from visus.training.from_scratch import new_vit
from visus.training.objective import balanced
from visus.training.recipe import Recipe
from visus.training.views import Drop, Views, dropped
from visus.training.vit_multitask import UNKNOWN, Multitask, MultitaskImages, MultitaskViT


def slow_info_nce(images: torch.Tensor, texts: torch.Tensor, scale: float, same: torch.Tensor) -> torch.Tensor:
    """The definition, pair by pair: -log of a pair's share among its own and the pairs that may stand against it, both ways."""
    b, total = len(images), torch.zeros((), dtype=images.dtype)
    for i in range(b):
        own = scale * (images[i] * texts[i]).sum()
        rows = [scale * (images[i] * texts[j]).sum() for j in range(b) if j == i or not same[i, j]]
        columns = [scale * (images[j] * texts[i]).sum() for j in range(b) if j == i or not same[j, i]]
        total = total + (torch.stack(rows).exp().sum().log() - own) + (torch.stack(columns).exp().sum().log() - own)
    return total / (2 * b)


def vectors(b: int = 7, d: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, c = (torch.randn(b, d, generator=generator, dtype=torch.float64) for _ in range(2))
    return functional.normalize(a, dim=1).requires_grad_(), functional.normalize(c, dim=1).requires_grad_()


@pytest.mark.parametrize("keys", [[0, 1, 2, 3, 4, 5, 6], [0, 1, 0, 2, 2, 2, 3]])
def test_info_nce_and_its_gradients_are_the_definition(keys: list[int]) -> None:
    images, texts = vectors()
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    k = torch.tensor(keys)
    same = k[:, None] == k
    inputs = (images, texts, scale)
    fast, slow = info_nce(images, texts, scale, same), slow_info_nce(images, texts, scale, same)
    assert fast.item() == pytest.approx(slow.item(), abs=1e-12)
    for a, b in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_equal_pairs_score_the_logarithm_of_the_batch() -> None:
    ones = torch.full((8, 4), 0.5)
    assert float(info_nce(ones, ones, torch.tensor(10.0))) == pytest.approx(math.log(8), abs=1e-6)


def test_every_artist_has_the_same_share_of_every_batch_and_no_picture_comes_twice_too_soon() -> None:
    balance = np.repeat([0, 1, 2], [100, 40, 60])
    batches = balanced(balance, 200, Recipe(1e-3, batch=30, seed=1), 0)
    assert [len(b) for b in batches] == [30] * 6
    for batch in batches:
        assert np.abs(np.bincount(balance[batch]) - 10).max() <= 1
    seen = np.bincount(np.concatenate(batches), minlength=200)
    assert seen[:100].max() == 1
    assert set(seen[100:140]) == {1, 2}
    assert seen[140:].min() >= 1
    again = balanced(balance, 200, Recipe(1e-3, batch=30, seed=1), 0)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not np.array_equal(batches[0], balanced(balance, 200, Recipe(1e-3, batch=30, seed=1), 1)[0])


def test_dropping_keeps_the_prefix_and_tokens_of_the_row() -> None:
    tokens = torch.arange(3 * 17 * 2, dtype=torch.float32).view(3, 17, 2)
    kept = dropped(tokens, 0.5)
    assert kept.shape == (3, 9, 2)
    assert torch.equal(kept[:, 0], tokens[:, 0])
    for row, whole in zip(kept, tokens, strict=True):
        at = [int((whole == token).all(dim=1).nonzero()) for token in row]
        assert at == sorted(set(at))
    assert not torch.equal(kept[0, :, 0] - tokens[0, 0, 0], kept[1, :, 0] - tokens[1, 0, 0])


CAPTIONS = ["grinning face", "cat face with tears of joy", "flag of Österreich", "red heart", "naïve café ☕ 猫"]


def test_what_is_encoded_decodes_to_the_text_in_lower_case() -> None:
    tokenizer = learn_tokenizer(CAPTIONS, size=400, context=64)
    for text in [*CAPTIONS, "words it never saw: quixotic zebra 123 🦓"]:
        assert tokenizer.decode(tokenizer.encode(text).ids).strip() == text.lower()
    twin = type(tokenizer).from_str(tokenizer.to_str())
    assert np.array_equal(encode(twin, CAPTIONS), encode(tokenizer, CAPTIONS))


def test_a_long_text_is_cut_to_the_context_and_still_ends() -> None:
    tokenizer = learn_tokenizer(CAPTIONS, size=400, context=8)
    ids = encode(tokenizer, ["cat face with tears of joy and a very long tail", "cat"])
    assert ids.shape == (2, 8)
    assert ids[0, -1] == tokenizer.token_to_id("<|endoftext|>")


def test_a_wording_is_one_of_the_captions_or_some_of_its_keywords() -> None:
    captions = ("grinning face", "cheerful, face, grin, happy, smile")
    words = set(captions[1].split(", "))
    said = {wording(captions, np.random.default_rng(seed)) for seed in range(60)}
    assert "grinning face" in said
    lists = [set(text.split(", ")) for text in said - {"grinning face"}]
    assert all(chosen <= words and 1 <= len(chosen) <= 4 for chosen in lists)
    assert len(lists) > 5


def test_padding_changes_no_text() -> None:
    tokenizer = learn_tokenizer(CAPTIONS, size=400, context=32)
    towers = ClipTrainer(new_clip(tokenizer, Sizes(32, 8, 64, 1, 64, 1, 64), seed=0)).eval()
    with torch.inference_mode():
        alone = torch.cat([towers.texts(torch.from_numpy(encode(tokenizer, [text]))) for text in CAPTIONS])
        together = towers.texts(torch.from_numpy(encode(tokenizer, CAPTIONS)))
    assert torch.allclose(alone, together, atol=1e-6)


def test_a_head_for_meanings_becomes_part_of_the_clip_that_is_saved() -> None:
    tokenizer = learn_tokenizer(CAPTIONS, size=400, context=32)
    towers = ClipTrainer(new_clip(tokenizer, Sizes(32, 8, 64, 1, 64, 1, 64), seed=0), meaning=10).eval()
    whole = towers.whole()
    ids, pixels = torch.from_numpy(encode(tokenizer, CAPTIONS)), torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        texts = whole.text_projection(whole.text_model(input_ids=ids).pooler_output)
        images = whole.visual_projection(towers.feature(pixels))
        assert towers.meaning is not None
        for both, alone in ((texts, towers.texts(ids)), (images, towers.images(pixels))):
            assert both.shape[1] == 74
            assert torch.allclose(functional.normalize(both[:, :64], dim=1), alone, atol=1e-5)
            assert torch.allclose(both[:, 64:], both[:, :64] @ towers.meaning.weight.T, atol=1e-5)
    assert towers.clip.config.projection_dim == 64
    assert whole.config.projection_dim == whole.config.text_config.projection_dim == 74
    plain = ClipTrainer(towers.clip)
    assert plain.whole() is towers.clip


def test_cutting_padding_leaves_the_end_of_texts_that_are_equally_long() -> None:
    tokenizer = learn_tokenizer(CAPTIONS, size=400, context=32)
    pad = tokenizer.token_to_id("<|pad|>")
    same = torch.from_numpy(encode(tokenizer, ["red heart", "red heart"]))
    assert torch.equal(without_padding(same, pad), same)
    mixed = torch.from_numpy(encode(tokenizer, ["red heart", CAPTIONS[1]]))
    assert torch.equal(without_padding(mixed, pad), mixed)
    assert torch.equal(without_padding(mixed[:1], pad), same[:1])


@pytest.mark.parametrize(
    ("keys", "captions", "alone"),
    [
        ([5, 5], ["red heart", "grinning face"], True),
        ([5, 6], ["red heart", "red heart"], True),
        ([5, 6], CAPTIONS[:2], False),
    ],
)
def test_two_pictures_of_one_thing_or_with_one_text_are_not_each_others_negatives(
    keys: list[int], captions: list[str], alone: bool
) -> None:
    tokenizer = learn_tokenizer(CAPTIONS, size=400, context=32)
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype(np.uint8)
    train = CaptionedImages(images, [(c,) for c in captions], np.array(keys))
    recipe, still = Recipe(1e-3, batch=2), Augmentation(scale=(1, 1), ratio=(1, 1), mirror=0, jitter=0)
    objective = Contrastive(train, train, captions, tokenizer, Views(square(32), still, Drop(0.0)), recipe)
    towers = ClipTrainer(new_clip(tokenizer, Sizes(32, 8, 64, 1, 64, 1, 64), seed=0))
    loss, right, asked = objective.loss(towers, np.arange(2), epoch=0, fabric=FABRIC)
    assert (float(loss.detach()) == 0.0) is alone  # nothing is left to be told apart
    assert asked == 2
    assert not alone or int(right) == 2
    loss.backward()
    assert (float(towers.clip.logit_scale.grad) == 0.0) is alone  # the temperature learns


def test_pictures_without_a_class_count_neither_in_the_loss_of_classes_nor_in_the_accuracy() -> None:

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (12, 16, 16, 3)).astype(np.uint8)
    classes, names = np.array([0, 1, 2, UNKNOWN] * 3), np.array([UNKNOWN, 0, 1, 2] * 3)
    still = Augmentation(scale=(1, 1), ratio=(1, 1), mirror=0, jitter=0)
    train = MultitaskImages(images, classes, names)
    task = Multitask(train, train, Views(square(16), still, Drop(0.0)), Recipe(1e-3, batch=12, smoothing=0.0))
    model = MultitaskViT(new_vit(Sizes(16, 8, 64, 1), 3, seed=0), 3).eval()
    loss, right, asked = task.loss(model, np.arange(12), epoch=0, fabric=FABRIC)
    with torch.inference_mode():
        a, b, _ = model(square(16).normalize(torch.from_numpy(images)))
        expected = 0.0
        for logits, y in ((a, classes), (b, names)):
            assert logits is not None
            known = [i for i in range(12) if y[i] != UNKNOWN]
            expected += sum(-float(logits[i].log_softmax(0)[y[i]]) for i in known) / len(known)
        hits = sum(int(a[i].argmax()) == classes[i] for i in range(12) if classes[i] != UNKNOWN)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-3)
    assert (int(right), asked) == (hits, 9)
