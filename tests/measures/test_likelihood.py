"""The importance-weighted bound against a linear-Gaussian model, whose likelihood and posterior are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from visus.errors import DataError
from visus.measures import importance_bound, likelihood

_D, _Q, _NOISE = 6, 2, 0.5


class _Linear:
    """x = W z + b + noise, z ~ N(0, I): p(x) and p(z | x) in closed form."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(0)
        self.w, self.b = rng.standard_normal((_D, _Q)), rng.standard_normal(_D)
        self.x = rng.standard_normal((n, _Q)) @ self.w.T + self.b + _NOISE * rng.standard_normal((n, _D))
        covariance = self.w @ self.w.T + _NOISE**2 * np.eye(_D)
        self.exact = multivariate_normal(self.b, covariance).logpdf(self.x)
        self.covariance = np.linalg.inv(np.eye(_Q) + self.w.T @ self.w / _NOISE**2)
        self.mean = (self.x - self.b) @ self.w @ self.covariance / _NOISE**2

    def log_weights(self, k: int, *, wrong: float, seed: int = 1) -> np.ndarray:
        """log p(x, z) - log q(z | x), q off the posterior by a shift and a scale (wrong = 0: the posterior itself)."""
        root = np.linalg.cholesky(self.covariance) * (1 + wrong)
        noise = np.random.default_rng(seed).standard_normal((len(self.x), k, _Q))
        z = self.mean[:, None] + wrong * np.sqrt(np.diagonal(self.covariance)) + noise @ root.T
        q = -0.5 * (noise**2).sum(axis=2) - np.log(np.diagonal(root)).sum() - 0.5 * _Q * math.log(2 * math.pi)
        prior = -0.5 * (z**2).sum(axis=2) - 0.5 * _Q * math.log(2 * math.pi)
        rest = (self.x - self.b)[:, None] - z @ self.w.T
        pixels = -0.5 * (rest**2).sum(axis=2) / _NOISE**2 - _D * math.log(_NOISE * math.sqrt(2 * math.pi))
        return pixels + prior - q


def test_a_slightly_wrong_posterior_gives_the_known_likelihood() -> None:
    model = _Linear(150)
    found = importance_bound(model.log_weights(2000, wrong=0.3), dims=_D)
    off = found.per_image - model.exact
    assert abs(off.mean()) < 4 * off.std(ddof=1) / np.sqrt(len(off)) + 1e-3
    assert found.nats == pytest.approx(model.exact.mean(), abs=1e-2)
    assert found.stderr == pytest.approx(found.per_image.std(ddof=1) / np.sqrt(150))
    assert found.k == 2000
    assert 1000 < found.effective_samples < 2000


@pytest.mark.parametrize("k", [1, 2, 50])
def test_the_posterior_itself_is_exact_for_any_k(k: int) -> None:
    model = _Linear(40)
    found = importance_bound(model.log_weights(k, wrong=0.0), dims=_D)
    np.testing.assert_allclose(found.per_image, model.exact, rtol=1e-11)
    assert found.effective_samples == pytest.approx(k)


def test_it_rises_with_k_and_stays_below_the_likelihood() -> None:
    model = _Linear(3000)
    weights = model.log_weights(64, wrong=0.6)
    bounds = [importance_bound(weights[:, :k], dims=_D).nats for k in (1, 4, 16, 64)]
    assert bounds == sorted(bounds)
    assert bounds[1] - bounds[0] > 0.05
    assert bounds[-1] < model.exact.mean() + 0.01


def test_it_is_scipy_s_logsumexp_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "block_rows", lambda *_, **__: 4)
    weights = 50 * np.random.default_rng(2).standard_normal((23, 9))
    found = importance_bound(weights, dims=10)
    np.testing.assert_allclose(found.per_image, logsumexp(weights, axis=1) - np.log(9), rtol=1e-13)
    w = np.exp(weights - logsumexp(weights, axis=1, keepdims=True))
    assert found.effective_samples == pytest.approx((1 / (w**2).sum(axis=1)).mean())


@pytest.mark.parametrize("shift", [1e4, -1e4, 1e300, -1e300])
def test_it_neither_overflows_nor_vanishes(shift: float) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = importance_bound(np.full((3, 5), shift), dims=784)
    assert found.nats == pytest.approx(shift, rel=1e-12)
    assert found.effective_samples == pytest.approx(5)
    assert importance_bound(np.array([[0.0, -1e5]]), dims=1).effective_samples == 1


def test_bits_per_dimension_of_a_uniform_density_are_eight() -> None:
    # Density 1 on [0, 1]^d is 256 equally likely levels; a fair coin per pixel is one bit.
    assert importance_bound(np.zeros((4, 3)), dims=784).bits_per_dimension == 8
    coin = importance_bound(np.full((4, 3), -784 * math.log(2)), dims=784, bits_offset=0.0)
    assert coin.bits_per_dimension == pytest.approx(1)


def test_one_image_has_no_standard_error() -> None:
    assert math.isnan(importance_bound(np.zeros((1, 3)), dims=2).stderr)


def test_bad_input_is_one_line() -> None:
    for call in (
        lambda: importance_bound(np.zeros(4), dims=2),
        lambda: importance_bound(np.zeros((4, 0)), dims=2),
        lambda: importance_bound(np.full((4, 2), np.nan), dims=2),
        lambda: importance_bound(np.full((4, 2), -np.inf), dims=2),
        lambda: importance_bound(np.zeros((4, 2)), dims=0),
    ):
        with pytest.raises(DataError) as error:
            call()
        assert "\n" not in str(error.value)
