"""Where does it look? Maps of attention over chosen pictures, and what the heads do over many (P9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visus.errors import SpecError
from visus.studies.common.schema1 import Figure, Table
from visus.studies.common.sections import Part
from visus.studies.common.shared import percent
from visus.studies.vit.overlays import UNIFORM, overlaid, resized
from visus.studies.vit.subject import EvaluatedModel, Shown, prepared

if TYPE_CHECKING:
    import torch

    from visus.images import ImageSet
    from visus.measures.attention import Specialisation

SIDE = 128
SMALL = 96
SCALES = {True: "times uniform", False: "own scale"}
UNSPECIALISED = 0.05  # level of the test, after Holm's correction over layers


@dataclass(frozen=True)
class Heads:
    """Over a set of pictures: entropy (nats) of the CLS row and mean attention distance (pixels), float32 [n, layers, heads] each, NaN where
    all of a head's attention fell on tokens that are no patches;
    outliers: the mean share of patch tokens with an outlying norm behind the last block."""

    model: str
    entropy: np.ndarray
    distance: np.ndarray
    outliers: float
    patches: int


def look_at(viewers: Sequence[EvaluatedModel], imageset: ImageSet, rows: np.ndarray, *, device: str) -> Part:
    """Overlays on the pictures at `rows`, of all models side by side: of a vision transformer its maps, of another network Grad-CAM."""
    names = [imageset.ids[int(i)] for i in rows]
    tiles: dict[tuple[int, bool], list[tuple[str, np.ndarray]]] = {(i, s): [] for i in range(len(rows)) for s in SCALES}
    figures: list[Figure] = []
    arrays: dict[str, np.ndarray] = {}
    warnings, seen = [], []
    for k, viewer in enumerate(viewers):
        shown = prepared(viewer, imageset, rows)
        try:
            with viewer.backbone.on(device):
                maps = _maps(viewer, shown, device)
                layers = None if viewer.layout is None else _layers(viewer, shown, device)
        except SpecError as error:
            warnings.append(f"No map of {viewer.spec}: {error}.")
            continue
        seen.append(viewer)
        whose = f"{viewer.spec}: " if len(viewers) > 1 else ""
        for (i, absolute), row in tiles.items():
            row.append((f"{whose}picture", resized(shown.raw[i], SIDE)))
            for title, found in maps.items():
                row.append((title, overlaid(shown.raw[i : i + 1], found[i : i + 1], SIDE, absolute=absolute)[0]))
        if layers is not None:
            figures.append(_all_heads(viewer, shown, layers, k, names[0], arrays))
        warnings += _warned(viewer)
    looked = [
        (caption, picture, f"{names[i]}: {SCALES[s]}") for (i, s), row in tiles.items() for caption, picture in row
    ]
    if looked:
        arrays["looked"] = _stacked([picture for _, picture, _ in looked])
        figures.insert(
            0,
            Figure(
                "looked",
                "gallery",
                f"Where {', '.join(v.spec for v in seen)} look{'' if len(seen) > 1 else 's'}",
                f"{' '.join(dict.fromkeys(_what(v) for v in seen))} Each map twice: 'times uniform' colours a patch by its share, from nothing to "
                f"{UNIFORM:g} times that of a flat map, the same for all "
                "pictures; 'own scale' from the map's least to its largest value, which makes even a flat map look sharp.",
                {"images": "looked", "captions": [c for c, _, _ in looked], "groups": [g for _, _, g in looked]},
            ),
        )
    return Part((), {}, tuple(figures), arrays, tuple(warnings))


def _stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 [n, h, w, 3] of pictures of several shapes, white beyond each."""
    height, width = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    found = np.full((len(pictures), height, width, 3), 255, np.uint8)
    for out, picture in zip(found, pictures, strict=True):
        out[: picture.shape[0], : picture.shape[1]] = picture
    return found


def _warned(viewer: EvaluatedModel) -> list[str]:
    said = []
    if viewer.flat:
        said.append(
            f"{viewer.spec} has no CLS token and pools by the mean: its maps are the mean attention of all patches."
        )
    if viewer.layout is not None and len(viewer.layout.extra) > 1:
        said.append(
            f"{viewer.spec} has {len(viewer.layout.extra)} tokens that are no patches "
            f"({listed(viewer.layout.extra)}); maps and means leave them out."
        )
    return said


def listed(names: Sequence[str]) -> str:
    """('cls', 'register 1', 'register 2') -> 'cls, 2 registers'."""
    counted = Counter(name.rpartition(" ")[0] or name for name in names)
    return ", ".join(f"{n} {kind}s" if n > 1 else kind for kind, n in counted.items())


