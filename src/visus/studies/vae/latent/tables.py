"""The posterior of every VAE, dimension by dimension and in all."""

from __future__ import annotations

import math

from visus.result import Column, Metric, Table
from visus.studies.vae.gallery import NAME, nats
from visus.studies.vae.latent.measure import LatentMeasures


def metrics(m: LatentMeasures) -> tuple[Metric, ...]:
    found = []
    for r in m.rows:
        found += [
            Metric(r.key("active-dimensions"), r.active, n=r.n, label=f"active dimensions, {r.name}"),
            Metric(r.key("mutual-information"), r.information, n=r.n, unit="nats", label=f"mutual information, {r.name}"),
            Metric(
                r.key("marginal-kl"), r.marginal_kl, n=r.n, unit="nats", better="lower", label=f"KL of q(z) from the prior, {r.name}"
            ),
        ]  # fmt: skip
        if r.beta is not None:
            label = f"effective beta, {r.name}"
            found.append(Metric(r.key("effective-beta"), r.effective_beta, split="train", label=label))
    return tuple(found)


def tables(m: LatentMeasures) -> tuple[Table, ...]:
    return _collapse(m), _dimensions(m)


def _collapse(m: LatentMeasures) -> Table:
    n = m.rows[0].n
    return Table(
        key="collapse",
        title="Has the posterior collapsed?",
        columns=(
            NAME,
            Column("posterior", "posterior"),
            Column("active_by_kl", "active by KL"),
            Column("active_by_variance", "active by variance"),
            Column("at_floor", "at the floor"),
            Column("latent", "of"),
            nats("kl", "KL", 3),
            nats("mutual_information", "mutual information", 3),
            nats("standard_error", "± standard error", 3),
            nats("marginal_kl", "KL of q(z) from the prior", 3),
            nats("kl_of_moments", "of its moments", 3),
            Column("sensitivity_active", "sensitivity, active"),
            Column("sensitivity_dead", "sensitivity, dead"),
            Column("beta_asked", "beta asked"),
            Column("beta_of_gradient", "beta of the gradient"),
        ),
        rows=[
            (
                r.name, r.verdict, r.active, r.active_by_variance, r.at_floor, r.latent, r.kl, r.information, r.information_stderr,
                r.marginal_kl, r.kl_of_moments, r.sensitivity_active, r.sensitivity_dead, r.asked, None if r.beta is None else r.beta.beta,
            )
            for r in m.rows
        ],
        note=f"{n:,} test images, in nats. Active: mean KL above 0.01 nats; variance over images of the posterior mean above 0.01 (Burda et al. "
        "2016). At the floor: active, with less than 1.3 times the KL that free bits give away. Mutual information of image and code: at "
        f"most ln n = {math.log(n):.1f}. Sensitivity: root of the summed squared change of the picture for a step of one prior standard deviation.",
    )  # fmt: skip


def _dimensions(m: LatentMeasures) -> Table:
    return Table(
        key="dimensions",
        title="Dimension by dimension",
        columns=(
            NAME,
            Column("dimension", "dimension"),
            nats("kl", "KL", 3),
            nats("mean_part", "mean part", 3),
            nats("variance_part", "variance part", 3),
            Column("variance_of_mean", "variance of the mean"),
            Column("aggregate_mean", "mean of q(z)"),
            Column("aggregate_variance", "variance of q(z)"),
            Column("sensitivity", "sensitivity"),
            Column("active_by_kl", "active by KL"),
            Column("active_by_variance", "active by variance"),
        ),
        rows=[
            (
                r.name, d.dimension, d.kl, d.mean_part, d.variance_part, d.spread, d.mean, d.variance, d.sensitivity, d.active_by_kl,
                d.active_by_variance,
            )
            for r in m.rows
            for d in r.dimensions
        ],
        note="KL = 1/2 mu² (mean part) + 1/2 (sigma² − log sigma² − 1) (variance part), in nats, averaged over test images. The prior's mean "
        "is 0, its variance 1.",
    )  # fmt: skip
