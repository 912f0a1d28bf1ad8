"""Looking through a VAE: posteriors, reconstructions, decoded latents and importance weights of images in memory, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from visus.memory import halving
from visus.models.vae import Vae, kl_terms
from visus.models.vae_faults import check_images, check_posterior
from visus.progress import task

BATCH = 500
LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Posteriors:
    """mu, logvar: float32 [n, latent], of q(z | x) for n images."""

    mu: np.ndarray
    logvar: np.ndarray

    def sample(self, *, seed: int) -> np.ndarray:
        """float32 [n, latent]: one z an image."""
        noise = np.random.default_rng(seed).standard_normal(self.mu.shape, dtype=np.float32)
        found: np.ndarray = self.mu + np.exp(0.5 * self.logvar) * noise
        return found


@dataclass(frozen=True)
class Bounds:
    """The two sides of the ELBO by image, in nats, float64 [n]: reconstruction (of one sample of z), kl; at_mean: reconstruction from
    the posterior mean."""

    reconstruction: np.ndarray
    kl: np.ndarray
    at_mean: np.ndarray


def as_floats(images: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """float32 [n, c, h, w] in [0, 1] of uint8 [n, h, w, c]."""
    raw = torch.from_numpy(np.ascontiguousarray(images)).to(device, non_blocking=True)
    return raw.permute(0, 3, 1, 2).to(torch.float32).div_(255)


def as_bytes(means: torch.Tensor) -> np.ndarray:
    """uint8 [n, h, w, c] of means in [0, 1], float [n, c, h, w]."""
    found: np.ndarray = (means.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return found


def encoded(vae: Vae, x: torch.Tensor, *, first: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(mu, logvar) of images, float [b, c, h, w]. Raises NotFiniteError that says where they stop being numbers; first: number of x[0]."""
    mu, logvar = vae.encode(x)
    check_posterior(vae.module, lambda: vae.encode(x), mu, logvar, name=vae.spec, first=first)
    return mu, logvar


def decoded(
    vae: Vae, z: torch.Tensor, *, first: int = 0, every: int | None = None, kind: str = "image"
) -> torch.Tensor:
    """The decoder's means of z, float [b, latent]. Raises NotFiniteError; first, every, kind: as `check_images` names the images by."""
    means = vae.decode(z)
    check_images(vae.module, lambda: vae.decode(z), means, name=vae.spec, first=first, every=every, kind=kind)
    return means


def posteriors(vae: Vae, images: np.ndarray, *, device: str = "cpu") -> Posteriors:
    """q(z | x) of images, uint8 [n, h, w, c]. The mean is the embedding: it repeats exactly."""
    mu, logvar = np.empty((2, len(images), vae.latent), np.float32)
    with vae.on(device), torch.inference_mode():

        def run(at: slice) -> tuple[np.ndarray, np.ndarray]:
            m, v = encoded(vae, as_floats(images[at], device), first=at.start)
            return m.float().cpu().numpy(), v.float().cpu().numpy()

        for at, found in halving(len(images), BATCH, run, what="encoding images"):
            mu[at], logvar[at] = found
    return Posteriors(mu, logvar)


def decoded_latents(vae: Vae, z: np.ndarray, *, device: str = "cpu") -> np.ndarray:
    """The decoder's means of z, float [n, latent], as images: uint8 [n, h, w, c]."""
    c, h, w = vae.shape
    out = np.empty((len(z), h, w, c), np.uint8)
    with vae.on(device), torch.inference_mode():

        def run(at: slice) -> np.ndarray:
            some = torch.from_numpy(z[at].astype(np.float32)).to(device)
            return as_bytes(decoded(vae, some, first=at.start, kind="sample"))

        for at, made in halving(len(z), BATCH, run, what="decoding latents"):
            out[at] = made
    return out


