"""Everything that is measured of one VAE: what its parts are, and whom an error names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.studies.vae import planted

from visus.errors import DataError
from visus.measures.frechet import frechet_distance
from visus.models.vae import Decoder, new_vae, wrap
from visus.models.vae_faults import NotFiniteError
from visus.studies.vae import feature_space as spaces
from visus.studies.vae.evaluation import NamedVae, evaluate
from visus.studies.vae.feature_space import feature_space
from visus.training.devices import Devices
from visus.training.vae import KLSchedule


def test_one_vae_is_measured_on_test_images_and_its_loss_on_training_images() -> None:
    images, space = planted.images(train=20, test=8), planted.space()
    space = replace(space, real=space.features(images.test).astype(float))
    vae = wrap(new_vae(planted.SIZES, Decoder(), seed=0), "small")
    e = evaluate(NamedVae("small", vae, KLSchedule(beta=3.0)), images, space, planted.OPTIONS)
    assert e.posteriors.mu.shape == (8, 3)
    assert len(e.bounds.kl) == len(e.likelihood.per_image) == 8
    assert e.kl.total == pytest.approx(e.bounds.kl.mean(), rel=1e-5)
    assert e.likelihood.k == 4
    assert e.beta is not None
    assert e.beta.beta == pytest.approx(3.0, rel=1e-3)
    assert e.n_active + e.dead == 3
    assert (np.diff(e.kl.per_dimension[e.order]) <= 0).all()
    assert not e.at_floor.any()
    unknown = evaluate(NamedVae("small", vae), images, space, planted.OPTIONS)
    assert unknown.beta is None  # no objective is known, and it has no loss of its own
    assert np.array_equal(unknown.bounds.kl, e.bounds.kl)


def test_numbers_that_stop_being_numbers_name_their_image() -> None:
    images = planted.images()
    vae = wrap(new_vae(planted.SIZES, Decoder(), seed=0), "small")
    broken = replace(
        vae, encode=lambda x: tuple(v / (x.sum((1, 2, 3), keepdim=True)[..., 0, 0] * 0) for v in vae.encode(x))
    )  # type: ignore[arg-type]
    with pytest.raises(NotFiniteError, match="test/0"):
        evaluate(NamedVae("small", broken), images, planted.space(), planted.OPTIONS)


def test_a_space_is_the_classifier_of_labelled_images_or_a_backbone() -> None:
    images = planted.images(train=24, test=8)
    space = feature_space(images, planted.OPTIONS, devices=Devices(), download=False)
    assert (space.name, space.real.shape) == ("small classifier", (8, 128))
    assert "4 validation pictures" in space.about
    floor = space.floor.frechet
    assert (floor.n_x, floor.n_y) == (8, 12)  # as many training images as samples will be drawn
    assert space.scores(images.test).frechet.distance == pytest.approx(0, abs=1e-3)
    assert frechet_distance(space.real, space.features(images.test)).distance == pytest.approx(0, abs=1e-3)
    with pytest.raises(DataError, match="name a backbone with --features"):
        classifier = replace(planted.OPTIONS, features=spaces.CLASSIFIER)
        feature_space(replace(images, labels=None), classifier, devices=Devices(), download=False)


def test_a_backbone_judges_by_its_last_layer() -> None:
    images = planted.images(train=16, test=8)
    options = replace(planted.OPTIONS, features="timm:test_resnet?weights=none")
    space = feature_space(images, options, devices=Devices(), download=False)
    assert (space.name, space.about) == (options.features, f"the last layer of {options.features}")
    assert space.real.shape[0] == 8
