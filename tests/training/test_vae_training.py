"""Training a VAE: the objective against its definition, warm-up, free bits, resuming, bad pictures, and the beta that a loss really has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from visus.errors import DataError, StoreError
from visus.features.latents import as_floats, posteriors
from visus.models.vae import Decoder, Vae, VaeSizes, new_vae, wrap
from visus.models.vae_open import load_vae
from visus.training import checkpoint
from visus.training.devices import Devices
from visus.training.effective_beta import measured_beta
from visus.training.epoch import DivergedError
from visus.training.loop import Learner, fit
from visus.training.recipe import Recipe
from visus.training.small_cnn import small_classifier
from visus.training.vae import Elbo, KLSchedule, TrainedVae, VaePlan, train_vae

SIZES = VaeSizes(8, 8, latent=4, hidden=32, first=8)
RECIPE = Recipe(2e-3, epochs=6, batch=32, clip=5.0, patience=0, optimizer="adam", schedule="constant")


def blobs(n: int = 320, *, seed: int = 0) -> np.ndarray:
    """uint8 [n, 8, 8, 1]: a bright square that stands anywhere: two numbers tell each picture."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(0, 5, size=(n, 2, 1))
    line = np.arange(8)[None, None]
    inside = np.clip(np.minimum(line + 1 - at, at + 3 - line), 0, 1)
    found: np.ndarray = (255 * inside[:, 0, :, None] * inside[:, 1, None, :]).astype(np.uint8)[..., None]
    return found


def trained(root: Path, pressure: KLSchedule = KLSchedule(), recipe: Recipe = RECIPE, **kwargs: Any) -> TrainedVae:  # noqa: B008
    plan = VaePlan("blobs", SIZES, kwargs.pop("decoder", Decoder()), pressure, recipe)
    return train_vae(kwargs.pop("train", blobs()), blobs(100, seed=1), plan, content="blobs", root=root)


def test_the_objective_is_its_definition() -> None:
    network = new_vae(SIZES, Decoder(), seed=0)
    x, pressure = blobs(9), KLSchedule(beta=3.0, free_bits=0.02)
    objective = Elbo(x, x, pressure, seed=0)
    torch.manual_seed(5)
    loss, reconstruction, kl = objective.terms(network, as_floats(x), 3.0)
    torch.manual_seed(5)
    noise = torch.randn(9, 4)
    squares, parts = 0.0, np.zeros(4)
    for i in range(9):
        one = as_floats(x[i : i + 1])
        mu, logvar = (t[0].double() for t in network.encode(one))
        z = mu + torch.exp(0.5 * logvar) * noise[i].double()
        squares += float((network.decode(z[None].float()) - one).detach().square().sum())
        parts += (0.5 * (mu**2 + logvar.exp() - logvar - 1)).detach().numpy()
    assert float(reconstruction.detach()) == pytest.approx(squares / 9, rel=1e-5)
    assert float(kl.detach()) == pytest.approx(parts.sum() / 9, rel=1e-4)
    assert float(loss.detach()) == pytest.approx(squares / 9 + 3 * np.maximum(parts / 9, 0.02).sum(), rel=1e-5)


def test_warm_up_is_linear_from_nought() -> None:
    assert [KLSchedule(2.0, warmup=4).beta_at(e) for e in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert KLSchedule(2.0).beta_at(0) == 2.0


def test_free_bits_cost_nothing_below_and_push_nobody() -> None:
    kl = torch.tensor([[0.01, 0.3], [0.03, 0.5]], requires_grad=True)
    cost = KLSchedule(free_bits=0.05).cost(kl)
    assert float(cost.detach()) == pytest.approx(0.05 + 0.4)
    cost.backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0.0, 0.5], [0.0, 0.5]]
    assert float(KLSchedule().cost(kl).detach()) == pytest.approx(0.42)


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"free_bits": float("nan")}, {"warmup": -1}, {"beta": float("inf")}])
def test_impossible_pressures_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="must be 0 or more"):
        KLSchedule(**wrong)


def test_it_learns_and_says_each_side_by_epoch(tmp_path: Path) -> None:
    done = trained(tmp_path, KLSchedule(warmup=3))
    epochs = done.fit.epochs
    assert [e.parts["beta"] for e in epochs] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1])
    assert epochs[-1].parts["val_reconstruction"] < 0.7 * epochs[0].parts["val_reconstruction"]
    for e in epochs:
        assert e.train_loss == pytest.approx(e.parts["reconstruction"] + e.parts["beta"] * e.parts["kl"], rel=1e-4)
        assert e.val_loss == pytest.approx(e.parts["val_reconstruction"] + e.parts["val_kl"], rel=1e-6)
    assert done.fit.best == int(np.argmin([e.val_loss for e in epochs]))
    assert {e.lr for e in epochs} == {2e-3}


