"""The galleries of a VAE study: reconstructions, samples, their nearest training images, traversals, interpolations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from visus.measures.priors import NORMAL
from visus.studies.common.schema1 import Figure
from visus.studies.vae.subject import shown as rgb

if TYPE_CHECKING:
    from visus.studies.vae.examine import VaeEvaluation
    from visus.studies.vae.subject import Subject

TRAVERSED = 8  # dimensions at most
REACH = 2.5  # prior standard deviations to either side
ROWS = 3  # interpolations
WIDE = 4  # VAEs whose traversals are shown; of a sweep the ends would be the same picture many times


def pictures(
    subject: Subject, examined: Sequence[VaeEvaluation], *, shown: int, device: str
) -> tuple[tuple[Figure, ...], dict[str, np.ndarray]]:
    """Figures and the arrays that they name."""
    arrays: dict[str, np.ndarray] = {}
    figures = [_reconstructions(subject, examined, arrays, shown, device), _samples(examined, arrays, shown)]
    figures.append(_nearest(subject, examined, arrays, shown))
    for k, e in enumerate(examined[:WIDE]):
        figures.append(_traversals(e, arrays, f"traversals_{k}", device))
        figures.append(_interpolations(subject, e, arrays, f"interpolations_{k}", device))
    return tuple(figures), arrays


def _gallery(
    name: str,
    title: str,
    caption: str,
    rows: Sequence[tuple[str, np.ndarray, Sequence[str]]],
    arrays: dict[str, np.ndarray],
) -> Figure:
    """A gallery of rows: (name, uint8 [n, h, w, c], captions)."""
    key = name.replace("-", "_") + "_pictures"
    arrays[key] = np.concatenate([rgb(p) for _, p, _ in rows])
    captions = [c for _, _, cs in rows for c in cs]
    groups = [row for row, p, _ in rows for _ in range(len(p))]
    columns = max(len(p) for _, p, _ in rows)
    return Figure(
        name, "gallery", title, caption, {"images": key, "captions": captions, "groups": groups, "columns": columns}
    )


def _reconstructions(
    subject: Subject, examined: Sequence[VaeEvaluation], arrays: dict[str, np.ndarray], n: int, device: str
) -> Figure:
    from visus.features.latents import decoded_latents

    seen = subject.test[:n]
    names = [""] * len(seen)
    if subject.labels is not None:
        names = [subject.classes[i] for i in subject.labels["test"][:n]]
    rows: list[tuple[str, np.ndarray, Sequence[str]]] = [("test images", seen, names)]
    for e in examined:
        made = decoded_latents(e.vae, e.posteriors.mu[: len(seen)], device=device)
        wrong = [f"{v:.1f} nats" for v in e.bounds.at_mean[: len(seen)]]
        rows.append((e.name, made, wrong))
    return _gallery(
        "reconstructions", "Originals above reconstructions",
        "Test images, not chosen, and what each VAE makes of their posterior means, with the reconstruction term of each.", rows, arrays,
    )  # fmt: skip


def _samples(examined: Sequence[VaeEvaluation], arrays: dict[str, np.ndarray], n: int) -> Figure:
    rows = [
        (f"{e.name}: {prior}", s.pictures[:n], [""] * len(s.pictures[:n]))
        for e in examined
        for prior, s in e.samples.items()
    ]
    return _gallery(
        "samples", "Samples",
        "Decoded from latents drawn from each prior, not chosen. The aggregate posterior: a Gaussian mixture fitted to the codes of training images.",
        rows, arrays,
    )  # fmt: skip


def _nearest(subject: Subject, examined: Sequence[VaeEvaluation], arrays: dict[str, np.ndarray], n: int) -> Figure:
    rows: list[tuple[str, np.ndarray, Sequence[str]]] = []
    for e in examined:
        s = e.samples[NORMAL]
        mine = s.pictures[:n]
        rows.append((f"{e.name}: samples from {NORMAL}", mine, [""] * len(mine)))
        near = subject.train[s.copies.indices[: len(mine)]]
        away = [f"{d / max(s.copies.held_median, 1e-12):.2f} x" for d in s.copies.distances[: len(mine)]]
        rows.append((f"{e.name}: nearest training images", near, away))
    return _gallery(
        "nearest", "Memorised or new?",
        "Samples above their nearest training images, by distance in pixels, in units of the median distance of unseen test images to theirs.",
        rows, arrays,
    )  # fmt: skip


def _traversals(e: VaeEvaluation, arrays: dict[str, np.ndarray], name: str, device: str) -> Figure:
    from visus.features.latents import decoded_latents

    steps = np.linspace(-REACH, REACH, 9)
    order = [j for j in e.order if e.active.by_kl[j]][:TRAVERSED] or list(e.order[:1])
    start = e.posteriors.mu[0]
    rows: list[tuple[str, np.ndarray, Sequence[str]]] = []
    for j in order:
        z = np.repeat(start[None], len(steps), axis=0)
        z[:, j] = steps
        said = [f"{v:+.1f}" for v in steps]
        rows.append(
            (f"dimension {j}: {e.kl.per_dimension[j]:.2f} nats", decoded_latents(e.vae, z, device=device), said)
        )
    return _gallery(
        name.replace("_", "-"), f"{e.name}: along each active dimension",
        f"One latent dimension from {-REACH:g} to {REACH:g}, the others at the posterior mean of the first test image; by KL, the largest first.",
        rows, arrays,
    )  # fmt: skip


def _interpolations(
    subject: Subject, e: VaeEvaluation, arrays: dict[str, np.ndarray], name: str, device: str
) -> Figure:
    from visus.features.latents import decoded_latents

    share = np.linspace(0, 1, 9)[:, None]
    rows: list[tuple[str, np.ndarray, Sequence[str]]] = []
    for k in range(min(ROWS, len(e.posteriors.mu) // 2)):
        a, b = e.posteriors.mu[2 * k], e.posteriors.mu[2 * k + 1]
        made = decoded_latents(e.vae, (1 - share) * a + share * b, device=device)
        said = [f"{v:.0%}" for v in share[:, 0]]
        rows.append((_between(subject, 2 * k), made, said))
    return _gallery(
        name.replace("_", "-"), f"{e.name}: between two test images",
        "Decoded from points on the straight line between two posterior means.", rows, arrays,
    )  # fmt: skip


def _between(subject: Subject, i: int) -> str:
    if subject.labels is None:
        return f"{subject.ids['test'][i]} to {subject.ids['test'][i + 1]}"
    a, b = (subject.classes[c] for c in subject.labels["test"][i : i + 2])
    return f"{a} to {b}" if a != b else f"{a} to another {b}"
