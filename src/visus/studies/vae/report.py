"""The tables and figures of a VAE study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.studies.common.schema1 import Figure, Result, Table
from visus.studies.vae.figures import pictures
from visus.studies.vae.findings import against, verdict
from visus.studies.vae.quality import searched

if TYPE_CHECKING:
    from visus.studies.vae.examine import VaeEvaluation
    from visus.studies.vae.quality import FeatureSpace, Scores
    from visus.studies.vae.subject import Subject


def result(
    subject: Subject,
    space: FeatureSpace,
    examined: Sequence[VaeEvaluation],
    *,
    findings: Sequence[str],
    warnings: Sequence[str],
    shown: int,
    device: str,
    provenance: Mapping[str, Any],
) -> Result:
    """Everything a study found, in reading order."""
    from visus.studies.common.shared import quarantine_table

    galleries, arrays = pictures(subject, examined, shown=shown, device=device)
    trained = [e for e in examined if e.trained]
    tables = {"summary": _summary(examined), "collapse": _collapse(examined)}
    if subject.repeated is not None:
        tables["without repeats"] = without_repeats(subject.repeated, examined)
    if len(examined) > 1:
        tables["pairs"] = _pairs(examined)
    tables["samples"] = _samples(space, examined, searched(subject))
    tables["dimensions"] = _dimensions(examined)
    if any(len(e.trained) > 1 for e in trained):
        tables["seeds"] = _seeds(trained)
    if trained:
        tables["epochs"] = _epochs(trained)
        tables["models"] = Table(
            ("VAE", "--checkpoint"),
            tuple((e.name, str(e.trained[0].folder)) for e in trained),
            title="Kept on this machine",
            note="Each opens again with visus vae --checkpoint.",
        )
    if subject.quarantine:
        tables["quarantine"] = quarantine_table(subject.quarantine)
    figures = (
        *([_curves(trained)] if trained else []),
        *([_rate_distortion(examined), _used(examined)] if examined[0].setting is not None else []),
        _by_dimension(examined),
        *galleries,
    )
    names = " and ".join(e.name for e in examined) if len(examined) < 3 else f"{len(examined)} settings"
    return Result(
        "vae", f"VAE on {subject.name}: {names}", tuple(findings), tables, figures, arrays, tuple(warnings), provenance
    )


def _summary(examined: Sequence[VaeEvaluation]) -> Table:
    rows = []
    for e in examined:
        b, low, high = e.bounds, *interval(e.bounds.reconstruction + e.bounds.kl)
        rows.append(
            (
                e.name, float(b.reconstruction.mean()), float(b.kl.mean()), float((b.reconstruction + b.kl).mean()), low, high,
                float(b.at_mean.mean()), e.likelihood.nats, e.likelihood.stderr, e.likelihood.bits_per_dimension,
                f"{int(e.active.by_kl.sum())} of {e.vae.latent}", e.vae.parameters,
                sum(t.fit.seconds for t in e.trained) / 60 if e.trained else None,
            )
        )  # fmt: skip
    first = examined[0]
    return Table(
        (
            "VAE", "reconstruction", "KL", "negative ELBO", "low", "high", "reconstruction from the mean", "log-likelihood", "± standard error",
            "bits per dimension", "active", "parameters", "training, minutes",
        ),
        tuple(rows),
        title="On test images, in nats per image",
        note=f"n = {len(first.bounds.kl):,}. low, high: 95 % normal interval of the negative ELBO at beta 1. "
        f"Reconstruction: {_term(first)}, of one sample of z; KL summed over dimensions. Log-likelihood: importance-weighted bound, K = "
        f"{first.likelihood.k}, of {len(first.likelihood.per_image):,} test images, all constants in; bits per dimension "
        + ("count 256 levels." if first.vae.decoder.density else "are no density's: pixels are grey, Bernoulli is not.")
        + " Active: mean KL above 0.01 nats.",
        digits=2,
    )  # fmt: skip


def without_repeats(repeated: np.ndarray, examined: Sequence[VaeEvaluation]) -> Table:
    """The ELBO and the likelihood of all test images, and of those that are no training images. repeated: bool [n test]."""
    rows: list[tuple[Any, ...]] = []
    for e in examined:
        for what, values in (
            ("negative ELBO", e.bounds.reconstruction + e.bounds.kl),
            ("log-likelihood", e.likelihood.per_image),
        ):
            left = values[~repeated[: len(values)]]
            own = (float(left.mean()),) if len(left) else (None,)
            around = interval(left) if len(left) > 1 else (None, None)
            rows.append((e.name, what, float(values.mean()), *interval(values), len(values), *own, *around, len(left)))
    return Table(
        ("VAE", "in nats per image", "all", "low", "high", "n", "without repeats", "low ", "high ", "n "),
        tuple(rows),
        title=f"Without the {int(repeated.sum()):,} test images that are training images too",
        note="The same image: equal pixels as the VAE sees them. low, high: 95 % normal interval. n: the images of each figure.",
        digits=2,
    )


def _term(e: VaeEvaluation) -> str:
    decoder = e.vae.decoder
    if decoder.kind == "gaussian":
        scale = "" if decoder.variance == 0.5 else f" / {2 * decoder.variance:g}"
        return f"squared error summed over pixels{scale}"
    return "negative log-likelihood of the decoder, summed over pixels"


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % normal interval of a mean over images."""
    half = 1.96 * float(values.std(ddof=1)) / np.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def _collapse(examined: Sequence[VaeEvaluation]) -> Table:
    rows = []
    for e in examined:
        dead = ~e.active.by_kl
        heard = e.sensitivity[~dead].mean() if (~dead).any() else None
        rows.append(
            (
                e.name, verdict(e), int(e.active.by_kl.sum()), int(e.active.by_variance.sum()), int(e.at_floor.sum()), e.vae.latent,
                e.kl.total, e.information.value, e.information.stderr, e.information.marginal_kl, e.moments.kl_to_prior,
                heard, e.sensitivity[dead].mean() if dead.any() else None,
                None if e.pressure is None else e.pressure.beta, None if e.beta is None else e.beta.beta,
            )
        )  # fmt: skip
    n = len(examined[0].posteriors.mu)
    return Table(
        (
            "VAE", "posterior", "active by KL", "active by variance", "at the floor", "of", "KL", "mutual information", "± standard error",
            "KL of q(z) from the prior", "of its moments", "sensitivity, active", "sensitivity, dead", "beta asked", "beta of the gradient",
        ),
        tuple(rows),
        title="Has the posterior collapsed?",
        note=f"{n:,} test images, in nats. Active: mean KL above 0.01 nats; variance over images of the posterior mean above 0.01 (Burda et al. "
        "2016). At the floor: active, with less than 1.3 times the KL that free bits give away. Mutual information of image and code: at "
        f"most ln n = {np.log(n):.1f}. Sensitivity: root of the summed squared change of the picture for a step of one prior standard deviation.",
        digits=3,
    )  # fmt: skip


