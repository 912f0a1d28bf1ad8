"""What studies share: which taps, which pictures were set aside, short names for long specs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from visus.errors import DataError
from visus.spec import unknown
from visus.studies.common.schema1 import Table

if TYPE_CHECKING:
    import numpy as np

    from visus.features import Features
    from visus.images.base import ImageSet, Quarantined
    from visus.measures.probe_null import PermutationNull
    from visus.models.base import Backbone

DEFAULT_TAPS = ("early", "middle", "late")


def chosen_taps(backbone: Backbone, taps: Sequence[str] | None) -> list[str]:
    """The names of the taps that a user asked for, in order of depth; None gives early, middle, late; 'all' gives every point.

    A name may hold several, separated by commas. Raises SpecError for an unknown one.
    """
    names = [part.strip() for name in taps or DEFAULT_TAPS for part in name.split(",") if part.strip()]
    if "all" in names:
        return [tap.name for tap in backbone.taps]
    return [tap.name for tap in backbone.resolve(names)]


def quarantine_table(quarantine: Iterable[Quarantined]) -> Table:
    """The pictures set aside, by name, with the reason."""
    rows = tuple((q.id, q.reason) for q in quarantine)
    return Table(("file", "reason"), rows, title=f"Set aside: {len(rows)} pictures that could not be used")


def tap_label(backbone: Backbone, tap: str) -> str:
    """A tap as people read it: 'middle (blocks.3)' when an alias points at it, else its name."""
    alias = next((a for a, name in backbone.aliases.items() if name == tap), None)
    return f"{alias} ({tap})" if alias else tap


def percent(value: float, digits: int = 1) -> str:
    """0.8312 -> '83.1 %'."""
    return f"{100 * value:.{digits}f} %"


def interval_text(low: float, high: float) -> str:
    """'95 % interval 81.0 to 85.2 %'."""
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"


def null_warnings(probes: Sequence[tuple[str, PermutationNull | None, float]], most_by_luck: float) -> list[str]:
    """What the shuffled-label control says against probes. probes: what each is called, its null, its test accuracy; most_by_luck: the share
    of the largest class of the test images."""
    known = [(what, null, accuracy) for what, null, accuracy in probes if null is not None]
    weak = [(what, null, accuracy) for what, null, accuracy in known if not null.exceeded_by(accuracy)]
    # Labels that were permuted know nothing of a test image: that not one permutation of many stays below luck means a leak.
    leaks = [(what, float(null.accuracy.min())) for what, null, _ in known if null.accuracy.min() > most_by_luck]
    said = []
    if weak:
        what, null, accuracy = weak[0]
        more = f" and {len(weak) - 1} more of {len(known)} probes" if len(weak) > 1 else ""
        said.append(
            f"{what}{more}: the probe's {percent(accuracy)} do not exceed the 95 % point of the same probe on shuffled labels, "
            f"{percent(null.point)}; whether these features know the classes is undecided."
        )
    if leaks:
        what, least = leaks[0]
        more = f" and {len(leaks) - 1} more of {len(known)} probes" if len(leaks) > 1 else ""
        said.append(
            f"{what}{more}: every probe on shuffled labels is better than chance, the worst with {percent(least)}; look for a leak."
        )
    return said


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    """Raise SpecError when an argument is none of the known words."""
    if value not in known:
        raise unknown(f"--{name}", value, known)


def labels_of(imageset: ImageSet) -> np.ndarray:
    """The labels, int64 [n]; raises DataError when the set has none."""
    if imageset.labels is None:
        raise DataError(
            f"{imageset.name} has no labels, which this study needs; use class subfolders or --labels file.csv of name,label"
        )
    return imageset.labels


def random_control(spec: str, *, seed: int) -> Backbone:
    """The same architecture with random weights: the control beside every probe. Raises VisusError where there is none."""
    from visus.models import load_backbone

    return load_backbone(spec + ("&" if "?" in spec else "?") + "weights=none", seed=seed)


def pixels_of(features: Features, kept: np.ndarray) -> np.ndarray:
    """Hashes of the decoded pictures at positions `kept` of the ImageSet, str [len(kept)], in that order."""
    import numpy as np

    found: np.ndarray = features.pixels[np.searchsorted(features.rows, kept)]
    return found


def rows_of(features: Features, tap: str, kept: np.ndarray) -> np.ndarray:
    """float32 [len(kept), d]: one tap's vectors for the pictures at positions `kept` of the ImageSet, in that order."""
    import numpy as np

    x = features[tap]
    if len(kept) == len(features):
        return x
    return x[np.searchsorted(features.rows, kept)]
