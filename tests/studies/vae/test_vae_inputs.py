"""What a VAE study looks at, and what it makes of the words of the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.studies.vae import planted

from visus.errors import DataError, SpecError
from visus.images import ImageSet, load_images
from visus.images.arrays import MemorySource
from visus.models.vae import Decoder
from visus.progress import collecting
from visus.studies.vae.inputs import LARGEST, as_rgb, load_arrays, own_size
from visus.studies.vae.options import EvaluationOptions, Options, ShapedImages, TrainingOptions, VaeOptions
from visus.studies.vae.settle import settled, size_of, sized
from visus.studies.vae.training import TrainingSettings, named_runs, planned_runs, rerun_of, swept_runs
from visus.training.vae import KLSchedule

OPTIONS = Options(ShapedImages("visus:digits"), VaeOptions(), TrainingOptions(epochs=6), EvaluationOptions())


def settings(**more: Any) -> TrainingSettings:
    return replace(settled(OPTIONS).training, **more)


def in_memory(pixels: np.ndarray) -> ImageSet:
    n = len(pixels)
    return ImageSet("memory", MemorySource(pixels), np.arange(n), tuple(f"{i}" for i in range(n)))


def test_sizes_are_read_as_height_and_width() -> None:
    assert size_of(None) is None
    assert size_of("32") == (32, 32)
    assert size_of("28x20") == (28, 20)


def test_images_are_cut_to_size_and_made_grey() -> None:
    digits = load_images("visus:digits").limit(300, seed=0)
    arrays = load_arrays(digits, size=(16, 20), channels=3, seed=0)
    assert arrays.train.shape[1:] == (16, 20, 3)
    assert "resized" in arrays.note
    own = load_arrays(digits, size=None, channels=None, seed=0)
    assert own.shape == (1, 28, 28)
    assert len(set(own.ids["train"]) | set(own.ids["validation"]) | set(own.ids["test"])) == 300
    # Mixed, so that the first of them are a sample of all classes.
    assert own.labels is not None
    assert len(set(own.labels["train"][:40].tolist())) > 6


def test_a_checkpoint_decides_the_shape_where_the_user_does_not() -> None:
    digits = load_images("visus:digits").limit(60, seed=0)
    assert load_arrays(digits, size=None, channels=None, seed=0, native=(3, 12, 12)).shape == (3, 12, 12)
    assert load_arrays(digits, size=(8, 8), channels=1, seed=0, native=(3, 12, 12)).shape == (1, 8, 8)


def test_colours_become_luma_only_where_one_channel_is_asked_for() -> None:
    red = in_memory(np.tile(np.array([200, 0, 0], np.uint8), (30, 6, 6, 1)))
    assert load_arrays(red, size=None, channels=None, seed=0).shape == (3, 6, 6)
    assert (load_arrays(red, size=None, channels=1, seed=0).train == round(200 * 0.299)).all()


def test_the_content_tells_images_seeds_and_shapes_apart() -> None:
    a, b = (in_memory(np.random.default_rng(i).integers(0, 256, (30, 6, 6, 3), dtype=np.uint8)) for i in (0, 1))
    made = [
        load_arrays(a, size=None, channels=None, seed=0), load_arrays(b, size=None, channels=None, seed=0),
        load_arrays(a, size=None, channels=None, seed=1), load_arrays(a, size=(5, 5), channels=None, seed=0),
    ]  # fmt: skip
    assert len({m.content for m in made}) == 4
    assert load_arrays(a, size=None, channels=None, seed=0).content == made[0].content


def test_own_sizes_are_taken_where_all_are_alike_and_small() -> None:
    assert own_size(in_memory(np.zeros((3, 10, 12, 3), np.uint8))) == (10, 12)
    assert own_size(in_memory(np.zeros((3, LARGEST + 1, 12, 3), np.uint8))) is None
    assert own_size(in_memory(np.zeros((0, 10, 12, 3), np.uint8))) is None


def test_grey_images_are_shown_in_three_channels() -> None:
    grey = planted.pixels(2)
    assert as_rgb(grey).shape == (2, 8, 8, 3)
    assert (as_rgb(grey)[..., 2] == grey[..., 0]).all()
    assert as_rgb(as_rgb(grey)).shape == (2, 8, 8, 3)


def test_few_images_are_too_few() -> None:
    with pytest.raises(DataError, match="samples are judged beside 4 of each at least; give 20 images or more"):
        load_arrays(in_memory(planted.pixels(9).repeat(3, axis=3)), size=None, channels=None, seed=0)


def test_test_images_that_are_training_images_are_known_and_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, n in (("train", 24), ("test", 12)):
        (tmp_path / split / "thing").mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(
                tmp_path / split / f"thing/{i:02}.png"
            )
    for i in range(4):
        Image.open(tmp_path / f"train/thing/{i:02}.png").save(tmp_path / f"test/thing/{i:02}.png", compress_level=1)
    with collecting() as remarks:
        arrays = load_arrays(load_images(str(tmp_path)), size=None, channels=None, seed=0)
    assert any("the same image in test and in training: " in c and "of 12 test pictures" in c for c in remarks.cautions)
    taught = {p.tobytes() for p in arrays.train}
    again = np.array([p.tobytes() in taught for p in arrays.test])
    assert arrays.repeated is not None
    assert again.any()
    assert np.array_equal(arrays.repeated, again)


def test_words_become_settings() -> None:
    made = settled(OPTIONS)
    assert (made.size, made.training.warmup, made.training.budget) == (None, 2, None)
    assert (made.training.recipe.epochs, made.training.recipe.optimizer, made.training.recipe.schedule) == (
        6,
        "adam",
        "constant",
    )
    assert settled(replace(OPTIONS, training=TrainingOptions(epochs=90, budget="5m"))).training.warmup == 10
    assert settled(replace(OPTIONS, training=TrainingOptions(budget="5m"))).training.budget == 300


def test_the_batch_leaves_enough_steps() -> None:
    images = planted.images(train=40)
    assert sized(settings(), images, None).recipe.batch == 40
    assert sized(settings(), images, 16).recipe.batch == 16
    many = replace(images, train=np.zeros((10_000, 8, 8, 1), np.uint8))
    assert sized(settings(), many, None).recipe.batch == 128
    assert (sized(settings(), images, None).sizes.height, sized(settings(), images, None).sizes.channels) == (8, 1)


@pytest.mark.parametrize(
    ("part", "given", "said"),
    [
        ("training", {"precision": "fp8"}, "precision"),
        ("training", {"epochs": 2, "warmup": 2}, "does not end within 2 epochs"),
        ("training", {"beta": -1.0}, "beta -1.0"),
        ("training", {"lr": 0.0}, "must be above 0"),
        ("vaes", {"compare": "baseline", "sweep": "beta"}, "give one of them"),
        ("vaes", {"checkpoint": "x", "compare": "baseline"}, "leave --compare and --sweep out"),
        ("vaes", {"latent": 0}, "--latent is 0"),
        ("vaes", {"decoder": "gausian"}, "nearest: gaussian"),
        ("images", {"size": "2"}, "is no size"),
        ("images", {"size": "28x"}, "is no size"),
        ("images", {"channels": 2}, "give 1 or 3"),
        ("evaluation", {"samples": 10}, "too few to be judged"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(part: str, given: dict[str, Any], said: str) -> None:
    options = replace(OPTIONS, **{part: replace(getattr(OPTIONS, part), **given)})
    with pytest.raises((DataError, SpecError), match=said):
        settled(options)


def test_named_runs_switch_warm_up_and_free_bits_on() -> None:
    s = settings(warmup=3, free_bits=0.1, beta=2.0)
    runs = named_runs("baseline, mitigated,warm-up,free-bits,baseline", s)
    assert [(r.name, r.schedule) for r in runs] == [
        ("baseline", KLSchedule(2.0, 0, 0.0)), ("mitigated", KLSchedule(2.0, 3, 0.1)), ("warm-up", KLSchedule(2.0, 3, 0.0)),
        ("free-bits", KLSchedule(2.0, 0, 0.1)),
    ]  # fmt: skip
    assert [r.name for r in planned_runs(None, None, s)] == ["baseline", "mitigated"]
    assert [r.setting for r in planned_runs(None, "beta=1,2", s)] == [1, 2]
    with pytest.raises(DataError, match="names no run"):
        named_runs(" , ", s)
    with pytest.raises(DataError, match="baseline and warm-up are the same"):
        named_runs("baseline,warm-up", settings(warmup=0))
    with pytest.raises(SpecError, match="nearest: mitigated"):
        named_runs("mitigatd", s)


def test_swept_runs_have_one_setting_each() -> None:
    s = settings(warmup=3, free_bits=0.1)
    betas = swept_runs("beta=2,0.5,2", s)
    assert [(r.name, r.setting, r.schedule) for r in betas] == [
        ("beta 0.5", 0.5, KLSchedule(0.5)), ("beta 2", 2.0, KLSchedule(2.0))
    ]  # fmt: skip
    assert [r.sizes.latent for r in swept_runs("latent", s)] == [2, 4, 8, 16, 32]
    assert [r.schedule.free_bits for r in swept_runs("free-bits=0,0.2", s)] == [0, 0.2]
    # Names are keys of metrics: those of settings that six digits do not tell apart are written out.
    assert [r.name for r in swept_runs("beta=1,1.00000001", s)] == ["beta 1.0", "beta 1.00000001"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("betta", "nearest: beta"),
        ("beta=1", "one value"),
        ("beta=low,high", "values are numbers"),
        ("latent=2.5,3", "are whole"),
        ("latent=0,3", "--latent is 0"),
    ],
)
def test_a_sweep_that_is_none_is_told(text: str, said: str) -> None:
    with pytest.raises((DataError, SpecError), match=said):
        swept_runs(text, settings())


def test_the_rerun_has_the_network_and_beta_of_the_first() -> None:
    s = settings(warmup=2, free_bits=0.1)
    first = planted.evaluation([1.0, 0.0], KLSchedule(40.0), name="baseline").model
    run, used = rerun_of(first, s)
    assert (run.name, run.schedule, run.sizes) == ("fixed", KLSchedule(40.0, 2, 0.1), first.vae.module.sizes)  # type: ignore[union-attr]
    assert (used.decoder, used.beta) == (Decoder(), 40.0)
    theirs = replace(first, name="Fixed", vae=replace(first.vae, module=None), schedule=None)  # type: ignore[arg-type]
    run, used = rerun_of(theirs, s)
    assert (run.name, run.sizes.latent, run.sizes.height, used.beta) == ("fixed again", 2, 28, 1.0)
