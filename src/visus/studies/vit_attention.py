"""Where does it look? Maps of attention over chosen pictures, and what the heads do over many (P9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visus.result import Figure, Table
from visus.studies.common import percent
from visus.studies.parts import Part
from visus.studies.vit_overlays import UNIFORM, overlaid
from visus.studies.vit_subject import Shown, Viewer, prepared

if TYPE_CHECKING:
    from visus.images import ImageSet

SIDE = 128
SMALL = 96
SCALES = {True: "times uniform", False: "own scale"}
UNSPECIALISED = 0.05  # level of the test, after Holm's correction over layers


@dataclass(frozen=True)
class Heads:
    """Over a set of pictures: entropy (nats) of the CLS row and mean attention distance (pixels), float32 [n, layers, heads] each;
    outliers: the mean share of patch tokens with an outlying norm behind the last block."""

    model: str
    entropy: np.ndarray
    distance: np.ndarray
    outliers: float
    patches: int


def look_at(viewers: Sequence[Viewer], imageset: ImageSet, rows: np.ndarray, *, device: str) -> Part:
    """Overlays on the pictures at `rows`: of every vision transformer its maps, of every other network Grad-CAM."""
    figures: list[Figure] = []
    arrays: dict[str, np.ndarray] = {}
    warnings = []
    for k, viewer in enumerate(viewers):
        shown = prepared(viewer, imageset, rows)
        names = [imageset.ids[int(i)] for i in rows]
        with viewer.backbone.on(device):
            maps = _maps(viewer, shown, device)
            layers = None if viewer.anatomy is None else _layers(viewer, shown, device)
        pictures, captions, groups = [], [], []
        for i, name in enumerate(names):
            for absolute, scale in SCALES.items():
                pictures.append(_plain(shown.raw[i], SIDE))
                captions.append("picture")
                for title, found in maps.items():
                    pictures.append(overlaid(shown.raw[i : i + 1], found[i : i + 1], SIDE, absolute=absolute)[0])
                    captions.append(title)
                groups += [f"{name}: {scale}"] * (1 + len(maps))
        arrays[f"looked_{k}"] = np.stack(pictures)
        figures.append(
            Figure(
                f"looked_{k}",
                "gallery",
                f"Where {viewer.spec} looks",
                f"{_what(viewer)} Each map twice: 'times uniform' colours a patch by its share, from nothing to "
                f"{UNIFORM:g} times that of a flat map, the same for all "
                "pictures; 'own scale' from the map's least to its largest value, which makes even a flat map look sharp.",
                {"images": f"looked_{k}", "captions": captions, "groups": groups},
            )
        )
        if layers is not None and viewer.anatomy is not None:
            figures.append(_all_heads(viewer, shown, layers, k, names[0], arrays))
        if viewer.flat:
            warnings.append(
                f"{viewer.spec} has no CLS token and pools by the mean: its maps are the mean attention of all patches."
            )
        if viewer.anatomy is not None and len(viewer.anatomy.extra) > 1:
            warnings.append(
                f"{viewer.spec} has {len(viewer.anatomy.extra)} tokens before the patches "
                f"({', '.join(viewer.anatomy.extra)}); maps and means leave them out."
            )
    return Part((), {}, tuple(figures), arrays, tuple(warnings))


def _what(viewer: Viewer) -> str:
    if viewer.anatomy is None:
        return "Grad-CAM (Selvaraju et al. 2017) of the predicted class at the last layer that has positions."
    who = "the mean over the patches' rows" if viewer.flat else "the row of the CLS token"
    return f"Last layer: {who}, averaged over the heads. Rollout: Abnar and Zuidema 2020. Gradient-weighted: Chefer et "
    "al. 2021, of the predicted class."


def _plain(picture: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(picture)
    method = Image.Resampling.NEAREST if max(image.size) < side else Image.Resampling.LANCZOS
    return np.asarray(image.resize((side, side), method))


def _maps(viewer: Viewer, shown: Shown, device: str) -> dict[str, np.ndarray]:
    """float [n, gh, gw] by title."""
    from visus.models.relevance import grad_cam
    from visus.studies.vit_masking import importance

    if viewer.anatomy is None:
        return {
            "Grad-CAM": np.concatenate(
                [grad_cam(viewer.backbone, x, None).cpu().numpy() for _, x in shown.batches(viewer, device, 16)]
            )
        }
    titles = {"attention": "last layer", "rollout": "rollout", "gradient-weighted": "gradients"}
    found = importance(viewer, shown, device)
    return {titles[name]: values.reshape(-1, *viewer.anatomy.grid) for name, values in found.items()}


def _layers(viewer: Viewer, shown: Shown, device: str) -> np.ndarray:
    """float32 [layers, heads, gh, gw]: every head's CLS row of the first picture."""
    from visus.models.attention import attention

    assert viewer.anatomy is not None
    x = shown.batches(viewer, device, 1)[0][1]
    found = attention(viewer.backbone, x, layers=range(len(viewer.anatomy.blocks))).maps
    return np.stack([found[k][0].cpu().numpy().reshape(-1, *viewer.anatomy.grid) for k in sorted(found)])


