"""Which beta does a loss really have? Read off its gradient, whatever its code says (protocol P11)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from visus.errors import DataError
from visus.features.latents import as_floats
from visus.measures.objective_scale import EffectiveBeta, effective_beta
from visus.models.vae import Vae, kl_terms

Loss = Callable[[torch.Tensor], torch.Tensor]


def measured_beta(
    vae: Vae,
    images: np.ndarray,
    loss: Loss,
    *,
    cost: Callable[[torch.Tensor], torch.Tensor] | None = None,
    seed: int = 0,
) -> EffectiveBeta:
    """The weight of the KL in `loss`, on the scale on which the reconstruction counts once in nats per image.

    The gradient of the loss with respect to all weights is taken apart into those of the reconstruction and of the KL (both in nats, summed
    over pixels and dimensions, averaged over images), by least squares: a loss that averages over pixels, or divides the KL by the batch
    twice, shows the beta that it has. All three are computed with the same noise (the global generator, seeded, and put back).

    images: uint8 [n, h, w, c], one batch. loss: float [n, c, h, w] -> a scalar, in the module's weights. cost: KL terms [n, latent]
    -> what the KL costs (default: their sum, averaged over images; free bits count otherwise). Raises DataError where the loss has no gradient.
    """
    x = as_floats(images)
    parameters = list(vae.module.parameters())
    asked = [p.requires_grad for p in parameters]

    def kl_cost() -> torch.Tensor:
        terms = kl_terms(*vae.encode(x))
        return terms.mean(dim=0).sum() if cost is None else cost(terms)

    def reconstruction() -> torch.Tensor:
        mu, logvar = vae.encode(x)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return vae.nats(vae.decode(z), x).mean()

    def gradient(of: Callable[[], torch.Tensor]) -> np.ndarray:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            value = of()
        if value.ndim or not value.requires_grad:
            raise DataError(f"{vae.spec}: its loss must return one number that depends on the weights")
        parts = torch.autograd.grad(value, parameters, allow_unused=True)
        flat = [torch.zeros(p.numel()) if g is None else g.flatten() for g, p in zip(parts, parameters, strict=True)]
        return torch.cat(flat).double().cpu().numpy()

    for p in parameters:
        p.requires_grad_(True)
    try:
        with torch.enable_grad():
            return effective_beta(gradient(lambda: loss(x)), gradient(reconstruction), gradient(kl_cost))
    finally:
        for p, was in zip(parameters, asked, strict=True):
            p.requires_grad_(was)
