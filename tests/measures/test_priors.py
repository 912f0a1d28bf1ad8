"""Draws of latents: their moments, and a planted mixture that the aggregate posterior finds again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from visus.errors import DataError
from visus.measures.priors import AGGREGATE, LAPLACE, LAPLACE_UNIT, NORMAL, PRIORS, draw_latents

CODES = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)


@pytest.mark.parametrize(("prior", "law"), [
    (NORMAL, stats.norm()), (LAPLACE_UNIT, stats.laplace(scale=0.5**0.5)), (LAPLACE, stats.laplace()),
])  # fmt: skip
def test_draws_follow_their_law(prior: str, law: object) -> None:
    z = draw_latents(prior, 8000, CODES, seed=1)
    assert z.shape == (8000, 3)
    assert z.dtype == np.float32
    assert stats.kstest(z.ravel(), law.cdf).pvalue > 1e-3  # type: ignore[attr-defined]
    assert z.var() == pytest.approx(law.var(), rel=0.06)  # type: ignore[attr-defined]


def test_the_aggregate_posterior_finds_planted_clusters() -> None:
    rng = np.random.default_rng(2)
    centres = np.array([[4.0, 0], [-4, 1], [0, -5]])
    codes = centres[rng.integers(3, size=3000)] + 0.3 * rng.normal(size=(3000, 2))
    z = draw_latents(AGGREGATE, 3000, codes, seed=0)
    near = np.linalg.norm(z[:, None] - centres, axis=2)
    assert (near.min(axis=1) < 1.5).mean() > 0.99
    assert np.bincount(near.argmin(axis=1), minlength=3).min() > 700
    # In no order: a first row of samples shows all of them.
    assert len(set(near[:30].argmin(axis=1))) == 3


@pytest.mark.parametrize("prior", PRIORS)
def test_draws_repeat_by_seed_and_leave_the_global_generator(prior: str) -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    assert np.array_equal(draw_latents(prior, 50, CODES, seed=3), draw_latents(prior, 50, CODES, seed=3))
    assert not np.array_equal(draw_latents(prior, 50, CODES, seed=3), draw_latents(prior, 50, CODES, seed=4))
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


def test_few_codes_of_many_dimensions_still_give_a_mixture() -> None:
    codes = np.random.default_rng(0).normal(size=(30, 40))
    assert np.isfinite(draw_latents(AGGREGATE, 20, codes)).all()


def test_an_unknown_prior_is_refused() -> None:
    with pytest.raises(DataError, match="unknown prior 'Cauchy'"):
        draw_latents("Cauchy", 3, CODES)
