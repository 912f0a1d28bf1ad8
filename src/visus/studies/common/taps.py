"""Which layers of a backbone are looked at, what they are called, and their vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from visus.errors import VisusError
from visus.features import Features
from visus.models import Backbone, load_backbone
from visus.progress import log
from visus.studies.common.options import split_commas

T = TypeVar("T")
DEFAULT_TAPS = ("early", "middle", "late")


def chosen_taps(backbone: Backbone, taps: Sequence[str] | None) -> list[str]:
    """The names of the taps that a user asked for, in order of depth; None gives early, middle, late; 'all' gives every point.

    A name may hold several, separated by commas. Raises SpecError for an unknown one.
    """
    names = split_commas(taps or DEFAULT_TAPS)
    if "all" in names:
        return [tap.name for tap in backbone.taps]
    return [tap.name for tap in backbone.resolve(names)]


def tap_label(backbone: Backbone, tap: str) -> str:
    """A tap as people read it: 'middle (blocks.3)' when an alias points at it, else its name."""
    alias = next((a for a, name in backbone.aliases.items() if name == tap), None)
    return f"{alias} ({tap})" if alias else tap


def random_control(spec: str, *, seed: int) -> Backbone:
    """The same architecture with random weights: the control beside every probe. Raises VisusError where there is none."""
    return load_backbone(spec + ("&" if "?" in spec else "?") + "weights=none", seed=seed)


def of_random_control(backbone: Backbone, run: Callable[[Backbone], T], *, seed: int) -> T | None:
    """What `run` gives of the same architecture with random weights; None, and a line in the log, where there is none."""
    if backbone.random:
        return None
    try:
        return run(random_control(backbone.spec, seed=seed))
    except VisusError as error:
        log(f"no random-init control for {backbone.spec}: {error}")
        return None


def pixels_of(features: Features, kept: np.ndarray) -> np.ndarray:
    """Hashes of the decoded pictures at positions `kept` of the ImageSet, str [len(kept)], in that order."""
    found: np.ndarray = features.pixels[np.searchsorted(features.rows, kept)]
    return found


def rows_of(features: Features, tap: str, kept: np.ndarray) -> np.ndarray:
    """float32 [len(kept), d]: one tap's vectors for the pictures at positions `kept` of the ImageSet, in that order."""
    x = features[tap]
    if len(kept) == len(features):
        return x
    return x[np.searchsorted(features.rows, kept)]
