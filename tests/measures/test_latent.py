"""Latent measures against torch.distributions, planted posteriors, slow loops and a Gaussian channel of known information."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from visus.errors import DataError
from visus.measures import active_units, aggregate_moments, gaussian_kl, latent, mutual_information


def _encoded(n: int, d: int, *, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return spread * rng.standard_normal((n, d)), rng.standard_normal((n, d)) - 1


def _posteriors(mu: np.ndarray, logvar: np.ndarray) -> Normal:
    return Normal(torch.from_numpy(mu), torch.exp(0.5 * torch.from_numpy(logvar)))


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_the_kl_and_its_parts_are_those_of_torch(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    mu, logvar = (a.astype(kind) for a in _encoded(500, 7))
    monkeypatch.setattr(latent, "block_rows", lambda *_, **__: 64)
    found = gaussian_kl(mu, logvar)
    posterior = _posteriors(mu.astype(np.float64), logvar.astype(np.float64))
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).mean(dim=0).numpy()
    np.testing.assert_allclose(found.per_dimension, expected, rtol=1e-12)
    no_mean = kl_divergence(Normal(torch.zeros_like(posterior.loc), posterior.scale), Normal(0.0, 1.0))
    np.testing.assert_allclose(found.variance_part, no_mean.mean(dim=0).numpy(), rtol=1e-12)
    no_variance = kl_divergence(Normal(posterior.loc, 1.0), Normal(0.0, 1.0))
    np.testing.assert_allclose(found.mean_part, no_variance.mean(dim=0).numpy(), rtol=1e-12)
    assert found.total == pytest.approx(expected.sum(), rel=1e-12)


def test_the_prior_costs_nothing_and_a_little_off_it_a_little() -> None:
    assert gaussian_kl(np.zeros((3, 2)), np.zeros((3, 2))).total == 0
    tiny = gaussian_kl(np.zeros((3, 1)), np.full((3, 1), 1e-7))
    assert tiny.total == pytest.approx(0.25e-14, rel=1e-6, abs=0)


def test_planted_posteriors_are_active_by_the_criterion_they_meet() -> None:
    rng = np.random.default_rng(1)
    n = 4000
    mu, logvar = np.zeros((n, 5)), np.zeros((n, 5))
    mu[:, 0] = 1e-3 * rng.standard_normal(n)  # dead
    mu[:, 1], logvar[:, 1] = rng.standard_normal(n), -3  # used
    mu[:, 2], logvar[:, 2] = 0.5, -1  # the same posterior for every image: KL, no variance
    mu[:, 3] = 0.12 * rng.choice([-1.0, 1.0], n)  # variance 0.0144, KL 0.0072: variance alone
    mu[:, 4] = 0.09 * rng.choice([-1.0, 1.0], n)  # variance 0.0081: under both
    found = active_units(mu, logvar)
    assert found.by_kl.tolist() == [False, True, True, False, False]
    assert found.by_variance.tolist() == [False, True, False, True, False]
    assert (found.kl_threshold, found.variance_threshold) == (0.01, 0.01)
    low = active_units(mu, logvar, kl_threshold=0.005, variance_threshold=0.5)
    assert low.by_kl.tolist() == [False, True, True, True, False]
    assert low.by_variance.tolist() == [False, True, False, False, False]


def test_the_moments_are_those_of_codes_drawn_and_their_kl_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    mu, logvar = _encoded(300, 4)
    mu[:, 2] = 3 - 2 * mu[:, 0] + 0.1 * mu[:, 2]
    monkeypatch.setattr(latent, "block_rows", lambda *_, **__: 77)
    found = aggregate_moments(mu, logvar)
    rng = np.random.default_rng(2)
    codes = (mu + np.exp(0.5 * logvar) * rng.standard_normal((2000, *mu.shape))).reshape(-1, 4)
    np.testing.assert_allclose(found.mean, codes.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(found.covariance, np.cov(codes.T), atol=0.05)
    np.testing.assert_allclose(found.covariance, np.cov(mu.T, bias=True) + np.diag(np.exp(logvar).mean(axis=0)))
    np.testing.assert_array_equal(found.variance, np.diagonal(found.covariance))
    gaussian = MultivariateNormal(torch.from_numpy(found.mean), torch.from_numpy(found.covariance))
    prior = MultivariateNormal(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64))
    assert found.kl_to_prior == pytest.approx(float(kl_divergence(gaussian, prior)), rel=1e-10)
    assert found.correlated == (0, 2)
    assert found.largest_correlation == pytest.approx(
        found.covariance[0, 2] / np.sqrt(found.variance[0] * found.variance[2])
    )
    assert found.largest_correlation < -0.5


def test_the_moments_of_the_prior_and_of_nearly_singular_codes() -> None:
    found = aggregate_moments(np.zeros((5, 3)), np.zeros((5, 3)))
    assert found.kl_to_prior == 0
    assert found.largest_correlation == 0
    one = aggregate_moments(*_encoded(50, 1))
    assert (one.largest_correlation, one.correlated) == (0.0, None)
    line = np.repeat(np.random.default_rng(0).standard_normal((100, 1)), 3, axis=1)
    sharp = aggregate_moments(line, np.full((100, 3), -20.0))
    # Two of the three directions have no variance but the posterior's own, exp(-20).
    wide = 3 * line[:, 0].var() + np.exp(-20)
    expected = 0.5 * (wide - np.log(wide) - 1 + 2 * (np.exp(-20) + 20 - 1) + 3 * line[:, 0].mean() ** 2)
    assert sharp.kl_to_prior == pytest.approx(expected, rel=1e-7)
    assert np.isfinite(aggregate_moments(line, np.full((100, 3), -300.0)).kl_to_prior)


def _slow_information(mu: np.ndarray, logvar: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Per image, by torch's densities, one image at a time; the noise in the documented order."""
    rng = np.random.default_rng(seed)
    posterior = Independent(_posteriors(mu, logvar), 1)
    gain = np.zeros(len(mu))
    for _ in range(samples):
        for i in range(len(mu)):
            z = torch.from_numpy(mu[i] + np.exp(0.5 * logvar[i]) * rng.standard_normal(mu.shape[1]))
            each = posterior.log_prob(z)
            gain[i] += float(each[i] - (torch.logsumexp(each, 0) - np.log(len(mu))))
    return gain / samples