def _pairs(examined: Sequence[VaeEvaluation]) -> Table:
    rows = []
    for e in examined[1:]:
        elbo, likelihood = against(e, examined[0])
        rows.append(
            (
                e.name,
                examined[0].name,
                elbo.difference,
                elbo.low,
                elbo.high,
                likelihood.difference,
                likelihood.low,
                likelihood.high,
            )
        )
    return Table(
        ("A", "B", "negative ELBO, A − B", "low", "high", "log-likelihood, A − B", "low ", "high "),
        tuple(rows),
        title="On the same test images, in pairs",
        note="Nats per image; 95 % paired bootstrap intervals over images, 10,000 resamples. Lower negative ELBO and higher log-likelihood are "
        "better; decoders of different likelihoods are not comparable.",
        digits=2,
    )


def _samples(space: FeatureSpace, examined: Sequence[VaeEvaluation], among: int) -> Table:
    rows = [("training images", "", *_scores(space.floor), None, None)]
    for e in examined:
        for prior, s in e.samples.items():
            rows.append((e.name, prior, *_scores(s.scores), s.copies.ratio, 100 * s.copies.share_closer))
    return Table(
        (
            "pictures", "drawn from", "Fréchet distance", "precision, %", "low", "high", "recall, %", "low ", "high ", "density", "coverage",
            "distance to training", "closer than unseen, %",
        ),
        tuple(rows),
        title="Samples against test images",
        note=f"In {space.about}; {len(space.real):,} test images. Fréchet distance: lower is better, and as many training images give the "
        "first row. Precision: samples among real images; recall: real images among samples (Kynkäänniemi et al. 2019, k = 3; 95 % Wilson "
        "intervals). Distance to training: the median sample's distance to its nearest training image over the same for unseen test "
        f"images, in pixels, among {among:,} training images; closer than unseen: samples nearer to one than 99 % of test "
        "images are (1 % for new images).",
        digits=2,
    )  # fmt: skip


