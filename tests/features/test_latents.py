"""Looking through a VAE: a linear-Gaussian model whose every number is known, and slow loops over the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from visus.features.latents import as_bytes, as_floats, bounds, decoded_latents, log_weights, posteriors, sensitivity
from visus.measures import importance_bound
from visus.models.vae import Decoder, Vae, VaeSizes, new_vae, wrap

VARIANCE = 0.05


class Linear(nn.Module):
    """x = W z + b + noise with orthogonal columns, so that the exact posterior is diagonal; sigma: spread of q over the exact one."""

    def __init__(self, pixels: int, latent: int, *, sigma: float = 1.0) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        basis = np.linalg.qr(rng.normal(size=(pixels, latent)))[0] * np.linspace(0.2, 0.6, latent)
        self.w = nn.Parameter(torch.from_numpy(basis).float())
        self.b = nn.Parameter(torch.full((pixels,), 0.5))
        self.sigma = sigma

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        precision = 1 + self.w.square().sum(0) / VARIANCE
        mu = (x.flatten(1) - self.b) @ self.w / VARIANCE / precision
        return mu, (2 * math.log(self.sigma) - torch.log(precision)).expand_as(mu)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return (z @ self.w.T + self.b).view(len(z), 1, 4, 6)


def linear(*, sigma: float = 1.0, latent: int = 3) -> Vae:
    module = Linear(24, latent, sigma=sigma)
    return Vae("linear", module, (1, 4, 6), latent, Decoder("gaussian", VARIANCE), module.encode, module.decode)


def some_images(n: int = 40) -> np.ndarray:
    return np.random.default_rng(1).integers(60, 200, size=(n, 4, 6, 1)).astype(np.uint8)


def known(vae: Vae, x: np.ndarray) -> np.ndarray:
    """log N(x; b, W W' + v I) of every picture."""
    module = vae.module
    assert isinstance(module, Linear)
    w, b = module.w.detach().double(), module.b.detach().double()
    normal = torch.distributions.MultivariateNormal(b, w @ w.T + VARIANCE * torch.eye(24).double())
    found: np.ndarray = normal.log_prob(as_floats(x).flatten(1).double()).numpy()
    return found


def test_importance_weights_of_the_exact_posterior_all_are_the_likelihood() -> None:
    vae, x = linear(), some_images()
    weights = log_weights(vae, x, 5, seed=0)
    assert weights.shape == (40, 5)
    assert np.allclose(weights, known(vae, x)[:, None], atol=2e-3)
    found = importance_bound(weights, dims=24)
    assert found.nats == pytest.approx(known(vae, x).mean(), abs=1e-3)


def test_importance_weights_of_a_wrong_posterior_come_to_the_likelihood_from_below() -> None:
    vae, x = linear(sigma=1.4), some_images()
    few, many = (importance_bound(log_weights(vae, x, k, seed=0), dims=24).nats for k in (1, 2000))
    truth = known(vae, x).mean()
    assert few < many
    assert many == pytest.approx(truth, abs=1e-2)


def test_the_elbo_of_the_exact_posterior_is_the_likelihood_on_average() -> None:
    vae, x = linear(), some_images(400)
    b = bounds(vae, x, seed=0)
    elbo = -(b.reconstruction + b.kl + vae.decoder.constant(24))
    assert np.mean(elbo) == pytest.approx(known(vae, x).mean(), abs=4 * np.std(elbo) / 20)
    # From the mean alone the reconstruction is better than from a sample of z.
    assert b.at_mean.mean() < b.reconstruction.mean()


def test_sensitivity_of_a_linear_decoder_is_the_length_of_its_columns() -> None:
    vae = linear()
    found = sensitivity(vae, posteriors(vae, some_images()).mu)
    assert np.allclose(found, np.linspace(0.2, 0.6, 3), rtol=1e-4)
    assert np.allclose(sensitivity(vae, np.zeros((7, 3)), step=0.3), np.linspace(0.2, 0.6, 3), rtol=1e-3)


def test_embeddings_are_the_mean_and_repeat_exactly() -> None:
    network = new_vae(VaeSizes(4, 6, latent=3), Decoder(), seed=0)
    vae, x = wrap(network, "small"), some_images(1100)
    first, second = posteriors(vae, x), posteriors(vae, x)
    assert np.array_equal(first.mu, second.mu)
    slow = torch.cat([network.encode(as_floats(x[i : i + 1]))[0] for i in range(3)])
    assert np.allclose(first.mu[:3], slow.numpy(), atol=1e-6)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in before.items())


def test_bounds_are_those_of_a_slow_loop() -> None:
    network = new_vae(VaeSizes(4, 6, latent=3), Decoder(), seed=0)
    vae, x = wrap(network, "small"), some_images(6)
    found = bounds(vae, x, seed=2)
    noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
    for i in range(6):
        one = as_floats(x[i : i + 1])
        mu, logvar = network.encode(one)
        z = mu + torch.exp(0.5 * logvar) * noise[i]
        assert found.reconstruction[i] == pytest.approx(float((network.decode(z) - one).square().sum()), rel=1e-5)
        assert found.at_mean[i] == pytest.approx(float((network.decode(mu) - one).square().sum()), rel=1e-5)
        assert found.kl[i] == pytest.approx(float(0.5 * (mu**2 + logvar.exp() - logvar - 1).sum()), rel=1e-4)


def test_bytes_and_floats_are_each_others_inverse() -> None:
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert np.array_equal(as_bytes(as_floats(x)), x)
    colour = np.random.default_rng(0).integers(0, 256, size=(2, 3, 5, 3)).astype(np.uint8)
    assert as_floats(colour).shape == (2, 3, 3, 5)
    assert np.array_equal(as_bytes(as_floats(colour)), colour)


def test_samples_of_posteriors_have_their_moments() -> None:
    vae = linear()
    q = posteriors(vae, np.repeat(some_images(1), 20_000, axis=0))
    z = q.sample(seed=0)
    assert np.allclose(z.mean(0), q.mu[0], atol=0.02)
    assert np.allclose(z.var(0), np.exp(q.logvar[0]), rtol=0.05)
    assert np.array_equal(z, q.sample(seed=0))


def test_decoded_latents_are_images() -> None:
    made = decoded_latents(linear(), np.zeros((3, 3)))
    assert made.shape == (3, 4, 6, 1)
    assert made.dtype == np.uint8
    assert (made == 128).all()