def _all_heads(
    viewer: Viewer, shown: Shown, layers: np.ndarray, k: int, name: str, arrays: dict[str, np.ndarray]
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


def heads_of(viewer: Viewer, imageset: ImageSet, rows: np.ndarray, *, device: str) -> Heads:
    """What every head does on the pictures at `rows`."""
    from visus.models.attention import statistics
    from visus.models.tokens import outlier_tokens
    from visus.progress import task

    assert viewer.anatomy is not None
    shown = prepared(viewer, imageset, rows)
    entropies, distances, outliers = [], [], []
    with viewer.backbone.on(device), task("measuring heads", len(rows)) as progress:
        for _, x in shown.batches(viewer, device, 16):
            entropy, distance = statistics(viewer.backbone, x)
            entropies.append(entropy.cpu().numpy())
            distances.append(distance.cpu().numpy())
            outliers.append(outlier_tokens(viewer.backbone, x).float().mean(dim=1).cpu().numpy())
            progress.advance(len(x))
    gh, gw = viewer.anatomy.grid
    share = float(np.concatenate(outliers).mean())
    return Heads(viewer.spec, np.concatenate(entropies), np.concatenate(distances), share, gh * gw)


def heads_part(found: Sequence[Heads], *, seed: int) -> Part:
    """Heatmaps of every head, and a test a layer whether its heads differ in the same way over the pictures."""
    from visus.measures.attention import specialisation
    from visus.measures.compare import holm

    figures, rows, said, warnings = [], [], [], []
    for k, heads in enumerate(found):
        for what, values, unit in (("entropy", heads.entropy, "nats"), ("distance", heads.distance, "pixels")):
            means = values.mean(axis=0)
            title = "Entropy of the attention" if what == "entropy" else "Mean attention distance"
            flat = f" A flat map has {np.log(heads.patches):.2f} nats." if what == "entropy" else ""
            figures.append(
                Figure(
                    f"{what}_{k}",
                    "heatmap",
                    f"{title} of every head of {heads.model}",
                    f"Mean over {len(values):,} pictures, in {unit}.{flat}",
                    {
                        "values": means.tolist(),
                        "rows": [f"layer {i + 1}" for i in range(len(means))],
                        "columns": [f"head {h + 1}" for h in range(means.shape[1])],
                        "label": unit,
                        "low": None,
                        "high": None,
                    },
                )
            )
        tests = [specialisation(heads.distance[:, layer], seed=seed) for layer in range(heads.distance.shape[1])]
        corrected = holm(np.array([t.p for t in tests]))
        for layer, (test, p) in enumerate(zip(tests, corrected, strict=True)):
            per_head = heads.distance[:, layer].mean(axis=0)
            rows.append(
                (
                    heads.model, layer + 1, float(heads.entropy[:, layer].mean()), float(per_head.mean()),
                    float(per_head.min()), float(per_head.max()), 100 * test.statistic, test.p, float(p),
                )
            )  # fmt: skip
        special = [t.statistic for t, p in zip(tests, corrected, strict=True) if p < UNSPECIALISED]
        said.append(
            f"In {len(special)} of {len(tests)} layers of {heads.model} the heads differ in how far they look, in the "
            f"same way over {len(heads.distance):,} pictures "
            f"(permutation test, Holm); the head explains {percent(float(np.mean([t.statistic for t in tests])), 0)} of "
            f"the variation within a picture on average."
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
            "explained by head, %",
            "p",
            "Holm p",
        ),
        tuple(rows),
        title="What the heads do",
        digits=2,
        note="distance: mean over patches of the distance of what they attend to (Dosovitskiy et al. 2021). explained "
        "by head: share of the variation of distance "
        "within a picture that the head explains (eta squared); p: head labels permuted within pictures.",
    )
    return Part(tuple(said), {"heads": table}, tuple(figures), {}, tuple(warnings))