def _scores(s: Scores) -> tuple[float, ...]:
    from visus.measures import wilson

    sharing = s.sharing
    shares: list[float] = []
    for found in (sharing.in_real, sharing.in_fake):
        shares += [100 * float(found.mean()), *(100 * v for v in wilson(int(found.sum()), len(found)))]
    return (s.frechet.distance, *shares, sharing.density, sharing.coverage)


def _dimensions(examined: Sequence[VaeEvaluation]) -> Table:
    rows = []
    for e in examined:
        spread = e.posteriors.mu.var(axis=0)
        for j in e.order:
            rows.append(
                (
                    e.name, int(j), float(e.kl.per_dimension[j]), float(e.kl.mean_part[j]), float(e.kl.variance_part[j]), float(spread[j]),
                    float(e.moments.mean[j]), float(e.moments.variance[j]), float(e.sensitivity[j]), bool(e.active.by_kl[j]),
                    bool(e.active.by_variance[j]),
                )
            )  # fmt: skip
    return Table(
        (
            "VAE", "dimension", "KL", "mean part", "variance part", "variance of the mean", "mean of q(z)", "variance of q(z)", "sensitivity",
            "active by KL", "active by variance",
        ),
        tuple(rows),
        title="Dimension by dimension",
        note="KL = 1/2 mu² (mean part) + 1/2 (sigma² − log sigma² − 1) (variance part), in nats, averaged over test images. The prior's mean "
        "is 0, its variance 1.",
    )  # fmt: skip


def _seeds(trained: Sequence[VaeEvaluation]) -> Table:
    rows = []
    for e in trained:
        best = [t.fit.epochs[t.fit.best] for t in e.trained]
        columns = [[b.parts["val_reconstruction"] for b in best], [b.parts["val_kl"] for b in best]]
        columns.append([sum(pair) for pair in zip(*columns, strict=True)])
        spread = [v for c in columns for v in (float(np.mean(c)), float(np.std(c, ddof=1)) if len(c) > 1 else None)]
        rows.append((e.name, len(best), *spread))
    return Table(
        (
            "VAE", "seeds", "reconstruction", "± ", "KL", "±  ", "negative ELBO", "±   ",
        ),
        tuple(rows),
        title="Over seeds",
        note="Mean and standard deviation over trainings, on validation images at the epoch that was kept. Everything else is of the first seed.",
        digits=2,
    )  # fmt: skip


def _epochs(trained: Sequence[VaeEvaluation]) -> Table:
    rows = [
        (
            e.name, epoch.number, epoch.parts["beta"], epoch.parts["reconstruction"], epoch.parts["kl"],
            epoch.parts["reconstruction"] + epoch.parts["kl"], epoch.parts["val_reconstruction"], epoch.parts["val_kl"],
            epoch.parts["val_reconstruction"] + epoch.parts["val_kl"], "kept" if i == e.trained[0].fit.best else "", epoch.seconds,
        )
        for e in trained
        for i, epoch in enumerate(e.trained[0].fit.epochs)
    ]  # fmt: skip
    return Table(
        (
            "VAE", "epoch", "beta", "reconstruction", "KL", "sum", "validation reconstruction", "validation KL", "validation sum", "", "seconds",
        ),
        tuple(rows),
        title="Epoch by epoch",
        note="Nats per image. beta: the effective weight of the KL on this scale in that epoch. The epoch with the lowest validation objective "
        "at the full beta is kept.",
        digits=2,
    )  # fmt: skip


