"""Rows of images under names, and what every table of the study says of them."""

from __future__ import annotations

import numpy as np
from tests.studies.vae import planted

from visus.studies.vae.gallery import NAME, ImageRow, gallery, nats


def test_rows_of_unequal_length_keep_their_captions() -> None:
    long, short = planted.row("long", 3), planted.row("short", 2, seed=1)
    found = gallery("some", "Some", "How to read it.", [(long, ()), (short, ["a", "b"])])
    assert (found.key, found.title, found.caption, found.columns) == ("some", "Some", "How to read it.", 3)
    assert found.captions == ("", "", "", "a", "b")
    assert found.groups == ("long",) * 3 + ("short",) * 2
    assert (found.images[3:, ..., 0] == short.images[..., 0]).all()


def test_colours_stay_as_they_are() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    assert np.array_equal(gallery("some", "Some", "", [(ImageRow("red", colours), ())]).images, colours)


def test_columns_of_nats_say_so() -> None:
    assert NAME.heading == "VAE"
    assert nats("kl", "KL").heading == "KL, nats"
    assert nats("kl", "KL").text(1.23456) == "1.23"
    assert nats("kl", "KL", 3).text(1.23456) == "1.235"
