"""The section on samples: scores against test images, copies, galleries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.studies.vae import planted

from visus.measures import wilson
from visus.measures.priors import AGGREGATE, NORMAL, PRIORS
from visus.studies.common.section import section
from visus.studies.vae import samples, sampling
from visus.studies.vae.feature_space import scored
from visus.studies.vae.samples import Nearest, SampleMeasures

FLOOR = planted.sample_row("training images", "", 3.0, ratio=None, closer=None)


def measures(**more: Any) -> SampleMeasures:
    fields: dict[str, Any] = {
        "space": "tiny",
        "about": "the last layer of tiny",
        "width": 16,
        "drawn": 100,
        "n_test": 120,
        "among": 500,
        "floor": FLOOR,
        "rows": tuple(planted.sample_row("mine", prior, 10.0 + i) for i, prior in enumerate(PRIORS)),
        "drawings": tuple(planted.row(f"mine: {prior}", 2) for prior in PRIORS),
        "nearest": (Nearest("mine", planted.row("samples", 2), planted.row("nearest", 2, values=(1.0, 0.25))),),
    }
    return SampleMeasures(**(fields | more))


def test_the_first_row_is_of_training_images() -> None:
    (table,) = samples.tables(measures())
    floor, *drawn = table.records()
    assert (floor["images"], floor["prior"], floor["frechet"], floor["closer_than_unseen"]) == (
        "training images",
        "",
        3,
        None,
    )
    assert [r["prior"] for r in drawn] == list(PRIORS)
    first = drawn[0]
    assert (first["precision"], first["precision_low"], first["precision_high"]) == (0.8, 0.75, pytest.approx(0.85))
    assert (first["recall"], first["density"], first["coverage"], first["distance_to_training"]) == (
        0.6,
        0.9,
        0.7,
        1.02,
    )
    assert "In the last layer of tiny; 120 test images." in table.note
    assert "among 500 training images" in table.note
    assert {c.unit for c in table.columns if c.key.startswith(("precision", "recall", "closer"))} == {"share"}


def test_generation_is_told_beside_real_images() -> None:
    found = samples.findings(measures())
    assert planted.texts(found) == [
        "mine, generating: Fréchet distance 10 from N(0, 1) and 13 from the aggregate posterior, against 3 of real training images "
        "(in the tiny features).",
        "mine: samples from N(0, 1) have precision 80.0 % and recall 60.0 %.",
        "mine: its samples are new: the median lies 1.02 times as far from training images as unseen images do.",
    ]
    assert samples.findings(measures(swept=True)) == ()


def test_copies_are_pointed_at() -> None:
    rows = [planted.sample_row("mine", prior, 10.0, closer=0.3) for prior in PRIORS]
    said = planted.texts(samples.findings(measures(rows=tuple(rows))))
    assert (
        said[-1]
        == "mine: 30.0 % of the samples are nearer to a training image than 99 % of unseen images are: look at them."
    )


@pytest.mark.parametrize(("drawn", "cautions"), [(63, 1), (64, 0)])
def test_a_frechet_distance_of_few_images_is_a_caution(drawn: int, cautions: int) -> None:
    found = planted.texts(samples.findings(measures(drawn=drawn)), "caution")
    assert len(found) == cautions
    assert all(text.startswith("Fréchet distances are of 63 pictures in 16 dimensions, too few") for text in found)


def test_metrics_are_by_vae_and_prior() -> None:
    found = {m.key: m for m in samples.metrics(measures())}
    assert found["training-images/frechet"].value == 3
    assert (found["mine/n(0,-1)/frechet"].value, found["mine/aggregate-posterior/frechet"].value) == (10, 13)
    precision = found["mine/n(0,-1)/precision"]
    assert (precision.value, precision.n, precision.unit, precision.better) == (0.8, 100, "share", "higher")
    assert found["mine/n(0,-1)/closer-than-unseen"].better == "lower"
    assert "training-images/closer-than-unseen" not in found


def test_galleries_show_each_prior_and_the_nearest_training_images() -> None:
    drawn, nearest = samples.figures(measures())
    assert drawn.images.shape == (8, 8, 8, 3)
    assert drawn.groups == tuple(f"mine: {prior}" for prior in PRIORS for _ in range(2))
    assert set(drawn.captions) == {""}
    assert nearest.captions == ("", "", "1.00 x", "0.25 x")
    assert nearest.groups == ("samples", "samples", "nearest", "nearest")


def test_the_section_holds_together() -> None:
    made = section(samples, measures())
    keys = {m.key for m in made.metrics}
    assert {k for f in made.findings for k in f.metrics} <= keys
    assert {k for f in made.findings for k in f.shows} <= {"samples", "nearest"}


def test_scores_copies_and_drawings_are_those_of_the_evaluation() -> None:
    e = planted.evaluation([1.0])
    images = planted.images()
    m = samples.measure([e], planted.space(), images, shown=3)
    assert [(r.name, r.prior, r.frechet) for r in m.rows] == [("planted", p, 10.0 + i) for i, p in enumerate(PRIORS)]
    first = m.row("planted", NORMAL)
    assert (first.precision.value, first.precision.n) == (0.5, 12)
    assert (first.precision.low, first.precision.high) == wilson(6, 12)
    assert (first.recall.n, first.ratio, m.drawn, m.n_test, m.width, m.among) == (8, 2.0, 8, 8, 16, 12)
    assert m.floor.prior == ""
    assert m.floor.closer is None
    assert np.array_equal(m.drawings[3].images, e.samples[AGGREGATE].images[:3])
    (near,) = m.nearest
    assert np.array_equal(near.training.images, images.train[:3])
    assert near.training.values == (2.0, 2.0, 2.0)


def test_samples_are_drawn_scored_and_searched_for_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    images, space = planted.images(train=20, test=8), planted.space()
    space = replace(space, real=space.features(images.test).astype(float))
    codes = np.random.default_rng(0).normal(size=(40, 1))
    drawn = sampling.sample(planted.evaluation([1.0]).vae, images, space, codes, planted.OPTIONS)
    assert list(drawn) == list(PRIORS)
    for s in drawn.values():
        assert (s.images.shape, s.images.dtype) == ((12, 8, 8, 1), np.uint8)
        assert s.copies.indices.max() < 20
    # Training images that come again are copies of themselves.
    monkeypatch.setattr(sampling, "decoded_latents", lambda vae, z, device: images.train[:12])
    again = sampling.sample(planted.evaluation([1.0]).vae, images, space, codes, planted.OPTIONS)[NORMAL]
    assert again.copies.indices.tolist() == list(range(12))
    assert again.copies.share_closer == 1.0


def test_as_many_training_images_are_searched_as_fit_memory() -> None:
    assert sampling.searched(planted.images(train=30)) == 30
    large = replace(planted.images(), train=np.zeros((3, 4096, 4096, 3), np.uint8)[:, ::1])
    assert sampling.searched(large) == 2


def test_a_set_scores_perfectly_against_itself() -> None:
    real = np.random.default_rng(0).normal(size=(40, 4))
    own = scored(real, real)
    assert own.frechet.distance == pytest.approx(0, abs=1e-9)
    assert (own.sharing.precision, own.sharing.recall) == (1, 1)
    assert scored(real, real + 100).sharing.precision == 0