def bounds(vae: Vae, images: np.ndarray, *, seed: int, device: str = "cpu") -> Bounds:
    """Reconstruction and KL of every image, in nats (protocol P11)."""
    found = np.empty((3, len(images)), np.float64)
    draw = torch.Generator().manual_seed(seed)
    with vae.on(device), torch.inference_mode():
        for block in _batches(len(images)):
            # Drawn for the block, so that a part that is too large for memory has the same noise when it comes again in smaller ones.
            noise = torch.randn((block.stop - block.start, vae.latent), generator=draw)

            def run(part: slice, block: slice = block, noise: torch.Tensor = noise) -> np.ndarray:
                at = slice(block.start + part.start, block.start + part.stop)
                x = as_floats(images[at], device)
                mu, logvar = encoded(vae, x, first=at.start)
                z = mu + torch.exp(0.5 * logvar) * noise[part].to(device)
                sampled = vae.nats(decoded(vae, z, first=at.start), x)
                at_mean = vae.nats(decoded(vae, mu, first=at.start), x)
                kl = kl_terms(mu.double(), logvar.double()).sum(dim=1)
                both: np.ndarray = torch.stack([sampled.double(), kl, at_mean.double()]).cpu().numpy()
                return both

            for part, both in halving(block.stop - block.start, BATCH, run, what="both sides of the bound"):
                found[:, block.start + part.start : block.start + part.stop] = both
    return Bounds(*found)


def log_weights(vae: Vae, images: np.ndarray, k: int, *, seed: int, device: str = "cpu") -> np.ndarray:
    """log p(x | z) + log p(z) - log q(z | x) of k samples of z from q(z | x) an image: float64 [n, k], for `importance_bound`.

    All constants are in: with a Gaussian decoder it is a log density over pixels in [0, 1].
    """
    out = np.empty((len(images), k), np.float64)
    draw = torch.Generator().manual_seed(seed)
    constant = vae.decoder.constant(vae.pixels)
    size = max(BATCH // k, 1)
    with vae.on(device), torch.inference_mode(), task("importance sampling", len(images)) as progress:
        for block in _batches(len(images), size):
            drawn = torch.randn((k, block.stop - block.start, vae.latent), generator=draw)

            def run(part: slice, block: slice = block, drawn: torch.Tensor = drawn) -> np.ndarray:
                at = slice(block.start + part.start, block.start + part.stop)
                x = as_floats(images[at], device)
                mu, logvar = encoded(vae, x, first=at.start)
                noise = drawn[:, part].to(device)
                z = mu + torch.exp(0.5 * logvar) * noise
                means = decoded(vae, z.flatten(0, 1), first=at.start, every=len(x)).view(k, len(x), *vae.shape)
                likelihood = -vae.nats(means, x).double() - constant
                prior = -0.5 * (z.double().square() + LOG_2PI).sum(dim=-1)
                posterior = -0.5 * (noise.double().square() + logvar.double() + LOG_2PI).sum(dim=-1)
                weights: np.ndarray = (likelihood + prior - posterior).T.cpu().numpy()
                return weights

            for part, weights in halving(block.stop - block.start, size, run, what="importance sampling"):
                out[block.start + part.start : block.start + part.stop] = weights
                progress.advance(len(weights))
    return out


def sensitivity(vae: Vae, mu: np.ndarray, *, step: float = 1.0, device: str = "cpu") -> np.ndarray:
    """How much the decoded image changes with each latent dimension: float64 [latent].

    The root of the squared pixel changes (in [0, 1] units, summed over pixels, averaged over the n rows of mu) between z_j - step / 2 and
    z_j + step / 2, divided by step: a central difference of one prior standard deviation by default. mu: float [n, latent].
    """
    found = np.zeros(vae.latent)
    z = torch.from_numpy(mu.astype(np.float32))
    with vae.on(device), torch.inference_mode():
        for j in range(vae.latent):
            total = 0.0
            for at in _batches(len(z)):
                pair = z[at].repeat(2, 1)
                pair[: len(pair) // 2, j] -= step / 2
                pair[len(pair) // 2 :, j] += step / 2
                low, high = decoded(vae, pair.to(device), first=at.start, every=len(pair) // 2).chunk(2)
                total += float((high - low).double().square().sum())
            found[j] = math.sqrt(total / len(z)) / step
    return found


def _batches(n: int, size: int = BATCH) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
