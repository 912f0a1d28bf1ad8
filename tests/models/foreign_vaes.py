"""Modules as people write them, of one planted truth: images x = 1/2 + W z, mu = W^+ (x - 1/2), log-variance linear in x."""

from __future__ import annotations

import numpy as np
import torch
from tests.models.refused_vaes import REFUSED

SHAPE = (1, 6, 6)
SOURCE = '''
import collections, dataclasses, math
import torch
from torch import nn, distributions
from torch.nn import functional as F

def weights():
    g = torch.Generator().manual_seed(7)
    w = torch.linalg.qr(torch.randn(36, 3, generator=g))[0] * 0.5
    v = torch.randn(3, 36, generator=g) * 0.8
    return w, v

class Truth(nn.Module):
    low, high, shift = 0.0, 1.0, -1.5
    def __init__(self):
        super().__init__()
        w, v = weights()
        self.w, self.v = nn.Parameter(w), nn.Parameter(v)
    def unit(self, x):
        return (x.reshape(len(x), -1) - self.low) / (self.high - self.low)
    def parameters_of(self, x):
        x = self.unit(x) - 0.5
        return x @ self.w / 0.25, self.shift + x @ self.v.T
    def draw(self, z):
        return (0.5 + z.reshape(len(z), 3) @ self.w.T).view(-1, 1, 6, 6)
    def decode(self, z):
        return self.draw(z) * (self.high - self.low) + self.low
    def encode(self, x):
        return self.parameters_of(x)

class Plain(Truth): pass

class Sampled(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu + torch.exp(lv / 2) * torch.randn_like(mu), mu, lv
class SampledLast(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, lv, mu + torch.exp(lv / 2) * torch.randn_like(mu)
class SampledSigma(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        s = torch.exp(lv / 2)
        return mu + s * torch.randn_like(mu), mu, s
class SampledVariance(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu + torch.exp(lv / 2) * torch.randn_like(mu), mu, lv.exp()
class SampledLogSigma(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu + torch.exp(lv / 2) * torch.randn_like(mu), mu, lv / 2
class SampledBackwards(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return lv, mu, mu + torch.exp(lv / 2) * torch.randn_like(mu)
class SampledInTraining(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        z = mu + torch.exp(lv / 2) * torch.randn_like(mu) if self.training else mu
        return z, mu, torch.exp(lv / 2)
class Nested(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu + torch.exp(lv / 2) * torch.randn_like(mu), (mu, lv)
class Redundant(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, torch.exp(lv / 2), lv
class SignedSigma(Truth):
    """A sigma head without softplus: mu + sigma * noise, of either sign."""
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        s = torch.exp(lv / 2) * torch.sign(mu)
        return mu, s
    def forward(self, x):
        mu, s = self.encode(x)
        return self.decode(mu + s * torch.randn_like(mu)), mu, s

class SigmaByMethod(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, torch.exp(lv / 2)
    def reparameterize(self, mu, std):
        return mu + torch.randn_like(std) * std if self.training else mu
class VarianceByMethod(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, torch.exp(lv)
    def reparametrization_trick(self, mu, var):
        return mu + torch.randn_like(var) * var.sqrt()
class LogSigmaByMethod(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, lv / 2
    def sample_z(self, mu, log_sigma):
        return mu + torch.exp(log_sigma) * torch.randn_like(mu)
class BackwardsByMethod(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return lv, mu
    def reparameterize(self, logvar, mu):
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
class LogSigmaByForward(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, lv / 2
    def forward(self, x):
        mu, ls = self.encode(x)
        return self.decode(mu + torch.exp(ls) * torch.randn_like(mu)), mu, ls
class SigmaByForwardLayer(Truth):
    """forward goes to a layer, not to decode."""
    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(3, 36)
        self.decoder.weight = self.w
        nn.init.constant_(self.decoder.bias, 0.5)
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, torch.exp(lv / 2)
    def decode(self, z):
        return self.decoder(z).view(-1, 1, 6, 6)
    def forward(self, x):
        mu, s = self.encode(x)
        return self.decoder(mu + s * torch.randn_like(mu)), mu, s

class Softplus(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, torch.log(torch.expm1(torch.exp(lv / 2)))
    def reparameterize(self, mu, rho):
        return mu + F.softplus(rho) * torch.randn_like(mu)
class SoftplusSampled(Softplus):
    def encode(self, x):
        mu, rho = super().encode(x)
        return self.reparameterize(mu, rho), mu, rho
class SoftplusVariance(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, torch.log(torch.expm1(torch.exp(lv)))
    def reparameterize(self, mu, raw):
        return mu + F.softplus(raw).sqrt() * torch.randn_like(mu)
class SigmaByLoss(Truth):
    """No forward: only the loss draws z."""
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, torch.exp(lv / 2)
    def loss(self, x):
        mu, s = self.encode(x)
        return (self.decode(mu + s * torch.randn_like(mu)) - x).square().sum()
class DecodesBytes(Truth):
    def decode(self, z):
        return (self.draw(z).clamp(0, 1) * 255).round().to(torch.uint8)
class DecodesNamedLogits(Truth):
    def decode(self, z):
        return {"x_logits": torch.logit(self.draw(z).clamp(0.01, 0.99))}

class AsNormal(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return distributions.Normal(mu, torch.exp(lv / 2))
class AsIndependent(AsNormal):
    def encode(self, x):
        return distributions.Independent(super().encode(x), 1)
class AsMultivariate(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return distributions.MultivariateNormal(mu, scale_tril=torch.diag_embed(torch.exp(lv / 2)))
class WithDistribution(AsNormal):
    def encode(self, x):
        q = super().encode(x)
        return q.rsample(), q
class AsDict(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return {"log_covariance": lv, "embedding": mu}
class AsDictOfSigma(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return {"z_mean": mu, "z_std": torch.exp(lv / 2), "hidden": x.flatten(1)}
@dataclasses.dataclass
class Parameters:
    mean: torch.Tensor
    variance: torch.Tensor
class AsDataclass(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return Parameters(mu, lv.exp())
Pair = collections.namedtuple("Pair", "mu log_var")
class AsNamedTuple(Truth):
    def encode(self, x):
        return Pair(*self.parameters_of(x))
class Diagonal:
    """As in diffusers."""
    def __init__(self, moments):
        self.parameters = moments
        self.mean, self.logvar = moments.chunk(2, dim=1)
        self.std, self.var, self.deterministic = torch.exp(0.5 * self.logvar), torch.exp(self.logvar), False
    def sample(self, generator=None):
        return self.mean + self.std * torch.randn_like(self.mean)
class Held:
    def __init__(self, **given):
        self.__dict__.update(given)
class AsDiffusers(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return Held(latent_dist=Diagonal(torch.cat([mu, lv], 1)[..., None, None]))
    def decode(self, z):
        assert z.shape[1:] == (3, 1, 1)
        return Held(sample=super().decode(z.flatten(1)))
class SideBySide(Truth):
    def encode(self, x):
        return torch.cat(self.parameters_of(x), dim=1)
    def decode(self, z):
        return super().decode(z.view(-1, 3))
class OfRows(Truth):
    def encode(self, x):
        assert x.shape[1:] == (36,), x.shape
        return self.parameters_of(x)
    def decode(self, z):
        return super().decode(z).flatten(1)
class ToPoints(Truth):
    """mu [b, d], decode wants [b, d, 1, 1]."""
    def decode(self, z):
        b, d, _, _ = z.shape
        return super().decode(z)
class Named(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        sigma = torch.exp(lv / 2)
        return mu, sigma
class NamedLayers(Truth):
    def fc_mu(self, x):
        return self.parameters_of(x)[0]
    def fc_var(self, x):
        return self.parameters_of(x)[1].exp()
    def encode(self, x):
        return self.fc_mu(x), self.fc_var(x)
class Double(Truth):
    def __init__(self):
        super().__init__()
        self.double()
class Half(Truth):
    def __init__(self):
        super().__init__()
        self.half()
class TrainMode(Truth):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.train()
    def encode(self, x):
        return self.parameters_of(self.drop(x))

# ranges
class Signed(Truth):
    low, high = -1.0, 1.0
class Bytes(Truth):
    low, high = 0.0, 255.0
class SignedOut(Truth):
    def decode(self, z):
        return self.draw(z) * 2 - 1
class SignedIn(Signed):
    def decode(self, z):
        return self.draw(z)
class Logits(Truth):
    def decode(self, z):
        return torch.logit(self.draw(z).clamp(0.01, 0.99))
class SignedLogits(Logits):
    low, high = -1.0, 1.0
class Normalised(Truth):
    low, high = (0 - 0.1307) / 0.3081, (1 - 0.1307) / 0.3081
class AsBernoulli(Logits):
    def decode(self, z):
        return distributions.Independent(distributions.Bernoulli(logits=super().decode(z)), 3)

'''
SOURCE += REFUSED
SOURCE += """ByInstance = Plain()
class Zero(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return distributions.Normal(mu, torch.where(mu > 99, mu, 0 * mu), validate_args=False)
"""


def planted_images(n: int = 200) -> np.ndarray:
    """uint8 [n, 6, 6, 1] of the planted truth."""
    g = torch.Generator().manual_seed(7)
    w = torch.linalg.qr(torch.randn(36, 3, generator=g))[0] * 0.5
    z = torch.randn(n, 3, generator=torch.Generator().manual_seed(1))
    x = (0.5 + z @ w.T).clamp(0, 1).view(n, 6, 6, 1)
    return (x * 255).round().to(torch.uint8).numpy()


def truth(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(mu, logvar) that every one of them means, of float [n, 1, 6, 6] in [0, 1]."""
    g = torch.Generator().manual_seed(7)
    w = torch.linalg.qr(torch.randn(36, 3, generator=g))[0] * 0.5
    v = torch.randn(3, 36, generator=g) * 0.8
    x = x.flatten(1) - 0.5
    return x @ w / 0.25, -1.5 + x @ v.T
