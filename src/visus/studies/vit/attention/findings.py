"""Whether heads differ, and what to know before reading a map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visus.formats import percent
from visus.result import Finding
from visus.studies.vit.attention.measure import AttentionMeasures, HeadsMeasures, ImageMaps, beside_patches
from visus.studies.vit.attention.tables import explained_key

LEVEL = 0.05  # of the test, after Holm's correction over layers
OUTLYING = 0.005  # share of patch tokens from which on outlying norms are told


def findings(m: AttentionMeasures) -> tuple[Finding, ...]:
    said = [finding for k, h in enumerate(m.heads) for finding in _heads_said(h, k)]
    cautions = [f"No map of {model}: {why}." for model, why in m.refused]
    cautions += [text for look in m.looks for text in _look_cautions(look)]
    cautions += [text for h in m.heads for text in _heads_cautions(h)]
    return (*said, *(Finding(text, kind="caution") for text in cautions))


def _heads_said(h: HeadsMeasures, k: int) -> Iterator[Finding]:
    if h.explained is None:
        yield Finding(
            f"Whether the heads of {h.model} differ cannot be tested: on fewer than two pictures all of them look at patches.",
            kind="undecided",
        )
        return
    far, wide = ("heads", f"distance_{k}"), ("heads", f"entropy_{k}")
    count, untested = len(h.layers), sum(layer.distance_explained is None for layer in h.layers)
    more = f" ({untested} not tested)" if untested else ""
    yield Finding(
        f"In {_differ([layer.p_holm for layer in h.layers])} of {count} layers{more} of {h.model} the heads differ in how far they look, in the "
        f"same way over {h.n:,} pictures (permutation test, Holm).",
        shows=far,
    )
    yield Finding(
        f"In {_differ([layer.entropy_p_holm for layer in h.layers])} of {count} layers of {h.model} the heads differ in how widely they look "
        "(entropy).",
        shows=wide,
    )
    yield Finding(
        f"The head explains {percent(h.explained, 0)} of the variation of attention distance within a picture of {h.model} on average.",
        metrics=(explained_key(h.model),),
        shows=far,
    )


def _differ(p: Sequence[float | None]) -> int:
    return sum(value is not None and value < LEVEL for value in p)


def _look_cautions(look: ImageMaps) -> Iterator[str]:
    if look.mean_pooled:
        yield f"{look.model} has no CLS token and pools by the mean: its maps are the mean attention of all patches."
    if len(look.beside) > 1:
        yield (
            f"{look.model} has {len(look.beside)} tokens that are no patches ({beside_patches(look.beside)}); maps and means leave them out."
        )


def _heads_cautions(h: HeadsMeasures) -> Iterator[str]:
    if h.saturated:
        layers = h.saturated_layers
        yield (
            f"On {h.saturated:,} of {h.n:,} pictures some heads of {h.model} look at no patch at all (layer{'s' if len(layers) > 1 else ''} "
            f"{', '.join(map(str, layers))}): their attention is saturated on tokens that are none, and "
            "they are left out of means and tests there."
        )
    if h.outliers > OUTLYING:
        yield (
            f"{percent(h.outliers)} of the patch tokens of {h.model} have an outlying norm behind the last "
            f"block (Darcet et al. 2024): its maps may show "
            "where it keeps notes, not what it looks at."
        )
