"""How many patches can it lose? Curves of answers against the share of patches kept, and what they say of maps (P10)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.errors import DataError, SpecError
from visus.studies.vit.subject import EvaluatedModel, Shown, prepared

if TYPE_CHECKING:
    import torch

    from visus.images import ImageSet

RATIOS = tuple(round(1 - k / 10, 1) for k in range(10))
FILLS = ("mean", "black", "blur")
FAITHFUL = ("attention", "rollout", "gradient-weighted", "random")
SAME = {
    ("random", "deletion"): "random",
    ("random", "insertion"): "random",
    ("attention", "deletion"): "most-attended",
    ("attention", "insertion"): "least-attended",
}
"""Curves of maps that the patterns measure already."""


@dataclass(frozen=True)
class Curve:
    """Answers at every keep ratio.

    how: 'drop' (tokens) or 'blank' (pixels). answers: int64 [r, n]; chosen: float [r, n], the probability of the answer given to the
    whole picture. right: bool [r, m] over the pictures whose class can be meant (asked: bool [n]), None where no answer means one.
    """

    model: str
    how: str
    pattern: str
    ratios: tuple[float, ...]
    answers: np.ndarray
    chosen: np.ndarray
    right: np.ndarray | None
    asked: np.ndarray

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
    """Everything masking measured: curves of patterns, and by model and map the deletion and insertion curves.

    leader: the first vision transformer, whose patches are blanked for every model and whose attention orders them.
    """

    n: int
    leader: str
    curves: tuple[Curve, ...]
    faithful: Mapping[tuple[str, str, str], Curve]  # (model, map, 'deletion' or 'insertion')
    warnings: tuple[str, ...] = ()


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
    if found == {1.0}:
        raise DataError(f"--keep {text!r}: a curve needs a share below 1 too; write it as 1,0.7,0.4")
    return tuple(sorted(found | {1.0}, reverse=True))


def mask(
    viewers: Sequence[EvaluatedModel],
    imageset: ImageSet,
    rows: np.ndarray,
    *,
    patterns: Sequence[str],
    ratios: Sequence[float],
    fill: str,
    device: str,
    seed: int,
) -> Masked:
    """Run every model on the pictures at `rows` with fewer and fewer patches, by every pattern; tokens dropped and pixels blanked.

    The pixels that go are the same for every model: those of the first vision transformer's patches, ordered by its attention where a
    pattern asks for it. A model that tokens cannot be dropped from is told and measured by pixels alone.
    """
    from visus.measures.masking import patch_order
    from visus.progress import task

    leader = next(v for v in viewers if v.layout)
    assert leader.layout is not None
    transformers = sum(v.layout is not None for v in viewers)
    steps = transformers * (len(patterns) + 2 * len(FAITHFUL) + 1) + len(viewers) * len(patterns)
    curves: list[Curve] = []
    faithful: dict[tuple[str, str, str], Curve] = {}
    warnings = []
    pixels: dict[str, np.ndarray] = {}
    with task("masking patches", steps) as progress:
        for viewer in sorted(viewers, key=lambda v: v is not leader):
            shown = prepared(viewer, imageset, rows)
            y = None if imageset.labels is None else imageset.labels[rows]
            with viewer.backbone.on(device):
                whole = answered(viewer, shown, device)
                if viewer.layout is not None:
                    maps = importance(viewer, shown, device)
                    warnings += _flat(viewer, maps, patterns)
                    orders = {
                        p: patch_order(p, viewer.layout.grid, len(rows), seed=seed, scores=maps["attention"])
                        for p in patterns
                    }
                    pixels = pixels or orders
                    refusal = undroppable(viewer, shown, device)
                    if refusal is None:
                        for pattern, order in orders.items():
                            curves.append(dropped(viewer, shown, y, order, pattern, ratios, device, whole))
                            progress.advance()
                        known = {c.pattern: c for c in curves if (c.model, c.how) == (viewer.spec, "drop")}
                        for name, way, order in _orders(viewer, maps, len(rows), seed):
                            found = known.get(SAME.get((name, way), ""))
                            faithful[viewer.spec, name, way] = found or dropped(
                                viewer, shown, y, order, f"{name}, {way}", ratios, device, whole
                            )
                            progress.advance()
                    else:
                        warnings.append(refusal)
                        progress.advance(len(patterns) + 2 * len(FAITHFUL))
                    progress.advance()
                for pattern, order in pixels.items():
                    curves.append(
                        blanked(viewer, shown, y, order, leader.layout.grid, pattern, ratios, fill, device, whole)
                    )
                    progress.advance()
    return Masked(len(rows), leader.spec, tuple(curves), faithful, tuple(warnings))


def _flat(viewer: EvaluatedModel, maps: Mapping[str, np.ndarray], patterns: Sequence[str]) -> list[str]:
    """A sentence where a map is the same for every patch of some picture, so that it puts the patches in no order."""
    said = []
    for name, values in maps.items():
        flat = int((np.ptp(values, axis=1) == 0).sum())
        if flat:
            asked = (
                " and the patterns ordered by it"
                if name == "attention" and any("attended" in p for p in patterns)
                else ""
            )
            said.append(
                f"The map by {name} of {viewer.spec} is the same for every patch of {flat:,} of {len(values):,} pictures: there its curves{asked} "
                "follow the order of the grid, and mean nothing."
            )
    return said


def undroppable(viewer: EvaluatedModel, shown: Shown, device: str) -> str | None:
    """Why tokens cannot be dropped from a vision transformer; None: they can."""
    import torch

    from visus.models.tokens import forward_kept

    assert viewer.layout is not None
    x = shown.batch(viewer, device, slice(0, 1))
    try:
        forward_kept(viewer.backbone, x, torch.zeros(1, 1, dtype=torch.int64, device=device))
    except SpecError as error:
        return f"No tokens are dropped: {error}."
    return None


def _orders(
    viewer: EvaluatedModel, maps: Mapping[str, np.ndarray], n: int, seed: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(map, deletion or insertion, the order of its patches), map by map."""
    for name in FAITHFUL:
        for way, pattern in (("deletion", "most-attended"), ("insertion", "least-attended")):
            yield name, way, _order(name, pattern, viewer, maps, n, seed)