def _what(viewer: EvaluatedModel) -> str:
    if viewer.layout is None:
        return "Grad-CAM (Selvaraju et al. 2017): of the predicted class, at the last layer that has positions."
    who = "the mean over the patches' rows" if viewer.flat else "the row of the CLS token"
    return (
        f"Last layer: {who}, averaged over the heads. Rollout: Abnar and Zuidema 2020. Gradients: gradient-weighted attention, Chefer et al. "
        "2021, of the predicted class."
    )


def _maps(viewer: EvaluatedModel, shown: Shown, device: str) -> dict[str, np.ndarray]:
    """float [n, gh, gw] by title."""
    from visus.models.relevance import grad_cam
    from visus.studies.vit.masking.measure import importance

    if viewer.layout is None:
        return {
            "Grad-CAM": np.concatenate(
                list(
                    shown.through(
                        viewer, device, lambda _, x: grad_cam(viewer.backbone, x, None).cpu().numpy(), size=16
                    )
                )
            )
        }
    titles = {"attention": "last layer", "rollout": "rollout", "gradient-weighted": "gradients"}
    found = importance(viewer, shown, device)
    return {titles[name]: values.reshape(-1, *viewer.layout.grid) for name, values in found.items()}


def _layers(viewer: EvaluatedModel, shown: Shown, device: str) -> np.ndarray:
    """float32 [layers, heads, gh, gw]: every head's CLS row of the first picture."""
    from visus.models.attention import attention

    assert viewer.layout is not None
    x = shown.batch(viewer, device, slice(0, 1))
    found = attention(viewer.backbone, x, layers=range(len(viewer.layout.blocks))).maps
    return np.stack([found[k][0].cpu().numpy().reshape(-1, *viewer.layout.grid) for k in sorted(found)])


def _all_heads(
    viewer: EvaluatedModel, shown: Shown, layers: np.ndarray, k: int, name: str, arrays: dict[str, np.ndarray]
) -> Figure:
    """A gallery with a row for each layer: its heads, and their mean."""
    pictures, captions, groups = [], [], []
    for layer, heads in enumerate(layers):
        for title, one in [*((f"head {h + 1}", m) for h, m in enumerate(heads)), ("mean", heads.mean(axis=0))]:
            pictures.append(overlaid(shown.raw[:1], one[None], SMALL, absolute=True)[0])
            captions.append(title)
            groups.append(f"layer {layer + 1}")
    arrays[f"heads_{k}"] = np.stack(pictures)
    return Figure(
        f"heads_{k}",
        "gallery",
        f"All layers and heads of {viewer.spec}",
        f"{'Mean of the patch rows' if viewer.flat else 'The CLS row'} on {name}, in times uniform (0 to {UNIFORM:g}).",
        {"images": f"heads_{k}", "captions": captions, "groups": groups},
    )


def heads_of(viewer: EvaluatedModel, imageset: ImageSet, rows: np.ndarray, *, device: str) -> Heads:
    """What every head does on the pictures at `rows`."""
    from visus.models.attention import statistics
    from visus.models.tokens import outlier_tokens
    from visus.progress import task

    assert viewer.layout is not None
    shown = prepared(viewer, imageset, rows)

    def look(_: slice, x: torch.Tensor) -> tuple[np.ndarray, ...]:
        found = *statistics(viewer.backbone, x), outlier_tokens(viewer.backbone, x).float().mean(dim=1)
        return tuple(f.cpu().numpy() for f in found)

    parts = []
    with viewer.backbone.on(device), task("measuring heads", len(rows)) as progress:
        for part in shown.through(viewer, device, look, size=16):
            parts.append(part)
            progress.advance(len(part[0]))
    entropy, distance, outliers = (np.concatenate(column) for column in zip(*parts, strict=True))
    gh, gw = viewer.layout.grid
    return Heads(viewer.spec, entropy, distance, float(outliers.mean()), gh * gw)


def _tested(values: np.ndarray, seed: int) -> Specialisation | None:
    """The test of a layer, of the pictures on which every head has a value, float [n, heads]; None: fewer than two."""
    from visus.measures.attention import specialisation

    known = values[np.isfinite(values).all(axis=1)]
    return specialisation(known, seed=seed) if len(known) > 1 else None


def _corrected(tests: Sequence[Specialisation | None]) -> np.ndarray:
    """Holm's p of every layer, NaN of one that was not tested."""
    from visus.measures.compare import holm

    found = np.full(len(tests), np.nan)
    at = [i for i, t in enumerate(tests) if t is not None]
    found[at] = holm(np.array([t.p for t in tests if t is not None]))
    return found


