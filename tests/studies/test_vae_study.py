"""visus vae, as a user runs it: trained and compared, swept, fixed, opened again; verdicts on planted posteriors; bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import visus
from visus.errors import DataError, SpecError, VisusError
from visus.features.latents import Bounds, Posteriors
from visus.images import load_images
from visus.measures import active_units, aggregate_moments, gaussian_kl, importance_bound, mutual_information
from visus.models.vae import Decoder, VaeSizes, new_vae, wrap
from visus.studies.vae import findings as vae_words
from visus.studies.vae.examine import VaeEvaluation
from visus.studies.vae.subject import load, size_of
from visus.training.vae import KLSchedule

QUICK: dict[str, Any] = {"limit": 500, "epochs": 2, "samples": 60, "importance": 8, "device": "cpu", "shown": 4}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def compared(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, visus.Result]:
    out = tmp_path_factory.mktemp("vae")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUS_HOME", str(home))
        result = visus.vae(free_bits=0.3, warmup=1, out=str(out), **QUICK)
    return out, result


def rows(result: visus.Result, table: str) -> list[dict[str, Any]]:
    t = result.tables[table]
    return [dict(zip(t.columns, row, strict=True)) for row in t.rows]


def test_the_default_compares_a_baseline_with_warm_up_and_free_bits(compared: tuple[Path, visus.Result]) -> None:
    out, result = compared
    assert (out / "index.html").is_file()
    summary = rows(result, "summary")
    assert [r["VAE"] for r in summary] == ["baseline", "mitigated"]
    for r in summary:
        assert r["reconstruction"] + r["KL"] == pytest.approx(r["negative ELBO"])
        assert r["low"] < r["negative ELBO"] < r["high"]
    epochs = rows(result, "epochs")
    assert [r["beta"] for r in epochs] == [1, 1, 0, 1]
    assert {r["VAE"] for r in rows(result, "collapse")} == {"baseline", "mitigated"}
    assert len(rows(result, "dimensions")) == 40
    assert [r["drawn from"] for r in rows(result, "samples")][1:5] == [
        "N(0, 1)", "Laplace, variance 1", "Laplace(0, 1)", "aggregate posterior",
    ]  # fmt: skip
    assert any("effective beta 1, by the gradient of its loss" in f for f in result.findings)
    assert not any("as asked" in w for w in result.warnings)
    names = {f.name for f in result.figures}
    assert {
        "curves",
        "dimensions",
        "reconstructions",
        "samples",
        "nearest",
        "traversals-0",
        "interpolations-1",
    } <= names


def test_its_figures_are_those_of_a_slow_look_at_the_kept_model(compared: tuple[Path, visus.Result]) -> None:
    from visus.models.vae_open import load_vae

    _, result = compared
    vae = load_vae(result.provenance["models"]["baseline"], shape=(1, 28, 28))
    subject = load(load_images("visus:digits").limit(500, seed=0), size=None, channels=None, seed=0)
    x = torch.from_numpy(subject.test).permute(0, 3, 1, 2).float() / 255
    mu, logvar = vae.encode(x)
    kl = (0.5 * (mu**2 + logvar.exp() - logvar - 1)).sum(1)
    summary = rows(result, "summary")[0]
    assert summary["KL"] == pytest.approx(float(kl.mean()), rel=1e-4)
    assert summary["reconstruction from the mean"] == pytest.approx(
        float((vae.decode(mu) - x).square().sum((1, 2, 3)).mean()), rel=1e-4
    )


def test_a_kept_model_is_examined_again_with_the_same_numbers(
    compared: tuple[Path, visus.Result], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUS_HOME", str(home))
    _, result = compared
    again = visus.vae(checkpoint=result.provenance["models"]["mitigated"], **QUICK)
    (mine,) = rows(again, "summary")
    for name in ("reconstruction", "KL", "log-likelihood"):
        assert mine[name] == pytest.approx(rows(result, "summary")[1][name], rel=1e-5)
    (collapse,) = rows(again, "collapse")
    assert collapse["beta asked"] == 1
    assert "epochs" not in again.tables


def test_dead_dimensions_are_fixed_by_a_rerun_beside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_HOME", str(home))
    result = visus.vae(compare="baseline", fix=True, beta=40.0, latent=3, **QUICK)
    assert [r["VAE"] for r in rows(result, "summary")] == ["baseline", "fixed"]
    collapse = rows(result, "collapse")
    assert [r["beta asked"] for r in collapse] == [40, 40]
    assert collapse[0]["beta of the gradient"] == pytest.approx(40, rel=0.02)
    assert "collapsed" in collapse[0]["posterior"]
    assert any("fixed against baseline" in f for f in result.findings)


@pytest.mark.slow
def test_a_sweep_draws_the_rate_distortion_curve(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "visus.app.cli", "vae", "--sweep", "beta=0.1,10", "--limit", "300", "--epochs", "2", "--samples", "50",
            "--importance", "4", "--features", "classifier", "--json", "--device", "cpu", "--out", str(tmp_path / "page"),
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    body = json.loads(done.stdout)
    assert [r[0] for r in body["tables"]["summary"]["rows"]] == ["beta 0.1", "beta 10"]
    figure = next(f for f in body["figures"] if f["name"] == "rate-distortion")
    assert figure["data"]["series"][0]["x"] == sorted(figure["data"]["series"][0]["x"])
    assert any(f.startswith("The sweep") for f in body["findings"])
    assert (tmp_path / "page" / "index.html").is_file()


def colours(folder: Path, n: int = 60) -> Path:
    rng = np.random.default_rng(0)
    for i in range(n):
        pixels = np.zeros((20, 12, 3), np.uint8)
        pixels[rng.integers(10) :, rng.integers(8) :] = rng.integers(60, 255, 3)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 40)
    return folder


def test_seeds_colours_odd_sizes_and_a_broken_file(tmp_path: Path) -> None:
    folder = tmp_path / "colours"
    folder.mkdir()
    result = visus.vae(
        images=str(colours(folder)), compare="free-bits", latent=2, seeds=2, epochs=2, batch=16, samples=50, importance=4, shown=2, device="cpu",
        features="visus:effnet-lite0",
    )  # fmt: skip
    (seeds,) = rows(result, "seeds")
    assert seeds["seeds"] == 2
    assert seeds["negative ELBO"] == pytest.approx(seeds["reconstruction"] + seeds["KL"])
    assert "20 x 12 pixels, colour" in result.provenance["pictures"]
    assert "visus:effnet-lite0" in result.provenance["samples judged in"]
    assert result.arrays["samples_pictures"].shape[1:] == (20, 12, 3)
    (aside,) = rows(result, "quarantine")
    assert Path(str(aside["file"])).name == "broken.png"


def test_somebody_elses_mis_scaled_loss_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reported_vae.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Vae(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Linear(784, 8), nn.Linear(4, 784)\n"
        "    def encode(self, x):\n        return self.a(x.flatten(1)).chunk(2, 1)\n"
        "    def decode(self, z):\n        return torch.sigmoid(self.b(z)).view(-1, 1, 28, 28)\n"
        "    def loss(self, x):\n"
        "        mu, v = self.encode(x)\n"
        "        z = mu + torch.exp(0.5 * v) * torch.randn_like(mu)\n"
        "        kl = 0.5 * (mu**2 + v.exp() - v - 1).sum(1).mean()\n"
        "        return ((self.decode(z) - x) ** 2).mean() + kl / 128\n"
    )
    torch.manual_seed(0)
    a, b = torch.nn.Linear(784, 8), torch.nn.Linear(4, 784)
    save_file(
        {"a.weight": a.weight, "a.bias": a.bias, "b.weight": b.weight, "b.bias": b.bias}, tmp_path / "w.safetensors"
    )
    result = visus.vae(checkpoint="python:reported_vae:Vae?weights=w.safetensors", **QUICK)
    assert any("weighs the KL 6.12 times on the ELBO's scale, not 1 times" in w for w in result.warnings), (
        result.warnings
    )
    assert rows(result, "summary")[0]["VAE"] == "reported_vae:Vae"
    assert any(
        n.startswith(
            "reported_vae:Vae: encode read as the mean and its log-variance (by the spread of the z that loss decodes"
        )
        for n in result.notes
    )
    assert any(
        "reported_vae:Vae" in w and "further from the images" in w for w in result.warnings
    )  # its weights are random


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"latent": 0}, "--latent is 0"),
        ({"decoder": "gausian"}, "nearest: gaussian"),
        ({"compare": "baseline,mitigatd"}, "nearest: mitigated"),
        ({"compare": "baseline,mitigated", "warmup": 0, "free_bits": 0.0}, "are the same"),
        ({"compare": "baseline", "sweep": "beta"}, "give one of them"),
        ({"checkpoint": "nowhere", "compare": "baseline"}, "leave --compare and --sweep out"),
        ({"checkpoint": "nowhere"}, "no folder nowhere"),
        ({"sweep": "betta"}, "nearest: beta"),
        ({"sweep": "beta=1"}, "one value"),
        ({"sweep": "beta=low,high"}, "values are numbers"),
        ({"sweep": "latent=2.5,3"}, "are whole"),
        ({"sweep": "latent=0,3"}, "--latent is 0"),
        ({"warmup": 2}, "does not end within 2 epochs"),
        ({"beta": -1.0}, "--beta is -1.0; give a number from 0 up"),
        ({"samples": 10}, "too few to be judged"),
        ({"size": "2"}, "is no size"),
        ({"size": "28x"}, "is no size"),
        ({"channels": 2}, "give 1 or 3"),
        ({"batch": 5000}, "larger than the"),
        ({"importance": 0}, "--importance is 0; give a whole number from 1 up"),
        ({"features": "visus:nothing"}, "unknown"),
    ],
)
def test_bad_input_is_told_in_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(VisusError, match=said) as caught:
        visus.vae(**{**QUICK, **given})
    assert "\n" not in str(caught.value)


def test_constant_images_are_refused(tmp_path: Path) -> None:
    for i in range(20):
        Image.new("L", (8, 8), 90).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match="all training pictures are the same"):
        visus.vae(images=str(tmp_path), batch=4, features="visus:effnet-lite0", **{**QUICK, "limit": None})


def test_unlabelled_images_have_no_classifier_to_be_judged_by(tmp_path: Path) -> None:
    colours(tmp_path)
    (tmp_path / "broken.png").unlink()
    with pytest.raises(DataError, match="name a backbone with --features"):
        visus.vae(images=str(tmp_path), features="classifier", batch=8, **{**QUICK, "limit": None})


def test_sizes_are_read_as_height_and_width() -> None:
    assert size_of(None) is None
    assert size_of("32") == (32, 32)
    assert size_of("28x20") == (28, 20)


def test_pictures_are_cut_to_size_and_made_grey() -> None:
    digits = load_images("visus:digits").limit(300, seed=0)
    subject = load(digits, size=(16, 20), channels=3, seed=0)
    assert subject.train.shape[1:] == (16, 20, 3)
    assert "resized" in subject.note
    own = load(digits, size=None, channels=None, seed=0)
    assert own.shape == (1, 28, 28)
    assert len(set(own.ids["train"]) | set(own.ids["validation"]) | set(own.ids["test"])) == 300
    # Mixed, so that the first of them are a sample of all classes.
    assert own.labels is not None
    assert len(set(own.labels["train"][:40].tolist())) > 6


def planted(kl: list[float], pressure: KLSchedule | None = None, *, n: int = 200) -> VaeEvaluation:
    """A VaeEvaluation whose dimensions have this mean KL, by their means alone (0: exactly the prior)."""
    rng = np.random.default_rng(0)
    mu = rng.choice([-1.0, 1.0], size=(n, len(kl))) * np.sqrt(2 * np.array(kl))
    logvar = np.zeros_like(mu)
    network = new_vae(VaeSizes(8, 8, latent=len(kl), first=4, hidden=8), Decoder(), seed=0)
    bounds = Bounds(np.full(n, 10.0), (0.5 * mu**2).sum(1), np.full(n, 9.0))
    likelihood = importance_bound(np.full((n, 4), -12.0) + rng.normal(size=(n, 4)), dims=64)
    return VaeEvaluation(
        "planted", wrap(network, "planted"), Posteriors(mu, logvar), gaussian_kl(mu, logvar), active_units(mu, logvar),
        aggregate_moments(mu, logvar), mutual_information(mu, logvar), bounds, likelihood, np.array(kl) + 0.001, {}, pressure,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kl", "said"),
    [
        ([0, 0, 0], "wholly collapsed"),
        ([1, 0, 0], "mostly collapsed"),
        ([1, 1, 0], "partly collapsed"),
        ([1, 1, 0.02], "not collapsed"),
    ],
)
def test_the_verdict_follows_the_share_of_dead_dimensions(kl: list[float], said: str) -> None:
    assert vae_words.verdict(planted(kl)) == said


def test_dimensions_that_only_fill_their_free_bits_are_counted_apart() -> None:
    e = planted([1.0, 0.05, 0.052, 0.2], KLSchedule(free_bits=0.05))
    assert e.at_floor.tolist() == [False, True, True, False]
    assert "2 of them only fill the free bits" in vae_words._collapse(e, fixed=False)


def test_dimensions_that_all_sit_at_the_floor_are_no_recovery() -> None:
    e = planted([0.05, 0.055, 0.05], KLSchedule(free_bits=0.05))
    assert vae_words.verdict(e) == "held up by free bits alone"
    assert vae_words._collapse(e, fixed=True).startswith("planted is held up by free bits alone: 3 of 3")


def test_advice_starts_with_what_is_wrong() -> None:
    from visus.measures.objective_scale import EffectiveBeta

    heavy = replace(planted([1, 0, 0], KLSchedule(6.0)), beta=EffectiveBeta(1.0, 6.0, 6.0, 0.0))
    first, second, third = vae_words.advice(heavy, fixed=False)
    assert first.startswith("less weight on the KL")
    assert second.startswith("warm-up and free bits")
    assert "--latent 1 may do as well" in third
    assert vae_words.advice(planted([1, 0, 0]), fixed=True, helped="mitigated") == [
        "warm-up and free bits, which pay off in mitigated"
    ]
    assert vae_words.advice(planted([1, 1, 1]), fixed=False) == [
        "every dimension is in use, so a larger --latent may help (--sweep latent)"
    ]


@pytest.mark.parametrize(
    ("error", "variance", "kl", "said", "unsaid"),
    [
        (0.004, 0.5, 6.0, "The fixed variance 0.5 is wider than the errors (mean square 0.004)", "further"),
        (0.01, 0.001, 6.0, "The fixed variance 0.001 is narrower than the errors", "further"),
        (
            0.3,
            0.5,
            6.0,
            "further from the images (mean squared error 0.3) than the mean picture is (0.07)",
            "variance 0.5 is",
        ),
        (0.05, 0.05, 6.0, "", ""),
        (0.02, 0.02, 90.0, "The code alone takes 2.0 bits per dimension (KL 90 nats)", "wider"),
        (0.05, 0.07, 90.0, "The code alone takes", "wider"),
        (0.069, 0.5, 6.0, "Mean squared error 0.069 (of the mean picture 0.07), variance 0.5", "wider than the errors"),
    ],
)
def test_many_bits_are_explained_only_where_the_numbers_leave_one_reason(
    error: float, variance: float, kl: float, said: str, unsaid: str
) -> None:
    """A decoder of logits that is read as pictures was once told that its variance is too wide."""
    e, pixels = planted([1.0, 1.0]), 64
    decoder = Decoder("gaussian", variance)
    reconstruction = np.full(200, error * pixels / (2 * variance))
    nats = -(reconstruction + decoder.constant(pixels) + kl)
    e = replace(
        e, vae=replace(e.vae, decoder=decoder), bounds=replace(e.bounds, reconstruction=reconstruction, kl=np.full(200, kl)),
        likelihood=importance_bound(nats[:, None], dims=pixels),
    )  # fmt: skip
    line = vae_words._costly(e, 0.07)
    assert said in line
    assert bool(line) == (e.likelihood.bits_per_dimension > 8)
    assert not unsaid or unsaid not in line


def test_a_beta_that_is_not_the_one_asked_for_is_a_warning() -> None:
    from visus.measures.objective_scale import EffectiveBeta

    right = replace(planted([1.0]), beta=EffectiveBeta(1.0, 1.001, 1.001, 0.0))
    wrong = replace(planted([1.0]), beta=EffectiveBeta(1 / 784, 1 / 128, 6.125, 0.2))
    assert vae_words._scale(right, 1.0) == []
    scale, unexplained = vae_words._scale(wrong, 1.0)
    assert "6.12 times" in scale
    assert "20.0 % of its loss's gradient" in unexplained


def test_the_better_of_two_is_named_by_its_paired_interval() -> None:
    a, b = planted([1.0]), planted([1.0])
    b = replace(b, bounds=replace(b.bounds, reconstruction=b.bounds.reconstruction - 2))
    assert "negative ELBO -2.00 nats per image (-2.00 to -2.00: lower, better)" in vae_words._back(b, a)
    assert "undecided" in vae_words._back(a, a)
    assert vae_words._beats(b, a)
    assert not vae_words._beats(a, b)
    assert not vae_words._beats(a, a)


def test_the_best_of_a_sweep_is_validations_and_test_is_asked_once() -> None:
    from types import SimpleNamespace

    def setting(name: str, validation: float, nats: float) -> VaeEvaluation:
        epochs = [SimpleNamespace(parts={"val_reconstruction": validation, "val_kl": 2.0})]
        e = planted([1.0])
        noise = np.random.default_rng(3).normal(size=200)
        told = replace(
            e.likelihood, per_image=e.likelihood.per_image + nats + noise * (name == "b"), nats=e.likelihood.nats + nats
        )
        trained = (SimpleNamespace(fit=SimpleNamespace(epochs=epochs, best=0)),)
        return replace(e, name=name, likelihood=told, trained=trained, setting=1.0)  # type: ignore[arg-type]

    # On test b is ahead by far; validation prefers c, then a.
    said = vae_words._sweep([setting("a", 11, 0), setting("b", 12, 9), setting("c", 10, 0)])[1]
    assert said.startswith("Validation prefers c, by its negative ELBO, and puts a next")
    assert said.endswith("undecided).")
    said = vae_words._sweep([setting("b", 10, 9), setting("a", 11, 0)])[1]
    assert said.startswith("Validation prefers b")
    assert "undecided" not in said


def test_an_unknown_size_of_error_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match="precision"):
        visus.vae(precision="fp8", **QUICK)


def test_intervals_of_a_comparison_are_drawn_by_the_seed() -> None:
    from dataclasses import replace

    e, other = planted([1.0, 0.5, 0.3]), planted([0.4, 1.5, 0.1])
    other = replace(
        other,
        bounds=replace(other.bounds, kl=np.random.default_rng(1).permutation(other.bounds.kl) + e.likelihood.per_image),
    )
    first, again, third = (vae_words.against(replace(e, seed=seed), other)[0] for seed in (3, 3, 4))
    assert (first.low, first.high) == (again.low, again.high) != (third.low, third.high)
    assert first.difference == third.difference
