"""How many patches can it lose? Curves of answers against the share of patches kept, and what they say of maps (P10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.errors import DataError
from visus.studies.vit_subject import Shown, Viewer, prepared

if TYPE_CHECKING:
    from visus.images import ImageSet

RATIOS = tuple(round(1 - k / 10, 1) for k in range(10))
PIXEL_PATTERNS = ("random", "centre", "periphery", "block")
FILLS = ("mean", "black", "blur")
CNN_GRID = (7, 7)  # cells to blank where no model of the study has patches
FAITHFUL = ("attention", "rollout", "gradient-weighted", "random")


@dataclass(frozen=True)
class Curve:
    """Answers at every keep ratio.

    how: 'drop' (tokens) or 'blank' (pixels). answers: int64 [r, n]; chosen: float [r, n], the probability of the answer given to the
    whole picture. right: bool [r, m] over the pictures whose class can be meant, None where no answer means one.
    """

    model: str
    how: str
    pattern: str
    ratios: tuple[float, ...]
    answers: np.ndarray
    chosen: np.ndarray
    right: np.ndarray | None

    @property
    def agreement(self) -> np.ndarray:
        """bool [r, n]: the answer is that to the whole picture."""
        found: np.ndarray = self.answers == self.answers[0]
        return found

    @property
    def hits(self) -> np.ndarray:
        """What the curve counts: right answers where there are any, else agreement."""
        return self.agreement if self.right is None else self.right


@dataclass(frozen=True)
class Masked:
    """Everything masking measured: curves of patterns, and by model and map the deletion and insertion curves."""

    n: int
    curves: tuple[Curve, ...]
    faithful: Mapping[tuple[str, str, str], Curve]  # (model, map, 'deletion' or 'insertion')


def ratios_of(text: str | None) -> tuple[float, ...]:
    """'1,0.7,0.4' -> keep ratios, 1 in front, falling. Raises DataError for one outside (0, 1]."""
    if text is None:
        return RATIOS
    try:
        found = {float(part) for part in text.split(",") if part.strip()}
    except ValueError:
        raise DataError(f"--keep {text!r} is no list of shares; write it as 1,0.7,0.4") from None
    wrong = [r for r in found if not 0 < r <= 1]
    if wrong or not found:
        raise DataError(
            f"--keep {text!r}: a keep ratio must be above 0 and at most 1, since a picture without patches shows nothing"
        )
    return tuple(sorted(found | {1.0}, reverse=True))


def mask(
    viewers: Sequence[Viewer],
    imageset: ImageSet,
    rows: np.ndarray,
    *,
    patterns: Sequence[str],
    ratios: Sequence[float],
    fill: str,
    device: str,
    seed: int,
) -> Masked:
    """Run every model on the pictures at `rows` with fewer and fewer patches, by every pattern; tokens dropped and pixels blanked."""
    from visus.measures.masking import patch_order
    from visus.progress import task

    grid = next((v.anatomy.grid for v in viewers if v.anatomy), CNN_GRID)
    pixel = [p for p in patterns if p in PIXEL_PATTERNS]
    transformers = [v for v in viewers if v.anatomy]
    steps = len(transformers) * (len(patterns) + 2 * len(FAITHFUL) - 4) + len(viewers) * len(pixel) + len(transformers)
    curves: list[Curve] = []
    faithful: dict[tuple[str, str, str], Curve] = {}
    with task("masking patches", steps) as progress:
        for viewer in viewers:
            shown = prepared(viewer, imageset, rows)
            y = None if imageset.labels is None else imageset.labels[rows]
            with viewer.backbone.on(device):
                if viewer.anatomy is not None:
                    maps = importance(viewer, shown, device)
                    progress.advance()
                    orders = {
                        p: patch_order(p, viewer.anatomy.grid, len(rows), seed=seed, scores=maps["attention"])
                        for p in patterns
                    }
                    for pattern, order in orders.items():
                        curves.append(dropped(viewer, shown, y, order, pattern, ratios, device))
                        progress.advance()
                    known = {("random", "deletion"): "random", ("attention", "deletion"): "most-attended"}
                    known |= {("random", "insertion"): "random", ("attention", "insertion"): "least-attended"}
                    for name in FAITHFUL:
                        for way, pattern in (("deletion", "most-attended"), ("insertion", "least-attended")):
                            same = known.get((name, way))
                            if same in orders:
                                found = next(c for c in curves if (c.model, c.pattern) == (viewer.spec, same))
                            else:
                                order = _order(name, pattern, viewer, maps, len(rows), seed)
                                found = dropped(viewer, shown, y, order, f"{name}, {way}", ratios, device)
                                progress.advance()
                            faithful[viewer.spec, name, way] = found
                for pattern in pixel:
                    order = patch_order(pattern, grid, len(rows), seed=seed)
                    curves.append(blanked(viewer, shown, y, order, grid, pattern, ratios, fill, device))
                    progress.advance()
    return Masked(len(rows), tuple(curves), faithful)


def _order(name: str, pattern: str, viewer: Viewer, maps: Mapping[str, np.ndarray], n: int, seed: int) -> np.ndarray:
    from visus.measures.masking import patch_order

    assert viewer.anatomy is not None
    if name == "random":
        return patch_order("random", viewer.anatomy.grid, n, seed=seed)
    return patch_order(pattern, viewer.anatomy.grid, n, scores=maps[name])


def importance(viewer: Viewer, shown: Shown, device: str) -> dict[str, np.ndarray]:
    """float32 [n, patches] by name: last-layer attention averaged over heads, rollout, and gradient-weighted attention."""
    from visus.models.attention import attention, rollout
    from visus.models.relevance import relevance

    assert viewer.anatomy is not None
    last = len(viewer.anatomy.blocks) - 1
    found: dict[str, list[np.ndarray]] = {"attention": [], "rollout": [], "gradient-weighted": []}
    for _, x in shown.batches(viewer, device, 32):
        looked = attention(viewer.backbone, x).maps[last].mean(dim=1)
        found["attention"].append(looked.cpu().numpy())
        found["rollout"].append(rollout(viewer.backbone, x).cpu().numpy())
        found["gradient-weighted"].append(relevance(viewer.backbone, x, None).cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def dropped(
    viewer: Viewer,
    shown: Shown,
    y: np.ndarray | None,
    order: np.ndarray,
    pattern: str,
    ratios: Sequence[float],
    device: str,
) -> Curve:
    """Answers with the patch tokens of ever fewer patches in the sequence."""
    import torch

    from visus.measures.masking import kept_at
    from visus.models.tokens import forward_kept

    outputs = []
    for ratio in ratios:
        kept = torch.from_numpy(kept_at(order, ratio)).to(device)
        parts = [
            forward_kept(viewer.backbone, x, kept[at]).float().cpu().numpy() for at, x in shown.batches(viewer, device)
        ]
        outputs.append(np.concatenate(parts))
    return _curve(viewer, "drop", pattern, ratios, outputs, y)


def blanked(
    viewer: Viewer,
    shown: Shown,
    y: np.ndarray | None,
    order: np.ndarray,
    grid: tuple[int, int],
    pattern: str,
    ratios: Sequence[float],
    fill: str,
    device: str,
) -> Curve:
    """Answers with the pixels of ever fewer patches left as they were."""
    import torch

    paint = painted(shown.raw, fill, viewer)
    outputs = []
    for ratio in ratios:
        whole = Shown(hidden(shown.raw, paint, order, grid, ratio))
        with torch.inference_mode():
            parts = [answer(viewer, x) for _, x in whole.batches(viewer, device)]
        outputs.append(np.concatenate(parts))
    return _curve(viewer, "blank", pattern, ratios, outputs, y)


def hidden(raw: np.ndarray, paint: np.ndarray, order: np.ndarray, grid: tuple[int, int], ratio: float) -> np.ndarray:
    """uint8 [n, h, w, 3]: the pictures with all but the kept patches painted over."""
    from visus.measures.masking import blank_mask, kept_at

    stays = blank_mask(kept_at(order, ratio), grid, (raw.shape[1], raw.shape[2]))
    found: np.ndarray = np.where(stays[..., None], raw, paint)
    return found


def painted(raw: np.ndarray, fill: str, viewer: Viewer) -> np.ndarray:
    """What hides pixels, uint8 broadcastable to the pictures: the mean colour of the model's normalisation, black, or the picture blurred."""
    if fill == "blur":
        from PIL import Image, ImageFilter

        radius = max(raw.shape[1:3]) / 16
        return np.stack([np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(radius))) for p in raw])
    colour = np.zeros(3) if fill == "black" else 255 * np.array(viewer.backbone.preprocess.mean)
    return np.round(colour).astype(np.uint8)[None, None, None]


def answer(viewer: Viewer, batch: Any) -> np.ndarray:
    """float32 [b, k]: logits, or for a probe the pooled feature, of whole pictures."""
    backbone = viewer.backbone
    if viewer.reading != "probe":
        return backbone.classify(batch).float().cpu().numpy()
    taps = backbone.resolve(["late"])
    return backbone.forward(batch, taps)[taps[0].name].float().cpu().numpy()


def _curve(
    viewer: Viewer, how: str, pattern: str, ratios: Sequence[float], outputs: Sequence[np.ndarray], y: np.ndarray | None
) -> Curve:
    probabilities = np.stack([viewer.probabilities(o) for o in outputs])
    answers = probabilities.argmax(axis=2)
    first = answers[0]
    chosen = np.take_along_axis(probabilities, np.broadcast_to(first, answers.shape)[..., None], axis=2)[..., 0]
    right = None
    if y is not None:
        asked = viewer.askable(y)
        right = viewer.right(answers[:, asked], y[asked]) if asked.any() else None
    return Curve(viewer.spec, how, pattern, tuple(ratios), answers, chosen, right)
