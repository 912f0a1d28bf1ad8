"""visus vae, as a user runs it: trained and compared, swept, fixed, opened again; bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import visus
from visus.errors import DataError, VisusError
from visus.images import load_images
from visus.measures.priors import PRIORS
from visus.models.vae_open import load_vae
from visus.studies.vae import pairing
from visus.studies.vae.inputs import load_arrays
from visus.studies.vae.pairing import compare_vaes

QUICK: dict[str, Any] = {"limit": 500, "epochs": 2, "samples": 60, "importance": 8, "device": "cpu", "shown": 4}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def resampled() -> list[tuple[str, str]]:
    """The pairs that `compared` resampled."""
    return []


@pytest.fixture(scope="module")
def compared(
    home: Path, resampled: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, visus.Result]:
    out = tmp_path_factory.mktemp("vae")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUS_HOME", str(home))
        patch.setattr(pairing, "compare_vaes", lambda a, b: (resampled.append((a.name, b.name)), compare_vaes(a, b))[1])
        result = visus.vae(free_bits=0.3, warmup=1, out=str(out), **QUICK)
    return out, result


def rows(result: visus.Result, table: str) -> list[dict[str, Any]]:
    return result.tables[table].records()


def test_the_default_compares_a_baseline_with_warm_up_and_free_bits(compared: tuple[Path, visus.Result]) -> None:
    out, result = compared
    assert (out / "index.html").is_file()
    summary = rows(result, "summary")
    assert [r["vae"] for r in summary] == ["baseline", "mitigated"]
    for r in summary:
        assert r["reconstruction"] + r["kl"] == pytest.approx(r["negative_elbo"])
        assert r["low"] < r["negative_elbo"] < r["high"]
    epochs = rows(result, "epochs")
    assert [r["beta"] for r in epochs] == [1, 1, 0, 1]
    assert {r["vae"] for r in rows(result, "collapse")} == {"baseline", "mitigated"}
    assert len(rows(result, "dimensions")) == 40
    assert [r["prior"] for r in rows(result, "samples")][1:5] == list(PRIORS)
    assert any("effective beta 1, by the gradient of its loss" in f for f in result.findings)
    assert not any("as asked" in w for w in result.cautions)
    assert {
        "curves",
        "dimensions",
        "reconstructions",
        "samples",
        "nearest",
        "traversals-0",
        "interpolations-1",
    } <= set(result.figures)


def test_its_figures_are_those_of_a_slow_look_at_the_kept_model(compared: tuple[Path, visus.Result]) -> None:
    _, result = compared
    vae = load_vae(result.provenance["models"]["baseline"], shape=(1, 28, 28))
    arrays = load_arrays(load_images("visus:digits").limit(500, seed=0), size=None, channels=None, seed=0)
    x = torch.from_numpy(arrays.test).permute(0, 3, 1, 2).float() / 255
    mu, logvar = vae.encode(x)
    kl = (0.5 * (mu**2 + logvar.exp() - logvar - 1)).sum(1)
    summary = rows(result, "summary")[0]
    assert summary["kl"] == pytest.approx(float(kl.mean()), rel=1e-4)
    assert summary["reconstruction_from_mean"] == pytest.approx(
        float((vae.decode(mu) - x).square().sum((1, 2, 3)).mean()), rel=1e-4
    )


def test_each_finding_is_short_and_points_to_what_shows_it(compared: tuple[Path, visus.Result]) -> None:
    _, result = compared
    findings = [f for s in result.sections for f in s.findings]
    assert len(findings) > 15
    for f in findings:
        text = f.text
        for prior in PRIORS:
            text = text.replace(prior, "")
        assert len(text.split()) <= 35, text
        assert len(re.findall(r"(?<![\w.(])[+−-]?\d[\d.,]*", text)) <= 3, text
        assert set(f.metrics) <= set(result.metrics), text
        assert f.shows, text
        assert set(f.shows) <= {*result.tables, *result.figures}, text
    assert len(result.answer.split()) <= 25
    assert result.headline[-1] == "mitigated/minus/baseline/negative-elbo"


def test_sections_are_questions_that_name_their_files(compared: tuple[Path, visus.Result]) -> None:
    _, result = compared
    assert [s.key for s in result.sections] == ["likelihood", "comparison", "latent", "samples", "runs"]
    root = Path(visus.__file__).parent
    for s in result.sections:
        assert s.title.endswith("?")
        assert (root / f"{s.file}.py").is_file() or (root / s.file / "__init__.py").is_file()
    for name, metric in result.metrics.items():
        assert metric.low is None or metric.low <= metric.value <= metric.high, name


def test_a_result_comes_back_as_it_was_saved(compared: tuple[Path, visus.Result], tmp_path: Path) -> None:
    _, result = compared
    result.save(tmp_path)
    again = visus.Result.load(tmp_path)
    assert again.tables.keys() == result.tables.keys()
    assert again.frame("summary").equals(result.frame("summary"))
    assert np.array_equal(again.figures["samples"].images, result.figures["samples"].images)


def test_a_kept_model_is_examined_again_with_the_same_numbers(
    compared: tuple[Path, visus.Result], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUS_HOME", str(home))
    _, result = compared
    again = visus.vae(checkpoint=result.provenance["models"]["mitigated"], **QUICK)
    (mine,) = rows(again, "summary")
    for name in ("reconstruction", "kl", "log_likelihood"):
        assert mine[name] == pytest.approx(rows(result, "summary")[1][name], rel=1e-5)
    (collapse,) = rows(again, "collapse")
    assert collapse["beta_asked"] == 1
    assert [s.key for s in again.sections] == [
        "likelihood",
        "latent",
        "samples",
    ]  # nothing was trained, nothing compared
    assert [key.partition("/")[2] for key in again.headline] == [
        "negative-elbo", "log-likelihood", "active-dimensions", "n(0,-1)/frechet"
    ]  # fmt: skip
    assert "; it explains a test image with " in again.answer
    assert (again.status, result.status) == ("complete", "complete")


def test_dead_dimensions_are_fixed_by_a_rerun_beside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_HOME", str(home))
    result = visus.vae(compare="baseline", fix=True, beta=40.0, latent=3, **QUICK)
    assert [r["vae"] for r in rows(result, "summary")] == ["baseline", "fixed"]
    collapse = rows(result, "collapse")
    assert [r["beta_asked"] for r in collapse] == [40, 40]
    assert collapse[0]["beta_of_gradient"] == pytest.approx(40, rel=0.02)
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
    sweep, likelihood, *_ = body["sections"]
    assert (sweep["key"], body["answer"][:24]) == ("sweep", "Validation prefers beta ")
    summary = next(t for t in likelihood["tables"] if t["key"] == "summary")
    assert [r[0] for r in summary["rows"]] == ["beta 0.1", "beta 10"]
    curve = next(f for f in sweep["figures"] if f["key"] == "rate-distortion")["series"][0]
    assert curve["x"] == sorted(curve["x"])
    assert sweep["findings"][0]["text"].startswith("beta 0.1: KL")
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
    assert seeds["negative_elbo"] == pytest.approx(seeds["reconstruction"] + seeds["kl"])
    assert "20 x 12 pixels, colour" in result.provenance["pictures"]
    assert "visus:effnet-lite0" in result.provenance["samples judged in"]
    assert result.figures["samples"].images.shape[1:] == (20, 12, 3)
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
    assert any("weighs the KL 6.12 times on the ELBO's scale, not 1 times" in w for w in result.cautions), (
        result.cautions
    )
    assert rows(result, "summary")[0]["vae"] == "reported_vae:Vae"
    assert any(
        n.startswith(
            "reported_vae:Vae: encode read as the mean and its log-variance (by the spread of the z that loss decodes"
        )
        for n in result.notes
    )
    assert any(
        "reported_vae:Vae" in w and "further from the images" in w for w in result.cautions
    )  # its weights are random


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"compare": "baseline,mitigatd"}, "nearest: mitigated"),
        ({"compare": "baseline,mitigated", "warmup": 0, "free_bits": 0.0}, "are the same"),
        ({"checkpoint": "nowhere", "compare": "baseline"}, "leave --compare and --sweep out"),
        ({"checkpoint": "nowhere"}, "no folder nowhere"),
        ({"sweep": "betta"}, "nearest: beta"),
        ({"warmup": 2}, "does not end within 2 epochs"),
        ({"beta": -1.0}, "--beta is -1.0; give a number from 0 up"),
        ({"samples": 10}, "too few to be judged"),
        ({"size": "2"}, "is no size"),
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


def test_each_pair_is_resampled_once_in_a_run(compared: tuple[Path, visus.Result], resampled: list[Any]) -> None:
    assert resampled == [("mitigated", "baseline")]
