"""Made for test_before_after, test_before_after_inputs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.features import tiny

from visus.images import ImageSet, Splits
from visus.models import Backbone
from visus.result import Section, Table
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.section import section
from visus.studies.transfer import before_after
from visus.studies.transfer.before_after import measure as measuring
from visus.studies.transfer.before_after.measure import (
    BeforeAfterMeasures,
    FeatureChange,
    Known,
    measure_change,
)
from visus.studies.transfer.evaluation import LayerScore
from visus.studies.transfer.options import FeatureOptions, ProbeOptions

CLASSES = ("dark", "blue", "red", "violet")  # red and blue off or on; without blue 0 is 1 and 2 is 3


EACH = 35


def network(*, blue: bool, seed: int = 0, random: bool = False) -> Backbone:
    """The tiny network with a stem of four channels for red and four for blue, and a body that has or lacks the latter."""
    made = tiny.backbone(seed)
    state = made.module.state_dict()
    if not random:
        stem = state["stem.0.weight"]
        stem.abs_()
        stem[:4, 1:] = 0
        stem[4:, :2] = 0
        state["stem.0.bias"].zero_()
        if not blue:
            state["body.0.weight"][:, 4:] = 0
    return replace(made, random=random)


@pytest.fixture(scope="session")
def images() -> ImageSet:
    rng = np.random.default_rng(0)
    y = np.arange(4 * EACH) % 4
    files = []
    for label in y:
        shade = np.array([60 + 120 * (label >= 2), 90, 60 + 120 * (label % 2)]) + rng.normal(0, 12, 3)
        noisy = np.clip(shade + rng.normal(0, 20, (tiny.SIZE, tiny.SIZE, 3)), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "PNG")
        files.append(buffer.getvalue())
    ids = tuple(f"{i}.png" for i in range(len(y)))
    return ImageSet("shades", tiny.Pictures(tuple(files)), np.arange(len(y)), ids, labels=y, classes=CLASSES)


@pytest.fixture(scope="session")
def splits(images: ImageSet) -> Splits:
    return images.split(seed=0)


def run(
    images: ImageSet,
    splits: Splits,
    states: Mapping[str, Backbone],
    *,
    taps: tuple[str, ...] | None = None,
    maps: bool = False,
    known: Known | None = None,
    valid: tuple[np.ndarray, np.ndarray] | None = None,
    pool: str = "mean",
) -> FeatureChange:
    """valid: positions of the valid images, and their labels; default all."""
    indices, y = valid or (np.arange(len(images)), np.asarray(images.labels))
    features = FeatureOptions(taps, pool, engine="torch", device="cpu")
    data = LabelledImages(images, splits, indices, y)
    return measure_change(data, states, features, ProbeOptions(maps=maps), known or Known({}, {}))


def told(change: FeatureChange) -> Section:
    return section(before_after, BeforeAfterMeasures((change,)))


def tables(change: FeatureChange) -> dict[str, Table]:
    return {t.key.removeprefix("before-and-after").strip("-") or "layers": t for t in told(change).tables}


def sentences(change: FeatureChange) -> list[str]:
    return [f.text for f in told(change).findings if f.kind != "caution"]


@pytest.fixture(scope="session")
def states() -> dict[str, Backbone]:
    return {
        "pretrained": network(blue=False),
        "fine-tuned (full)": network(blue=True),
        "random": network(blue=True, seed=5, random=True),
    }


@pytest.fixture(scope="session")
def scores() -> dict[tuple[str, str], LayerScore]:
    """What was evaluated on the way to `found`."""
    return {}


@pytest.fixture(scope="session")
def found(
    images: ImageSet,
    splits: Splits,
    states: dict[str, Backbone],
    scores: dict[tuple[str, str], LayerScore],
    tmp_path_factory: pytest.TempPathFactory,
) -> FeatureChange:
    real = measuring.evaluate_layer

    def kept(x: np.ndarray, data: LabelledImages, layer: Any, options: ProbeOptions) -> LayerScore:
        scores[layer.model, layer.tap] = score = real(x, data, layer, options)
        return score

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(measuring, "evaluate_layer", kept)
        return run(images, splits, states, maps=True)


def column(table: Table, name: str) -> list[Any]:
    return list(table.column(name))


def slow_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, term by term."""

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        n = len(a)
        k, m = a @ a.T, b @ b.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        ones = np.ones(n)
        cross = ones @ k @ m @ ones
        return float((np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3)))

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