def _curves(trained: Sequence[VaeEvaluation]) -> Figure:
    panels = []
    for title, of in (
        ("reconstruction", ("reconstruction",)),
        ("KL", ("kl",)),
        ("negative ELBO", ("reconstruction", "kl")),
    ):
        series, marks = [], []
        for e in trained:
            done = e.trained[0].fit
            x = [float(epoch.number) for epoch in done.epochs]
            for part, prefix in (("training", ""), ("validation", "val_")):
                y = [sum(epoch.parts[prefix + name] for name in of) for epoch in done.epochs]
                series.append({"name": f"{e.name}, {part}", "x": x, "y": y})
            marks.append({"label": "kept", "x": x[done.best], "y": series[-1]["y"][done.best]})
        panels.append({"title": title, "series": series, "marks": marks})
    return Figure(
        "curves", "curves", "How it learns",
        "Nats per image by epoch, logarithmic. The ring: the epoch that validation chose.",
        {"x_label": "epoch", "y_label": "nats per image", "y_log": True, "own_y": True, "panels": panels},
    )  # fmt: skip


def _rate_distortion(examined: Sequence[VaeEvaluation]) -> Figure:
    points = sorted((float(e.bounds.kl.mean()), float(e.bounds.reconstruction.mean()), e.name) for e in examined)
    rate, distortion = [x for x, _, _ in points], [y for _, y, _ in points]
    series = [{"name": "sweep", "x": rate, "y": distortion, "low": None, "high": None}]
    series += [{"name": name, "x": [x], "y": [y], "low": None, "high": None} for x, y, name in points]
    return Figure(
        "rate-distortion", "lines", "Rate and distortion",
        "What the code costs against what it leaves wrong, on test images; low and left is better (Alemi et al. 2018).",
        {
            "x_label": "rate: KL, nats per image", "y_label": "distortion: reconstruction, nats per image", "x_log": False, "y_log": False,
            "series": series, "marks": [],
        },
    )  # fmt: skip


def _used(examined: Sequence[VaeEvaluation]) -> Figure:
    x = [float(e.setting) for e in examined if e.setting is not None]
    kind = examined[0].name.partition(" ")[0]
    series = [
        {"name": "active by KL", "x": x, "y": [float(e.active.by_kl.sum()) for e in examined], "low": None, "high": None},
        {"name": "active by variance", "x": x, "y": [float(e.active.by_variance.sum()) for e in examined], "low": None, "high": None},
    ]  # fmt: skip
    return Figure(
        "used", "lines", "How many dimensions are used",
        f"Active latent dimensions by {kind}, on test images.",
        {"x_label": kind, "y_label": "active dimensions", "x_log": kind == "beta" and min(x) > 0, "y_log": False, "series": series, "marks": []},
    )  # fmt: skip


def _by_dimension(examined: Sequence[VaeEvaluation]) -> Figure:
    series = []
    for e in examined:
        kl = np.maximum(e.kl.per_dimension[e.order], 1e-5)
        series.append({"name": e.name, "x": list(range(1, len(kl) + 1)), "y": kl.tolist(), "low": None, "high": None})
    threshold = examined[0].active.kl_threshold
    longest = max(len(s["x"]) for s in series)
    series.append({"name": "threshold", "x": [1, longest], "y": [threshold] * 2, "low": None, "high": None})
    return Figure(
        "dimensions", "lines", "What each latent dimension carries",
        "Mean KL of test images, in nats, the largest first; a dimension below the threshold is dead.",
        {"x_label": "latent dimensions, by KL", "y_label": "KL, nats", "x_log": False, "y_log": True, "series": series, "marks": []},
    )  # fmt: skip
