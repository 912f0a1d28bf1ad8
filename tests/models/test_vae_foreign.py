"""Anybody's VAE: one planted posterior, written in all the ways in which people write it, gives one KL; what cannot be told is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.models.foreign_vaes import SHAPE, SOURCE, planted_images, truth

from visus.errors import DataError, VisusError
from visus.features.latents import bounds, posteriors
from visus.models.vae import Vae
from visus.models.vae_faults import NotFiniteError
from visus.models.vae_names import role
from visus.models.vae_open import load_vae
from visus.progress import collecting

IMAGES = planted_images()


@pytest.fixture(autouse=True, scope="module")
def _module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "planted_vaes.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def opened(kind: str, options: str = "", **given: object) -> tuple[Vae, list[str], list[str]]:
    with collecting() as remarks:
        vae = load_vae(f"python:planted_vaes:{kind}{options}", shape=SHAPE, **{"images": IMAGES, **given})  # type: ignore[arg-type]
    return vae, remarks.notes, remarks.cautions


def kl(mu: torch.Tensor, logvar: torch.Tensor) -> float:
    return float((0.5 * (mu.double() ** 2 + logvar.double().exp() - logvar.double() - 1)).sum(1).mean())


def assert_sure(notes: list[str], cautions: list[str]) -> None:
    """No caution but the one that belongs to a reading by custom."""
    assert bool(cautions) == ("by their order" in notes[0])
    assert all("is custom, not measured" in c and "?encode=mu,logvar" in c for c in cautions)


def true_kl() -> float:
    return kl(*truth(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Plain", "log-variance (by their order and signs"),
        ("Sampled", "log-variance (by the spread of the z that encode draws"),
        ("SampledLast", "log-variance (by the spread"),
        ("SampledSigma", "standard deviation (by the spread"),
        ("SampledVariance", "its variance (by the spread"),
        ("SampledLogSigma", "log standard deviation (by the spread"),
        ("SampledBackwards", "log-variance (by the spread"),
        ("SampledInTraining", "standard deviation (by the spread of the z that encode draws in training"),
        ("Nested", "log-variance (by the spread"),
        ("Redundant", "log-variance (by"),
        ("SignedSigma", "standard deviation (by the spread of the z that forward decodes"),
        ("SigmaByMethod", "standard deviation (by the spread of what reparameterize draws"),
        ("VarianceByMethod", "its variance (by the spread of what reparametrization_trick"),
        ("LogSigmaByMethod", "log standard deviation (by the spread of what sample_z"),
        ("BackwardsByMethod", "log-variance (by the spread of what reparameterize"),
        ("LogSigmaByForward", "log standard deviation (by the spread of the z that forward decodes"),
        ("SigmaByForwardLayer", "standard deviation (by the spread of the z that forward decodes"),
        ("Softplus", "its standard deviation before softplus (by the spread of what reparameterize"),
        ("SoftplusSampled", "its standard deviation before softplus (by the spread of the z that encode"),
        ("SoftplusVariance", "its variance before softplus (by the spread of what reparameterize"),
        ("SigmaByLoss", "standard deviation (by the spread of the z that loss decodes"),
        ("DecodesBytes", "come out as 0 to 255"),
        ("DecodesNamedLogits", "come out as logits"),
        ("AsNormal", "returns a Gaussian distribution"),
        ("AsIndependent", "returns a Gaussian distribution"),
        ("AsMultivariate", "returns a Gaussian distribution"),
        ("WithDistribution", "returns a Gaussian distribution"),
        ("AsDict", "log-variance (by the names"),
        ("AsDictOfSigma", "standard deviation (by the names"),
        ("AsDataclass", "its variance (by the names"),
        ("AsNamedTuple", "log-variance (by the names"),
        ("AsDiffusers", "log-variance (by the spread of its samples"),
        ("SideBySide", "log-variance (by their order"),
        ("OfRows", "log-variance"),
        ("ToPoints", "log-variance"),
        ("Named", "standard deviation (by the names"),
        ("NamedLayers", "its variance (by the names"),
        ("Double", "log-variance"),
        ("TrainMode", "log-variance"),
        ("Signed", "go in as -1 to 1 and come out as -1 to 1"),
        ("Bytes", "go in as 0 to 255 and come out as 0 to 255"),
        ("SignedOut", "go in as 0 to 1 and come out as -1 to 1"),
        ("SignedIn", "go in as -1 to 1 and come out as 0 to 1"),
        ("Logits", "go in as 0 to 1 and come out as logits"),
        ("SignedLogits", "go in as -1 to 1 and come out as logits"),
        ("AsBernoulli", "come out as 0 to 1"),
        ("ByInstance", "log-variance"),
    ],
)
def test_every_way_to_write_one_posterior_gives_its_kl_and_its_images(kind: str, said: str) -> None:
    before = torch.get_rng_state()
    vae, notes, cautions = opened(kind)
    assert torch.equal(torch.get_rng_state(), before)
    assert said in notes[0]
    assert_sure(notes, cautions)
    q = posteriors(vae, IMAGES)
    assert kl(torch.from_numpy(q.mu), torch.from_numpy(q.logvar)) == pytest.approx(true_kl(), rel=1e-5)
    x = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255
    assert float((vae.decode(torch.from_numpy(q.mu)) - x).square().mean()) < 1e-4
    assert not vae.module.training
    assert not any(m.training for m in vae.module.modules())
    assert vae.latent == 3


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Ambiguous", r"mu,logvar or mu,logsigma or mu,sigma or mu,var cannot be told; say it as \?encode="),
        ("NamedLogSigma", r"mu,logvar or mu,logsigma .* cannot be told"),
        ("Sigmoid01", "what reparameterize draws fits no reading.*return .mu, logvar. from encode"),
        ("NamedRho", r"mu,logvar or mu,logsigma or mu,softplus or mu,softplusvar cannot be told"),
        ("OnlySample", "another one at every call: a sample of z"),
        ("SampleAndKl", "mean and log-variance are not among them"),
        ("Autoencoder", "an autoencoder without a posterior"),
        ("Dropped", "a dropout that eval"),
        ("Conditional", r"encode\(x, y\) needs more than the images: a conditional VAE"),
        ("ConditionalDecoder", r"decode\(z, labels\) needs more than z: a conditional VAE"),
        ("Quantised", "a VQ-VAE"),
        ("QuantisedBefore", "a VQ-VAE"),
        ("Hierarchical", "a hierarchical VAE"),
        ("Ladder", "a hierarchical VAE"),
        ("AsLaplace", "a Laplace distribution"),
        ("Correlated", "correlated dimensions"),
        ("Noisy", "another picture at every call"),
        ("Raises", r"RuntimeError: my own mistake \(planted_vaes\.py, line \d+\)"),
        ("RaisesOwn", r"OwnError: nobody knows \(planted_vaes\.py, line \d+\)"),
        ("Untrained", r"decode gives numbers from -0\.5 to -0\.5.*say what they are as \?decode="),
        ("Normalised", r"input=normalised&decode=normalised .*'normalised' as a guess at 0\.1307/0\.3081; say it"),
        ("NanWeight", "output 2 at image 0.*of its weights, v holds 1 of 108"),
        ("NanLayer", r"it begins in layer inner\.1 \(Log\)"),
        ("Zero", "the spread is 0, which has no density"),
        ("Huge", "log-variance of latent 1 at image 0: whose exponential is no number"),
        ("Missing", "has no Missing; it has Truth"),
        ("NeedsArguments", "cannot be made: TypeError.*wide"),
    ],
)
def test_what_cannot_be_told_or_measured_is_refused_in_one_line(kind: str, said: str) -> None:
    with pytest.raises(VisusError, match=said) as caught:
        opened(kind)
    assert "\n" not in str(caught.value)
    assert "planted_vaes" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Ambiguous", "?encode=mu,sigma"),
        ("NamedLogSigma", "?encode=mu,logsigma"),
        ("NamedRho", "?encode=mu,softplus"),
        ("Sampled", "?encode=z,mu,logvar"),
        ("SideBySide", "?encode=mu,logvar"),
        ("AsDict", "?encode=logvar,mu"),
        ("Normalised", "?input=0.1307/0.3081&decode=0.1307/0.3081"),
        ("Signed", "?input=signed&decode=signed"),
        ("SignedLogits", "?decode=logits"),
        ("Signed", "?input=signed"),
    ],
)
def test_what_the_user_says_is_taken(kind: str, options: str) -> None:
    vae, notes, cautions = opened(kind, options)
    assert_sure(notes, cautions)
    q = posteriors(vae, IMAGES)
    assert kl(torch.from_numpy(q.mu), torch.from_numpy(q.logvar)) == pytest.approx(true_kl(), rel=1e-5)
    assert bounds(vae, IMAGES, seed=0).at_mean.mean() < 0.05 * (4 if "signed" in options else 1 / 0.3081**2)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("Plain", "?encode=mean,logvar", "is not understood"),
        ("Plain", "?encode=mu,logvar,z", "names 3 outputs, encode gives 2"),
        ("Plain", "?encode=mu,sigma", "a sigma is never negative"),
        ("Sampled", "?encode=mu,skip,logvar", "a sample; encode gives"),
        ("Plain", "?input=wide", "is not understood; write unit"),
        ("Plain", "?decode=0.5,0.5/0.5", "one mean and deviation, or 1"),
        ("Plain", "?input=logits", "is not understood"),
    ],
)
def test_what_the_user_says_and_is_not_so_is_refused(kind: str, options: str, said: str) -> None:
    with pytest.raises(VisusError, match=said):
        opened(kind, options)


def test_a_word_that_the_samples_speak_against_is_a_warning() -> None:
    _, _, cautions = opened("SampledLogSigma", "?encode=z,mu,logvar")
    assert any("does not fit the spread of the z that encode draws" in c for c in cautions)
    _, _, cautions = opened("Signed", "?input=unit&decode=unit")
    assert any("further from the images" in c for c in cautions)


def test_the_variance_is_of_the_decoders_own_range() -> None:
    unit, _, _ = opened("Plain")
    signed, notes, _ = opened("Signed")
    assert (unit.decoder.variance, signed.decoder.variance) == (0.5, 0.125)
    assert "--variance, of the decoder's own outputs, is 0.125 in [0, 1]" in notes[0]
    # The same images, with errors twice as large in numbers twice as large: four times the squared error.
    a, b = (bounds(v, IMAGES, seed=0).reconstruction.mean() for v in (unit, signed))
    assert b == pytest.approx(4 * a, rel=1e-3)


def test_without_pictures_only_the_range_of_the_outputs_is_known() -> None:
    _, notes, _ = opened("Sigmoid", images=None)
    assert "by its outputs' range" in notes[0]
    with pytest.raises(DataError, match="no pixels in"):
        opened("Signed", images=None)


def test_a_network_that_reconstructs_nothing_is_a_warning_where_its_range_is_right() -> None:
    _, _, cautions = opened("Sigmoid")
    assert any("further from the images" in c and "is it trained" in c for c in cautions)


def test_an_encoder_that_looks_at_the_batch_is_a_warning() -> None:
    _, _, cautions = opened("BatchStatistics")
    assert any("depends on the others in the batch" in c for c in cautions)


def test_a_loss_sees_the_pixels_that_the_module_takes() -> None:
    vae, _, _ = opened("SignedLoss")
    x = torch.from_numpy(IMAGES[:8]).permute(0, 3, 1, 2).float() / 255
    assert vae.loss is not None
    assert float(vae.loss(x)) == pytest.approx(float((2 * x - 1).mean()), abs=1e-6)
    vae, notes, _ = opened("LossOfFour")
    assert vae.loss is None
    assert any("asks for more than the images" in n for n in notes)
    assert opened("LossIsALayer")[0].loss is None


def test_a_nan_at_one_image_is_named_with_the_layer_or_the_decoder() -> None:
    vae, _, _ = opened("NanForOne")
    odd = IMAGES.copy()
    odd[137] = 255
    with pytest.raises(
        NotFiniteError, match=r"the encoder gives NaN for the mean of latent 0 at image 137: .*Log"
    ) as caught:
        posteriors(vae, odd)
    assert "image photos/dark.png:" in str(caught.value.of("image photos/dark.png"))
    vae, _, _ = opened("NanFromDecoder")
    with pytest.raises(NotFiniteError, match="the decoder gives NaN for pixels of image 137, though its z is finite"):
        bounds(vae, odd, seed=0)


def test_half_precision_weights_are_computed_in_single() -> None:
    vae, _, _ = opened("Half")
    q = posteriors(vae, IMAGES)
    assert kl(torch.from_numpy(q.mu), torch.from_numpy(q.logvar)) == pytest.approx(true_kl(), rel=1e-3)


def test_a_file_of_another_name_than_a_module_python_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("class Vae: pass\n")
    with pytest.raises(VisusError, match=r"Python knows another module json .*rename json\.py"):
        load_vae("python:json:Vae", shape=SHAPE)
    (tmp_path / "half_written.py").write_text("import torch\n\nclass Vae(\n")
    with pytest.raises(VisusError, match=r"SyntaxError: .*half_written\.py, line 3"):
        load_vae("python:half_written:Vae", shape=SHAPE)
    (tmp_path / "fails.py").write_text("import torch\nwidth = torch.zeros(3)[7]\n")
    with pytest.raises(VisusError, match=r"IndexError: .*\(fails\.py, line 2\)"):
        load_vae("python:fails:Vae", shape=SHAPE)


def test_a_file_name_stands_for_its_module() -> None:
    vae = load_vae("python:planted_vaes.py:Plain", shape=SHAPE, images=IMAGES)
    assert vae.latent == 3


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    vae, _, _ = opened("Plain")
    state = {k: v.contiguous().clone() for k, v in vae.module.state_dict().items()}
    state["v"] = torch.zeros_like(state["v"])
    save_file(state, tmp_path / "w.safetensors")
    flat, _, _ = opened("Plain", f"?weights={tmp_path / 'w.safetensors'}")
    assert not flat.random
    assert np.allclose(posteriors(flat, IMAGES).logvar, -1.5)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mu", "mu"), ("z_mean", "mu"), ("fc_mu", "mu"), ("loc", "mu"), ("embedding", "mu"), ("mean", "mu"),
        ("logvar", "logvar"), ("log_var", "logvar"), ("z_log_var", "logvar"), ("log_covariance", "logvar"), ("log_sigma2", "logvar"),
        ("lnvar", "logvar"), ("lv", "logvar"), ("log_sigma_squared", "logvar"), ("logvar_head", "logvar"),
        ("log_sigma", "logsigma"), ("logstd", "logsigma"), ("log_scale", "logsigma"), ("sigma", "sigma"), ("std", "sigma"),
        ("z_scale", "sigma"), ("stddev", "sigma"), ("var", "var"), ("sigma_sq", "var"), ("variance", "var"), ("fc_var", "var"),
        ("z", "z"), ("samples", "z"), ("h", ""), ("skip", ""), ("features", ""), ("fc21", ""),
    ],
)  # fmt: skip
def test_names_of_outputs(name: str, meant: str) -> None:
    assert role(name) == meant


def test_the_planted_truth_is_what_the_modules_compute() -> None:
    assert len(re.findall(r"^class ", SOURCE, re.M)) > 70
    assert 2 < true_kl() < 4