def _order(
    name: str, pattern: str, viewer: EvaluatedModel, maps: Mapping[str, np.ndarray], n: int, seed: int
) -> np.ndarray:
    from visus.measures.masking import patch_order

    assert viewer.layout is not None
    if name == "random":
        return patch_order("random", viewer.layout.grid, n, seed=seed)
    return patch_order(pattern, viewer.layout.grid, n, scores=maps[name])


def importance(viewer: EvaluatedModel, shown: Shown, device: str) -> dict[str, np.ndarray]:
    """float32 [n, patches] by name: last-layer attention averaged over heads, rollout, and gradient-weighted attention."""
    from visus.models.attention import attention, rollout
    from visus.models.relevance import relevance

    assert viewer.layout is not None
    last = len(viewer.layout.blocks) - 1

    def look(_: slice, x: torch.Tensor) -> dict[str, np.ndarray]:
        return {
            "attention": attention(viewer.backbone, x).maps[last].mean(dim=1).cpu().numpy(),
            "rollout": rollout(viewer.backbone, x).cpu().numpy(),
            "gradient-weighted": relevance(viewer.backbone, x, None).cpu().numpy(),
        }

    parts = list(shown.through(viewer, device, look, size=32))
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def dropped(
    viewer: EvaluatedModel,
    shown: Shown,
    y: np.ndarray | None,
    order: np.ndarray,
    pattern: str,
    ratios: Sequence[float],
    device: str,
    whole: np.ndarray,
) -> Curve:
    """Answers with the patch tokens of ever fewer patches in the sequence. whole: outputs for whole pictures, at the ratio 1 that comes first."""
    import torch

    from visus.measures.masking import kept_at
    from visus.models.tokens import forward_kept

    outputs = [whole]
    for ratio in ratios[1:]:
        kept = torch.from_numpy(kept_at(order, ratio)).to(device)

        def look(at: slice, x: torch.Tensor, kept: torch.Tensor = kept) -> np.ndarray:
            return forward_kept(viewer.backbone, x, kept[at]).float().cpu().numpy()

        outputs.append(np.concatenate(list(shown.through(viewer, device, look))))
    return _curve(viewer, "drop", pattern, ratios, outputs, y)


