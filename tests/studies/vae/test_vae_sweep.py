"""The section on a sweep: settings side by side, and the best by validation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.studies.vae import planted

from visus.studies.vae import latent, likelihood, sweep
from visus.studies.vae.evaluation import VaeEvaluation
from visus.studies.vae.pairing import Comparisons
from visus.studies.vae.sweep import SettingRow, SweepMeasures

ROWS = tuple(
    SettingRow(beta, planted.likelihood_row(f"beta {beta:g}", kl=kl, reconstruction=nats, active=active), active + 1)
    for beta, kl, nats, active in ((0.5, 20.0, 10.0, 9), (1.0, 12.0, 15.0, 7), (4.0, 3.0, 30.0, 2))
)
BEST = SweepMeasures("beta", ROWS, 1, 0, planted.comparison("beta 1", "beta 0.5", -0.1, 0.2))


def test_the_curve_runs_along_the_rate() -> None:
    curve, _ = sweep.figures(BEST)
    assert curve.series[0].x == (3, 12, 20)
    assert curve.series[0].y == (30, 15, 10)
    assert [s.name for s in curve.series[1:]] == ["beta 4", "beta 1", "beta 0.5"]
    assert curve.unit == curve.x_unit == "nats per image"


def test_dimensions_in_use_are_drawn_by_setting_without_the_rerun() -> None:
    fixed = SettingRow(None, planted.likelihood_row("fixed"), 3)
    _, used = sweep.figures(replace(BEST, rows=(*ROWS, fixed)))
    by_kl, by_variance = used.series
    assert (by_kl.x, by_kl.y, by_variance.y) == ((0.5, 1, 4), (9, 7, 2), (10, 8, 3))
    assert used.x_log
    assert not sweep.figures(replace(BEST, kind="latent"))[1].x_log


def test_each_setting_is_told_and_then_the_best() -> None:
    found = sweep.findings(BEST)
    assert planted.texts(found) == [
        "beta 0.5: KL 20.0 and reconstruction 10.0 nats per test image, 9 of 10 dimensions active.",
        "beta 1: KL 12.0 and reconstruction 15.0 nats per test image, 7 of 10 dimensions active.",
        "beta 4: KL 3.0 and reconstruction 30.0 nats per test image, 2 of 10 dimensions active.",
        "Validation prefers beta 1, by its negative ELBO, and puts beta 0.5 next.",
        "On test images the log-likelihood of beta 1 is -40.0 ± 0.5 nats.",
        "beta 1 against beta 0.5: log-likelihood +0.20 nats per image (-0.30 to +0.70): undecided.",
    ]
    assert found[-1].kind == "undecided"
    clear = sweep.findings(replace(BEST, comparison=planted.comparison("beta 1", "beta 0.5", -3.0, 2.0)))[-1]
    assert clear.kind == "result"
    assert clear.text.endswith("+2.00 nats per image (+1.50 to +2.50).")
    assert len(sweep.findings(replace(BEST, comparison=None))) == 3
    assert sweep.metrics(BEST) == sweep.tables(BEST) == ()


def test_the_answer_names_the_best() -> None:
    assert sweep.answer(BEST) == "Validation prefers beta 1: its log-likelihood on test images is -40.0 ± 0.5 nats."
    assert sweep.answer(replace(BEST, comparison=None)).startswith(
        "From beta 0.5 to beta 4 the KL goes from 20.0 to 3.0"
    )
    assert BEST.best_name == "beta 1"


def setting(name: str, validation: float, nats: float) -> VaeEvaluation:
    """A VAE of a sweep that is `nats` better on test images, with some noise for b."""
    e = planted.evaluation([1.0])
    noise = np.random.default_rng(3).normal(size=200)
    per_image = e.likelihood.per_image + nats + noise * (name == "b")
    run = planted.trained(f"beta {name}", planted.fit([validation]))
    return replace(
        e, model=replace(run, setting=1.0), likelihood=replace(e.likelihood, per_image=per_image, nats=per_image.mean())
    )


def measured(*evaluations: VaeEvaluation) -> SweepMeasures:
    images, comparisons = planted.images(), Comparisons()
    some = likelihood.measure(evaluations, images, planted.OPTIONS)
    units = latent.measure(evaluations, images, comparisons, asked=None, device="cpu")
    assert some.swept
    assert units.swept
    return sweep.measure(evaluations, some, units, comparisons)


@pytest.mark.parametrize(
    ("settings", "best", "following", "clear"),
    [
        # On test b is ahead by far; validation prefers c, then a.
        ((("a", 13.0, 0.0), ("b", 14.0, 9.0), ("c", 12.0, 0.0)), "beta c", "beta a", False),
        ((("b", 12.0, 9.0), ("a", 13.0, 0.0)), "beta b", "beta a", True),
    ],
)
def test_the_best_is_validations_and_test_is_asked_once(settings: Any, best: str, following: str, clear: bool) -> None:
    m = measured(*(setting(*s) for s in settings))
    assert m.kind == "beta"
    assert m.comparison is not None
    assert (m.best_name, m.comparison.a, m.comparison.b) == (best, best, following)
    assert m.comparison.log_likelihood.clear == clear


def test_without_trainings_there_is_no_best() -> None:
    a, b = (planted.named(planted.evaluation([1.0]), name=f"beta {k}", setting=float(k)) for k in (1, 2))
    assert measured(a, b).comparison is None