def test_one_step_is_adam_by_hand(tmp_path: Path) -> None:
    x = blobs(32)
    network, twin = (new_vae(SIZES, Decoder(), seed=0) for _ in range(2))
    objective = Elbo(x, x, KLSchedule(), seed=0)
    recipe = Recipe(2e-3, epochs=1, batch=32, clip=0.0, patience=0, optimizer="adam", schedule="constant")
    fit(Learner(network), objective, recipe, fabric=Devices().fabric())
    # The loop draws its noise from a generator seeded by (seed, epoch, process).
    torch.manual_seed(int(np.random.default_rng([0, 0, 0]).integers(2**31)))
    rows = np.random.default_rng([0, 0]).permutation(32)
    optimizer = torch.optim.Adam(twin.parameters(), lr=2e-3)
    objective.terms(twin, as_floats(x[rows]), 1.0)[0].backward()
    optimizer.step()
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=2e-5)


def cut_short(monkeypatch: pytest.MonkeyPatch, train: Callable[[], object]) -> None:
    """Interrupt a training when the third epoch's checkpoint has been written."""
    save, calls = checkpoint.save, []

    def dies(fabric: Any, path: Path, state: Any) -> None:
        save(fabric, path, state)
        calls.append(path.name)
        if calls.count(checkpoint.LAST) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            train()