def blanked(
    viewer: EvaluatedModel,
    shown: Shown,
    y: np.ndarray | None,
    order: np.ndarray,
    grid: tuple[int, int],
    pattern: str,
    ratios: Sequence[float],
    fill: str,
    device: str,
    whole: np.ndarray,
) -> Curve:
    """Answers with the pixels of ever fewer patches left as they were. whole: as for `dropped`."""
    import torch

    paint = painted(shown.raw, fill, viewer)
    outputs = [whole]
    for ratio in ratios[1:]:
        left = Shown(hidden(shown.raw, paint, order, grid, ratio))
        with torch.inference_mode():
            outputs.append(answered(viewer, left, device))
    return _curve(viewer, "blank", pattern, ratios, outputs, y)


def hidden(raw: np.ndarray, paint: np.ndarray, order: np.ndarray, grid: tuple[int, int], ratio: float) -> np.ndarray:
    """uint8 [n, h, w, 3]: the pictures with all but the kept patches painted over."""
    from visus.measures.masking import blank_mask, kept_at

    stays = blank_mask(kept_at(order, ratio), grid, (raw.shape[1], raw.shape[2]))
    found: np.ndarray = np.where(stays[..., None], raw, paint)
    return found


def painted(raw: np.ndarray, fill: str, viewer: EvaluatedModel) -> np.ndarray:
    """What hides pixels, uint8 broadcastable to the pictures: the mean colour of the model's normalisation, black, or the picture blurred."""
    if fill == "blur":
        from PIL import Image, ImageFilter

        radius = max(raw.shape[1:3]) / 16
        return np.stack(
            [
                np.asarray(Image.fromarray(np.round(p).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius)))
                for p in raw
            ]
        )
    colour = np.zeros(3) if fill == "black" else 255 * np.array(viewer.backbone.preprocess.mean)
    return np.round(colour).astype(np.uint8)[None, None, None]


def answer(viewer: EvaluatedModel, batch: Any) -> np.ndarray:
    """float32 [b, k]: logits, or for a probe the pooled feature, of whole pictures."""
    backbone = viewer.backbone
    if viewer.reading != "probe":
        return backbone.classify(batch).float().cpu().numpy()
    taps = backbone.resolve(["late"])
    return backbone.forward(batch, taps)[taps[0].name].float().cpu().numpy()


def answered(viewer: EvaluatedModel, shown: Shown, device: str) -> np.ndarray:
    """float32 [n, k]: the `answer` to every picture."""
    return np.concatenate(list(shown.through(viewer, device, lambda _, x: answer(viewer, x))))


def _curve(
    viewer: EvaluatedModel,
    how: str,
    pattern: str,
    ratios: Sequence[float],
    outputs: Sequence[np.ndarray],
    y: np.ndarray | None,
) -> Curve:
    probabilities = np.stack([viewer.probabilities(o) for o in outputs])
    answers = probabilities.argmax(axis=2)
    first = answers[0]
    chosen = np.take_along_axis(probabilities, np.broadcast_to(first, answers.shape)[..., None], axis=2)[..., 0]
    right, asked = None, np.ones(len(first), bool)
    if y is not None:
        asked = viewer.askable(y)
        right = viewer.right(answers[:, asked], y[asked]) if asked.any() else None
    return Curve(viewer.spec, how, pattern, tuple(ratios), answers, chosen, right, asked)
