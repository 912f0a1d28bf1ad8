"""What the transfer study says: findings made from its numbers, warnings, provenance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.measures.cka import FEWEST as FEWEST_CKA
from visus.measures.maps import FEWEST
from visus.studies.common import repeated
from visus.studies.common.pairs import Pair
from visus.studies.common.shared import interval_text, null_warnings, percent
from visus.studies.transfer.layers.subject import Subject, compare, confused, model_pairs

if TYPE_CHECKING:
    from visus.models import Backbone


def title(s: Subject) -> str:
    """One line for the head of the page."""
    models = ", ".join(b.spec for b in s.backbones)
    return f"What {models} {'knows' if len(s.backbones) == 1 else 'know'} about {s.images.name}"


def findings(s: Subject, *, seed: int) -> tuple[str, ...]:
    """Sentences made from the numbers, the most important first."""
    from visus.measures.intervals import wilson

    n, said = len(s.test_y), []
    best = s.best
    low, high = wilson(round(best.probe.top1 * n), n)
    against = f"{percent(s.majority)} for always answering the most frequent class"
    if best.random is not None:
        against += f", {percent(best.random)} for the same network with random weights"
    if best.shuffled is not None:
        against += f" and {percent(best.shuffled.mean)} on shuffled labels (95 % point {percent(best.shuffled.point)})"
    said.append(
        f"A linear probe on the {best.label} features of {best.model} is right on {percent(best.probe.top1)} of {n:,} test images "
        f"({interval_text(low, high)}), against {against}."
    )
    if s.repeats is not None and s.repeats.count:
        said.append(repeated.finding(s.repeats, "it", best.probe.predictions == s.test_y))
    for b in s.backbones:
        said += _depth(s, b, seed=seed)
    if len(s.backbones) > 1:
        said += [_sentence(p) for p in model_pairs(s, seed=seed)]
    top1 = best.knn_top1
    said.append(
        f"Without any training, the {best.knn_k} nearest neighbours in the same features give {percent(top1)}; "
        f"fitting a probe changes that by {100 * (best.probe.top1 - top1):+.1f} points."
    )
    pairs = confused(s)
    if pairs:
        c, names = pairs[0], s.images.classes
        said.append(
            f"Its most frequent mistake takes {names[c.true]} for {names[c.predicted]}: {c.count} of {round(c.count / c.share)} images."
        )
    recalls = [(r, s.images.classes[i]) for i, r in enumerate(best.probe.per_class_recall) if np.isfinite(r)]
    (worst, worst_name), (top, top_name) = min(recalls), max(recalls)
    said.append(
        f"The easiest class is {top_name} (recall {percent(top)}), the hardest {worst_name} ({percent(worst)})."
    )
    return tuple(said)


def _depth(s: Subject, b: Backbone, *, seed: int) -> list[str]:
    layers = s.of(b.spec)
    if len(layers) < 2:
        return []
    path = ", ".join(f"{c.label} {percent(c.probe.top1)}" for c in layers)
    chosen = s.best_layer(b.spec)
    following = max((c for c in layers if c is not chosen), key=lambda c: c.validation)
    pair = compare(chosen, following, s.test_y, names=("", ""), seed=seed)
    sure = ", undecided on these images" if pair.low <= 0 <= pair.high else ""
    return [
        f"Through the depth of {b.spec} the probe's accuracy goes {path}.",
        f"Validation prefers {chosen.label} and puts {following.label} next: on the test images the first is {100 * pair.difference:+.1f} points "
        f"from the second ({100 * pair.low:+.1f} to {100 * pair.high:+.1f}){sure}.",
    ]


def _sentence(p: Pair) -> str:
    span = f"{100 * p.low:+.1f} to {100 * p.high:+.1f} points, McNemar p = {p.p:.2g}"
    if p.low <= 0 <= p.high:
        return f"Which of {p.a} and {p.b} is better is undecided on these images ({span})."
    first, second, gap = (p.a, p.b, p.difference) if p.difference > 0 else (p.b, p.a, -p.difference)
    return f"{first} beats {second} by {100 * gap:.1f} points ({span} for the first named in the table)."


def warnings(s: Subject, *, twins: Sequence[bool], controls: bool, maps: bool) -> tuple[str, ...]:
    """What a reader must know before trusting a number."""
    said, n = [], len(s.test_y)
    if s.repeats is not None:
        said += repeated.warnings(s.repeats, s.ids, s.splits.test)
    for c in s.scores:
        if c.probe.at_edge:
            said.append(
                f"{c.model}, {c.label}: validation chose the λ at the edge of the path ({c.probe.lambda_:.1e}); a better one may lie beyond."
            )
    said += null_warnings([(f"{c.model}, {c.label}", c.shuffled, c.probe.top1) for c in s.scores], s.most_by_luck)
    for b, has_twin in zip(s.backbones, twins, strict=True):
        if controls and not has_twin and not b.random:
            said.append(
                f"{b.spec}: no random-init control, since its architecture could not be built without its weights."
            )
    if maps and n < FEWEST:
        said.append(f"No maps: t-SNE and UMAP need {FEWEST} test images, and there are {n}.")
    if len(s.scores) > 1 and n < FEWEST_CKA:
        said.append(f"Layers are not compared by CKA, which needs {FEWEST_CKA} test images; there are {n}.")
    if len(set(s.test_y.tolist())) == n:
        said.append("No silhouette: it needs two test images of a class, and every one is of another.")
    if n < 200:
        said.append(f"Only {n} test images: intervals are wide, and differences of a few points mean nothing.")
    missing = sorted(set(range(len(s.images.classes))) - set(s.test_y.tolist()))
    if missing:
        said.append(
            f"No test image of: {', '.join(s.images.classes[i] for i in missing[:10])}; their recall is unknown."
        )
    return tuple(said)


def provenance(s: Subject, *, seed: int, protocol: str, pool: str) -> dict[str, Any]:
    """Specs, fingerprints, split sizes and settings."""
    return {
        "images": s.images.name,
        "images fingerprint": s.images.fingerprint,
        "models": {b.spec: b.fingerprint for b in s.backbones},
        "split": {
            "train and validation": len(s.splits.train),
            "validation": [len(val) for _, val in s.splits.folds],
            "test": len(s.splits.test),
        },
        "protocol": protocol,
        "pool": pool,
        "seed": seed,
    }
