"""The VAE's network and likelihoods against torch.distributions, and opening one: the lab's own folders, and anybody's module."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import distributions, nn

from visus.errors import DataError, SpecError
from visus.models.vae import Decoder, NarrowDeconvolution, VaeSizes, kl_terms, new_vae, wrap
from visus.models.vae_open import load_vae, save_vae, shape_of

GREY = (1, 28, 28)

MODULE = """
import torch
from torch import nn

class Tuple(nn.Module):
    def __init__(self, latent=3, side=8):
        super().__init__()
        self.side = side
        self.inside, self.outside = nn.Linear(side * side, 2 * latent), nn.Linear(latent, side * side)
    def encode(self, x):
        return self.inside(x.flatten(1)).chunk(2, 1)
    def decode(self, z):
        return torch.sigmoid(self.outside(z)).view(-1, 1, self.side, self.side)

class Normal(Tuple):
    def encode(self, x):
        mu, logvar = super().encode(x)
        return torch.distributions.Normal(mu, torch.exp(0.5 * logvar))

class Posterior:
    def __init__(self, mean, logvar):
        self.mean, self.logvar = mean, logvar

class Output:
    def __init__(self, **given):
        self.__dict__.update(given)

class Diffusers(Tuple):
    def encode(self, x):
        mu, logvar = super().encode(x)
        return Output(latent_dist=Posterior(mu.view(-1, 3, 1, 1), logvar.view(-1, 3, 1, 1)))
    def decode(self, z):
        return Output(sample=super().decode(z.flatten(1)))

class Deaf(nn.Module):
    def encode(self, x):
        return x

class Lame(Tuple):
    def decode(self, z):
        return z
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with somebody's module and weights of its class Tuple, as the working folder."""
    name = f"their_vae_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    inside, outside = nn.Linear(64, 6), nn.Linear(3, 64)
    tensors = {f"inside.{k}": v for k, v in inside.state_dict().items()}
    tensors |= {f"outside.{k}": v for k, v in outside.state_dict().items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "weights.safetensors")
    return tmp_path / f"{name}.py"


@pytest.mark.parametrize("variance", [0.5, 0.02])
def test_the_gaussian_term_and_its_constant_are_the_log_likelihood(variance: float) -> None:
    raw, x = torch.randn(4, 3, 5, 6).double(), torch.rand(4, 3, 5, 6).double()
    decoder = Decoder("gaussian", variance)
    mean = torch.sigmoid(raw)
    wanted = -distributions.Normal(mean, variance**0.5).log_prob(x).sum((1, 2, 3))
    assert torch.allclose(decoder.nats(raw, x) + decoder.constant(90), wanted, rtol=1e-10)
    assert torch.allclose(decoder.nats_of_mean(mean, x), decoder.nats(raw, x))
    if variance == 0.5:
        assert torch.allclose(decoder.nats(raw, x), (mean - x).square().sum((1, 2, 3)))


def test_the_learned_gaussian_and_bernoulli_terms_are_the_log_likelihood() -> None:
    raw, x, log_variance = (
        torch.randn(4, 1, 5, 5).double(),
        torch.rand(4, 1, 5, 5).double(),
        torch.tensor(-2.0).double(),
    )
    learned = Decoder("learned-gaussian")
    wanted = -distributions.Normal(torch.sigmoid(raw), torch.exp(0.5 * log_variance)).log_prob(x).sum((1, 2, 3))
    assert torch.allclose(learned.nats(raw, x, log_variance), wanted, rtol=1e-10)
    assert learned.constant(25) == 0
    hard = (x > 0.5).double()
    wanted = -distributions.Bernoulli(logits=raw).log_prob(hard).sum((1, 2, 3))
    assert torch.allclose(Decoder("bernoulli").nats(raw, hard), wanted, rtol=1e-10)
    assert torch.allclose(Decoder("bernoulli").nats_of_mean(torch.sigmoid(raw), hard), wanted, rtol=1e-6)
    assert not Decoder("bernoulli").density