def test_the_same_call_reads_what_is_finished_and_an_interrupted_one_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole")
    again = trained(tmp_path / "whole")
    assert again.fit == whole.fit
    assert all(torch.equal(v, again.vae.module.state_dict()[k]) for k, v in whole.vae.module.state_dict().items())
    cut_short(monkeypatch, lambda: trained(tmp_path / "cut"))
    resumed = trained(tmp_path / "cut")
    assert (resumed.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    assert [e.parts for e in resumed.fit.epochs] == [e.parts for e in whole.fit.epochs]


def test_other_settings_have_a_folder_of_their_own(tmp_path: Path) -> None:
    short = Recipe(2e-3, epochs=1, batch=32, patience=0, optimizer="adam", schedule="constant")
    folders = {trained(tmp_path, p, short).folder for p in (KLSchedule(), KLSchedule(2.0), KLSchedule(free_bits=0.1))}
    assert len(folders) == 3
    lost = trained(tmp_path, KLSchedule(), short).folder.parent
    (lost / "checkpoints" / checkpoint.BEST).unlink()
    with pytest.raises(StoreError, match="without its weights"):
        trained(tmp_path, KLSchedule(), short)


def test_free_bits_keep_dimensions_alive_that_a_heavy_beta_kills(tmp_path: Path) -> None:
    recipe = Recipe(5e-3, epochs=10, batch=8, clip=5.0, patience=0, optimizer="adam", schedule="constant")
    heavy, kept = (trained(tmp_path, p, recipe) for p in (KLSchedule(20.0), KLSchedule(20.0, free_bits=0.2)))
    kls = []
    for one in (heavy, kept):
        q = posteriors(one.vae, blobs(100, seed=1))
        kls.append((0.5 * (q.mu**2 + np.exp(q.logvar) - q.logvar - 1)).mean(axis=0))
    assert (kls[0] < 0.01).all()
    assert (kls[1] > 0.05).all()


def test_a_loss_that_is_not_a_number_stops_at_its_step_and_keeps_the_last_whole_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = Elbo.terms
    steps: list[int] = []

    def breaks(self: Elbo, model: Any, x: torch.Tensor, beta: float) -> Any:
        loss, reconstruction, kl = terms(self, model, x, beta)
        steps.append(1)
        return loss * (float("nan") if len(steps) == 17 else 1.0), reconstruction, kl

    monkeypatch.setattr(Elbo, "terms", breaks)
    with pytest.raises(DivergedError, match=r"not a number at step 17 \(epoch 2"):
        trained(tmp_path)
    (kept,) = tmp_path.glob("vae-*/checkpoints/last.ckpt")
    state = checkpoint.load(kept)
    assert state is not None
    assert state["progress"]["epoch"] == 1
    assert all(torch.isfinite(t).all() for t in state["tensors"].values())


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.full((64, 8, 8, 1), 7, np.uint8), "all training pictures are the same"),
        (blobs(20), "a batch of 32 is larger than the 20"),
        (np.repeat(blobs(64), 3, axis=3), r"the VAE wants \[8, 8, 1\]"),
    ],
)
def test_pictures_that_teach_nothing_are_refused(tmp_path: Path, images: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        trained(tmp_path, train=images)


@pytest.mark.parametrize("decoder", [Decoder(), Decoder("learned-gaussian"), Decoder("bernoulli")])
def test_every_decoder_trains(tmp_path: Path, decoder: Decoder) -> None:
    epochs = trained(tmp_path, decoder=decoder).fit.epochs
    assert epochs[-1].val_loss < epochs[0].val_loss


def test_bf16_learns_as_fp32_does(tmp_path: Path) -> None:
    short = Recipe(2e-3, epochs=2, batch=32, clip=5.0, patience=0, optimizer="adam", schedule="constant")
    plans = [VaePlan("blobs", SIZES, Decoder(), KLSchedule(), short, Devices("cpu", 1, p)) for p in ("fp32", "bf16")]
    ends = [train_vae(blobs(), blobs(100, seed=1), p, content="blobs", root=tmp_path).fit.epochs[-1] for p in plans]
    assert ends[0].val_loss != ends[1].val_loss
    assert ends[1].val_loss == pytest.approx(ends[0].val_loss, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("free_bits", [0.0, 0.05])
def test_two_processes_learn_as_one_does(tmp_path: Path, free_bits: float) -> None:
    plans = [
        VaePlan("blobs", SIZES, Decoder(), KLSchedule(free_bits=free_bits), RECIPE, Devices("cpu", n)) for n in (1, 2)
    ]
    one, two = (train_vae(blobs(), blobs(100, seed=1), p, content="blobs", root=tmp_path) for p in plans)
    assert len(two.fit.epochs) == len(one.fit.epochs)
    # Their noise differs, process by process.
    assert two.fit.epochs[-1].val_loss == pytest.approx(one.fit.epochs[-1].val_loss, rel=0.1)
    (mu, _), (again, _) = (v.encode(as_floats(blobs(4))) for v in (two.vae, load_vae(str(two.folder), shape=(1, 8, 8))))
    assert torch.equal(mu, again)


@pytest.mark.parametrize("beta", [1.0, 6.125])
@pytest.mark.parametrize(
    "decoder", [Decoder(), Decoder("gaussian", 0.1), Decoder("learned-gaussian"), Decoder("bernoulli")]
)
def test_our_objectives_gradient_shows_the_beta_that_was_asked_for(beta: float, decoder: Decoder) -> None:
    network, x = new_vae(SIZES, decoder, seed=0), blobs(64)
    objective = Elbo(x, x, KLSchedule(beta), seed=0)
    vae = wrap(network, "ours")
    found = measured_beta(vae, x, lambda batch: objective.terms(network, batch, beta)[0])
    assert found.beta == pytest.approx(beta, rel=2e-3)
    assert found.reconstruction_scale == pytest.approx(1.0, rel=2e-3)
    assert found.unexplained < 1e-4
    assert not any(p.requires_grad for p in network.parameters())


def test_the_reports_mis_scaled_loss_is_caught() -> None:
    """Mean over 784 pixels, KL a batch mean that is divided by the batch size 128 once more: a beta of 6.1 that calls itself 1."""
    network = new_vae(VaeSizes(28, 28, latent=5, first=4, hidden=32), Decoder(), seed=1)
    x = np.random.default_rng(0).integers(0, 256, size=(128, 28, 28, 1)).astype(np.uint8)
    vae = wrap(network, "the report's")

    def theirs(batch: torch.Tensor) -> torch.Tensor:
        mu, logvar = network.encode(batch)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(dim=1).mean()
        return torch.nn.functional.mse_loss(network.decode(z), batch) + kl / len(batch)

    found = measured_beta(vae, x, theirs)
    assert found.beta == pytest.approx(784 / 128, rel=1e-2)
    assert found.reconstruction_scale == pytest.approx(1 / 784, rel=1e-2)


def test_a_loss_of_something_else_is_unexplained_and_one_of_nothing_is_refused() -> None:
    network, x = new_vae(SIZES, Decoder(), seed=0), blobs(32)
    vae: Vae = wrap(network, "ours")
    decay = measured_beta(vae, x, lambda _: sum(p.square().sum() for p in network.parameters()))  # type: ignore[arg-type,return-value]
    assert decay.unexplained > 0.5
    with pytest.raises(DataError, match="one number"):
        measured_beta(vae, x, lambda batch: batch.sum())


def test_the_small_classifier_tells_shapes_apart_and_repeats() -> None:
    x = blobs(400)
    y = (x.reshape(400, 8, 8).argmax(axis=2).max(axis=1) > 2).astype(np.int64)
    made = [
        small_classifier(x[:300], y[:300], x[300:], y[300:], classes=2, devices=Devices(), seed=0) for _ in range(2)
    ]
    assert made[0].validation > 0.9
    assert made[0].features(x).shape == (400, 128)
    assert np.array_equal(made[0].features(x), made[1].features(x))
    with pytest.raises(DataError, match="at least two classes"):
        small_classifier(x, np.zeros(400, np.int64), x, y, classes=2, devices=Devices(), seed=0)


def test_in_bfloat16_too_an_interrupted_training_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = VaePlan("blobs", SIZES, Decoder(), KLSchedule(), RECIPE, Devices("cpu", 1, "bf16"))

    def run(root: Path) -> TrainedVae:
        return train_vae(blobs(), blobs(100, seed=1), plan, content="blobs", root=root)

    whole, again = run(tmp_path / "whole"), run(tmp_path / "again")
    cut_short(monkeypatch, lambda: run(tmp_path / "cut"))
    cut = run(tmp_path / "cut")
    for other in (again, cut):
        assert [e.val_loss for e in other.fit.epochs] == [e.val_loss for e in whole.fit.epochs]
        assert all(torch.equal(v, other.vae.module.state_dict()[k]) for k, v in whole.vae.module.state_dict().items())
