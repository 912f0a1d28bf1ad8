"""The modules among the foreign ones that are refused or answered with a caution: source that goes on where foreign_vaes begins."""

from __future__ import annotations

REFUSED = """# refused
class Ambiguous(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return (mu, torch.exp(lv / 2))
class NamedLogSigma(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        log_sigma = lv / 2
        return mu, log_sigma
class NamedRho(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        rho = torch.log(torch.expm1(torch.exp(lv / 2)))
        return mu, rho
class Sigmoid01(Truth):
    def encode(self, x):
        return self.parameters_of(x)
    def reparameterize(self, mu, raw):
        return mu + torch.sigmoid(raw) * torch.randn_like(mu)
class OnlySample(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu + torch.exp(lv / 2) * torch.randn_like(mu)
class SampleAndKl(OnlySample):
    def encode(self, x):
        z = super().encode(x)
        return z, z.square().mean()
class Autoencoder(Truth):
    def encode(self, x):
        return self.parameters_of(x)[0]
class Dropped(Truth):
    def encode(self, x):
        return self.parameters_of(F.dropout(x))
class Conditional(Truth):
    def encode(self, x, y):
        return self.parameters_of(x)
class ConditionalDecoder(Truth):
    def decode(self, z, labels):
        return super().decode(z)
class Quantised(Truth):
    def encode(self, x):
        z = self.parameters_of(x)[0]
        return z, z.mean(), z.argmax(1)
class VectorQuantizer(nn.Module):
    pass
class QuantisedBefore(Autoencoder):
    def __init__(self):
        super().__init__()
        self.vq = VectorQuantizer()
class Hierarchical(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return [mu, mu], [lv, lv]
class AsLaplace(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return distributions.Laplace(mu, lv.exp())
class Correlated(Truth):
    def encode(self, x):
        mu, _ = self.parameters_of(x)
        return distributions.MultivariateNormal(mu, torch.eye(3) + 0.5)
class Noisy(Truth):
    def decode(self, z):
        return torch.bernoulli(self.draw(z).clamp(0, 1))
class Raises(Truth):
    def encode(self, x):
        raise RuntimeError("my own mistake")
class Untrained(Truth):
    def decode(self, z):
        return -3 + 5 * self.draw(z * 0)
class NanWeight(Truth):
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.v[1, 4] = float("nan")
class OwnError(Exception):
    pass
class RaisesOwn(Truth):
    def encode(self, x):
        raise OwnError("nobody knows")
class Ladder(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return (mu, lv), (mu, lv)
class Log(nn.Module):
    def forward(self, x):
        return torch.log(x)
class NanLayer(Truth):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Identity(), Log())
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu + 0 * self.inner(-1 - x).flatten(1)[:, :3], lv
class NanForOne(NanLayer):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        white = (x.flatten(1).amin(1, keepdim=True) > 0.999).to(x.dtype)
        return mu + 0 * self.inner(1 - 2 * white), lv
class NanFromDecoder(Truth):
    def decode(self, z):
        far = (z.norm(dim=-1) > 50)[:, None, None, None]
        return torch.where(far, float("nan"), super().decode(z))
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        white = (x.flatten(1).amin(1, keepdim=True) > 0.999).to(x.dtype)
        return mu + 1000 * white, lv
class Huge(Truth):
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return mu, lv * 0 - 1 + torch.tensor([0.0, 120.0, 0.0])
class NeedsArguments(Truth):
    def __init__(self, wide):
        super().__init__()
class Sigmoid(Truth):
    def decode(self, z):
        return torch.sigmoid(4 * self.draw(-z).flip(-1) - 4)
class BatchStatistics(Truth):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3, affine=False, track_running_stats=False)
    def encode(self, x):
        mu, lv = self.parameters_of(x)
        return self.norm(mu + 0.5 * mu.square()), lv
class SignedLoss(Signed):
    def loss(self, x):
        return {"loss": x.mean(), "kl": 0}
class LossOfFour(Truth):
    def loss(self, recon, x, mu, logvar):
        return 0
class LossIsALayer(Truth):
    def __init__(self):
        super().__init__()
        self.loss = nn.MSELoss()
"""