@pytest.mark.parametrize("limit", [1e7, 1.0])
def test_mutual_information_is_that_of_a_slow_loop(limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent, "PRODUCT_LIMIT", limit)  # 1: every dimension by differences
    monkeypatch.setattr(latent, "block_rows", lambda *_, **__: 7)
    mu, logvar = _encoded(90, 3, seed=5)
    found = mutual_information(mu, logvar, samples=2, seed=9)
    slow = _slow_information(mu, logvar, 2, 9)
    assert found.value == pytest.approx(slow.mean(), rel=1e-10)
    assert found.stderr == pytest.approx(slow.std(ddof=1) / np.sqrt(90), rel=1e-9)
    assert found.bound == pytest.approx(np.log(90))
    assert found.kl == pytest.approx(gaussian_kl(mu, logvar).total)
    assert found.marginal_kl == pytest.approx(found.kl - found.value)


def test_identical_posteriors_share_nothing_and_distant_ones_all() -> None:
    same = mutual_information(np.full((40, 3), 2.0), np.full((40, 3), -5.0))
    assert same.value == pytest.approx(0, abs=1e-12)
    assert same.marginal_kl == pytest.approx(same.kl)
    far = mutual_information(100.0 * np.arange(40)[:, None] * np.ones((1, 3)), np.full((40, 3), -5.0))
    assert far.value == pytest.approx(np.log(40), rel=1e-12)
    assert far.stderr == pytest.approx(0, abs=1e-12)


def test_sharp_posteriors_far_from_the_origin_lose_nothing() -> None:
    # Pairs of equal posteriors: log(n / 2) nats, whatever the scale.
    mu = np.repeat(1e6 + np.arange(20.0), 2)[:, None]
    found = mutual_information(mu, np.full((40, 1), -50.0))
    assert found.value == pytest.approx(np.log(20), abs=1e-2)
    # Posteriors so narrow that mu + sigma is mu: a code's density under its own is known all the same.
    found = mutual_information(1 + np.arange(40.0)[:, None], np.full((40, 1), -80.0))
    assert found.value == pytest.approx(np.log(40), rel=1e-12)


def test_a_gaussian_channel_has_the_information_of_shannon() -> None:
    # mu ~ N(0, s^2), z = mu + N(0, t^2): I = 1/2 log(1 + s^2 / t^2), two independent dimensions.
    n, signal, noise = 6000, np.array([1.0, 0.3]), np.array([0.5, 1.0])
    mu = np.random.default_rng(3).standard_normal((n, 2)) * signal
    found = mutual_information(mu, np.broadcast_to(2 * np.log(noise), (n, 2)), samples=2)
    expected = 0.5 * np.log1p((signal / noise) ** 2).sum()
    assert abs(found.value - expected) < 4 * found.stderr + 5e-3
    assert found.stderr < 0.02
    assert found.value < found.bound


def test_a_seed_repeats_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    mu, logvar = _encoded(200, 3)
    first = mutual_information(mu, logvar, seed=4)
    monkeypatch.setattr(latent, "block_rows", lambda *_, **__: 11)
    assert mutual_information(mu, logvar, seed=4).value == pytest.approx(first.value, rel=1e-12)
    assert mutual_information(mu, logvar, seed=5).value != pytest.approx(first.value, rel=1e-6)


def test_bad_input_is_one_line() -> None:
    mu, logvar = _encoded(6, 2)
    bad = mu.copy()
    bad[3, 1] = np.nan
    for call in (
        lambda: gaussian_kl(mu, logvar[:5]),
        lambda: gaussian_kl(bad, logvar),
        lambda: gaussian_kl(mu, logvar + 1000),
        lambda: gaussian_kl(mu, logvar - 1000),
        lambda: active_units(mu[0], logvar[0]),
        lambda: aggregate_moments(mu[:0], logvar[:0]),
        lambda: mutual_information(mu[:1], logvar[:1]),
        lambda: mutual_information(mu, logvar, samples=0),
    ):
        with pytest.raises(DataError) as error:
            call()
        assert "\n" not in str(error.value)