def _number(value: float | np.ndarray) -> float | None:
    return float(value) if np.isfinite(value) else None


def _sentence(heads: Heads, tests: Sequence[Specialisation | None], far: np.ndarray, wide: np.ndarray) -> str:
    """In how many layers the heads differ. far, wide: Holm's p of distance and of entropy, NaN: not tested."""
    done = [t.statistic for t in tests if t is not None]
    if not done:
        return f"Whether the heads of {heads.model} differ cannot be tested: on fewer than two pictures all of them look at patches."
    untested = f" ({len(tests) - len(done)} not tested)" if len(done) < len(tests) else ""
    return (
        f"In {int((far < UNSPECIALISED).sum())} of {len(tests)} layers{untested} of {heads.model} the heads differ in how far they look, and in "
        f"{int((wide < UNSPECIALISED).sum())} in how widely (entropy), in the same way over {len(heads.distance):,} pictures "
        f"(permutation test, Holm); the head explains {percent(float(np.mean(done)), 0)} of "
        f"the variation of distance within a picture on average."
    )


def heads_part(found: Sequence[Heads], *, seed: int) -> Part:
    """Heatmaps of every head, and a test a layer whether its heads differ in the same way over the pictures."""
    from visus.measures.attention import mean_known

    figures, rows, said, warnings = [], [], [], []
    for k, heads in enumerate(found):
        for what, values, unit in (("entropy", heads.entropy, "nats"), ("distance", heads.distance, "pixels")):
            means = mean_known(values)
            title = "Entropy of the attention" if what == "entropy" else "Mean attention distance"
            flat = f" A flat map has {np.log(heads.patches):.2f} nats." if what == "entropy" else ""
            figures.append(
                Figure(
                    f"{what}_{k}",
                    "heatmap",
                    f"{title} of every head of {heads.model}",
                    f"Mean over {len(values):,} pictures, in {unit}.{flat}",
                    {
                        "values": [[float(v) if np.isfinite(v) else None for v in row] for row in means],
                        "rows": [f"layer {i + 1}" for i in range(len(means))],
                        "columns": [f"head {h + 1}" for h in range(means.shape[1])],
                        "label": unit,
                        "low": None,
                        "high": None,
                    },
                )
            )
        count = heads.distance.shape[1]
        tests = [_tested(heads.distance[:, layer], seed) for layer in range(count)]
        narrow = [_tested(heads.entropy[:, layer], seed) for layer in range(count)]
        corrected, narrow_p = _corrected(tests), _corrected(narrow)
        for layer, test in enumerate(tests):
            per_head, spread = mean_known(heads.distance[:, layer]), narrow[layer]
            known = per_head[np.isfinite(per_head)]
            rows.append(
                (
                    heads.model, layer + 1, _number(mean_known(heads.entropy[:, layer].reshape(-1))),
                    *((float(known.mean()), float(known.min()), float(known.max())) if len(known) else (None, None, None)),
                    *((100 * test.statistic, test.p) if test else (None, None)), _number(corrected[layer]),
                    100 * spread.statistic if spread else None, _number(narrow_p[layer]),
                )
            )  # fmt: skip
        said.append(_sentence(heads, tests, corrected, narrow_p))
        lost = np.isnan(heads.entropy)
        if lost.any():
            layers, some = np.flatnonzero(lost.any(axis=(0, 2))) + 1, lost.any(axis=(1, 2)).sum()
            warnings.append(
                f"On {some:,} of {len(lost):,} pictures some heads of {heads.model} look at no patch at all (layer{'s' if len(layers) > 1 else ''} "
                f"{', '.join(map(str, layers))}): their attention is saturated on tokens that are none, and "
                "they are left out of means and tests there."
            )
        if heads.outliers > 0.005:
            warnings.append(
                f"{percent(heads.outliers)} of the patch tokens of {heads.model} have an outlying norm behind the last "
                f"block (Darcet et al. 2024): its maps may show "
                "where it keeps notes, not what it looks at."
            )
    table = Table(
        (
            "model",
            "layer",
            "entropy, nats",
            "distance, px",
            "nearest head",
            "farthest head",
            "distance explained by head, %",
            "p",
            "Holm p",
            "entropy explained by head, %",
            "Holm p ",
        ),
        tuple(rows),
        title="What the heads do",
        digits=2,
        note="distance: mean over patches of the distance of what they attend to (Dosovitskiy et al. 2021). explained "
        "by head: share of the variation of distance, or entropy, "
        "within a picture that the head explains (eta squared); p: head labels permuted within pictures, Holm's over layers.",
    )
    return Part(tuple(said), {"heads": table}, tuple(figures), {}, tuple(warnings))