def test_kl_terms_are_those_of_torch_distributions() -> None:
    mu, logvar = torch.randn(50, 4).double(), torch.randn(50, 4).double()
    q = distributions.Normal(mu, torch.exp(0.5 * logvar))
    wanted = distributions.kl_divergence(q, distributions.Normal(torch.zeros(()).double(), torch.ones(()).double()))
    assert torch.allclose(kl_terms(mu, logvar), wanted, rtol=1e-10)


def test_the_network_of_28_pixels_is_the_reports() -> None:
    network = new_vae(VaeSizes(28, 28), Decoder(), seed=0)
    convolutions = [(m.in_channels, m.out_channels, m.stride) for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions == [(1, 32, (2, 2)), (32, 64, (2, 2))]
    up = [(m.in_channels, m.out_channels) for m in network.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert up == [(64, 32), (32, 1)]
    dense = [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]
    assert dense == [(3136, 256), (256, 40), (20, 256), (256, 3136)]


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_the_narrow_deconvolution_is_pytorchs_forwards_and_backwards(channels: int) -> None:
    mine, theirs = NarrowDeconvolution(6, channels), nn.ConvTranspose2d(6, channels, 4, 2, 1)
    theirs.load_state_dict(mine.state_dict())
    mine = mine.to(memory_format=torch.channels_last)
    inputs = [torch.randn(3, 6, 5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2)]
    outputs = [layer(x) for layer, x in zip((mine, theirs), inputs, strict=True)]
    assert outputs[0].shape == (3, channels, 10, 14)
    assert torch.allclose(*outputs, atol=1e-5)
    for out in outputs:
        out.square().sum().backward()
    assert torch.allclose(inputs[0].grad, inputs[1].grad, atol=1e-4)  # type: ignore[arg-type]
    assert torch.allclose(mine.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-3)  # type: ignore[arg-type]
    assert torch.allclose(mine.bias.grad, theirs.bias.grad, rtol=1e-4, atol=1e-3)  # type: ignore[arg-type, union-attr]


@pytest.mark.parametrize(
    ("h", "w", "c", "levels"), [(28, 28, 1, 2), (5, 4, 3, 2), (33, 20, 3, 3), (64, 64, 3, 3), (100, 30, 1, 4)]
)
def test_it_takes_any_size_and_channel_count(h: int, w: int, c: int, levels: int) -> None:
    sizes = VaeSizes(h, w, c, latent=3, hidden=16, first=4)
    network = new_vae(sizes, Decoder(), seed=0)
    assert sizes.levels == levels
    x = torch.rand(2, c, h, w)
    mu, logvar = network.encode(x)
    assert mu.shape == logvar.shape == (2, 3)
    decoded = network.decode(mu)
    assert decoded.shape == x.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1
    nats, _, _ = network(x, torch.zeros(2, 3))
    assert torch.allclose(nats, (decoded - x).square().sum((1, 2, 3)), rtol=1e-4)


def test_a_new_one_comes_from_its_seed_and_leaves_the_global_generator() -> None:
    before = torch.get_rng_state()
    a, b, other = (new_vae(VaeSizes(8, 8, latent=2), Decoder(), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(next(a.parameters()), next(other.parameters()))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: VaeSizes(28, 28, latent=0), "--latent is 0"),
        (lambda: VaeSizes(3, 28), "too small"),
        (lambda: Decoder("gausian"), "nearest: gaussian"),  # type: ignore[arg-type]
        (lambda: Decoder("gaussian", 0.0), "variance must be above 0"),
        (
            lambda: Decoder("learned-gaussian").nats_of_mean(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)),
            "log_variance",
        ),
    ],
)
def test_what_no_vae_is_made_of_is_refused(given, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((DataError, SpecError), match=said):
        given()


def test_what_was_saved_opens_with_the_same_answers(tmp_path: Path) -> None:
    network = new_vae(VaeSizes(28, 28, latent=5), Decoder("learned-gaussian"), seed=4)
    folder = save_vae(tmp_path / "vae", network, info={"name": "baseline", "pressure": {"beta": 2.0}})
    assert shape_of(str(folder)) == GREY
    vae = load_vae(str(folder), shape=GREY)
    x = torch.rand(3, *GREY)
    assert torch.equal(vae.encode(x)[0], network.encode(x)[0])
    assert vae.latent == 5
    assert vae.decoder.kind == "learned-gaussian"
    assert vae.info["pressure"] == {"beta": 2.0}
    assert not any(p.requires_grad for p in vae.module.parameters())
    assert vae.parameters == wrap(network, "x").parameters


def test_damaged_and_foreign_folders_are_told_apart(tmp_path: Path) -> None:
    folder = save_vae(tmp_path / "vae", new_vae(VaeSizes(8, 8, latent=2), Decoder(), seed=0), info={})
    with pytest.raises(DataError, match="trained on pictures of 8 x 8 with 1 channels"):
        load_vae(str(folder), shape=GREY)
    with pytest.raises(DataError, match="no folder"):
        load_vae(str(tmp_path / "nowhere"), shape=GREY)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        load_vae(str(folder), shape=(1, 8, 8))
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        load_vae(str(folder), shape=(1, 8, 8))
    (folder / "config.json").write_text(json.dumps({"visus_vae": 1, "sizes": {"wide": 3}}))
    with pytest.raises(DataError, match="damaged"):
        load_vae(str(folder), shape=(1, 8, 8))
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(DataError, match="holds no VAE of visus"):
        load_vae(str(folder), shape=(1, 8, 8))


@pytest.mark.parametrize("kind", ["Tuple", "Normal", "Diffusers"])
def test_anybodys_module_opens_whatever_its_encode_returns(theirs: Path, kind: str) -> None:
    shape = (1, 8, 8)
    vae = load_vae(f"python:{theirs.stem}:{kind}?weights=weights.safetensors", shape=shape)
    plain = load_vae(f"python:{theirs.stem}:Tuple?weights=weights.safetensors", shape=shape)
    x = torch.rand(4, *shape)
    mu, logvar = vae.encode(x)
    assert mu.shape == (4, 3)
    assert torch.allclose(mu, plain.encode(x)[0])
    assert torch.allclose(logvar, plain.encode(x)[1], atol=1e-5)
    assert torch.allclose(vae.decode(mu), plain.decode(mu))
    assert (vae.latent, vae.random, vae.loss) == (3, False, None)
    assert load_vae(f"python:{theirs.stem}:{kind}", shape=shape).random


def test_arguments_reach_the_class(theirs: Path) -> None:
    assert load_vae(f"python:{theirs.stem}:Tuple?latent=7", shape=(1, 8, 8)).latent == 7


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (":Tupel", "Tupel"),
        ("", "names no class"),
        (":Deaf", "methods encode and decode"),
        (":Lame", "do not fit pictures"),
        (":Tuple?depth=3", "cannot be made"),
        (":Tuple?side=9", "does not take pictures"),
        (":Tuple?weights=nothing.safetensors", "no file nothing"),
        (":Tuple?latent=4&weights=weights.safetensors", "of another shape"),
    ],
)
def test_a_module_that_does_not_fit_is_refused_in_one_line(theirs: Path, rest: str, said: str) -> None:
    with pytest.raises((DataError, SpecError), match=said) as caught:
        load_vae(f"python:{theirs.stem}{rest}", shape=(1, 8, 8))
    assert "\n" not in str(caught.value)


def test_code_in_weights_is_never_run(theirs: Path) -> None:
    torch.save({"inside": np.array}, theirs.parent / "evil.pt")
    with pytest.raises(DataError, match="refused"):
        load_vae(f"python:{theirs.stem}:Tuple?weights=evil.pt", shape=(1, 8, 8))


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(SpecError, match="No module named 'no_such_module'"):
        load_vae("python:no_such_module:Vae", shape=GREY)
