"""The loop: it learns, repeats, resumes to the same bytes, keeps the best epoch by validation, and stops for good reasons only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.tiny import Points, feed, network

from visus.errors import StoreError
from visus.training import checkpoint, epoch, loop
from visus.training.devices import Devices
from visus.training.epoch import DivergedError
from visus.training.loop import Learner, fit
from visus.training.objective import Classification, held_logits
from visus.training.recipe import Recipe

FABRIC = Devices().fabric()


def run(net: torch.nn.Module, data: Points, recipe: Recipe, **kwargs):  # type: ignore[no-untyped-def]
    return fit(Learner(net), Classification(data, recipe.smoothing), recipe, fabric=FABRIC, **kwargs)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_and_repeats_to_the_last_bit_without_touching_the_global_generator() -> None:
    before = torch.get_rng_state()
    first, second = network(), network()
    done = run(first, feed(), Recipe(1e-2, epochs=6, batch=24))
    torch.rand(3)
    again = run(second, feed(), Recipe(1e-2, epochs=6, batch=24))
    assert done.epochs[-1].val_accuracy > 0.85 > done.epochs[0].train_accuracy
    assert done.steps == 60
    assert same(first, second)
    assert [e.train_loss for e in done.epochs] == [e.train_loss for e in again.epochs]
    torch.set_rng_state(before)


def test_one_step_is_adamw_by_hand() -> None:
    data, recipe = feed(), Recipe(1e-2, epochs=1, batch=240, warmup=0.0, weight_decay=0.1, clip=0.0, smoothing=0.0)
    net, twin = torch.nn.Linear(8, 3), torch.nn.Linear(8, 3)
    twin.load_state_dict(net.state_dict())
    run(net, data, recipe)
    by_hand = torch.optim.AdamW(
        [{"params": [twin.weight], "weight_decay": 0.1}, {"params": [twin.bias], "weight_decay": 0.0}]
    )
    for group in by_hand.param_groups:
        group["lr"] = 1e-2 * 0.5 * (1 + np.cos(np.pi * 0.5))
    torch.nn.functional.cross_entropy(twin(torch.from_numpy(data.x)), torch.from_numpy(data.y)).backward()
    by_hand.step()
    assert torch.allclose(net.weight, twin.weight, atol=1e-7)
    assert torch.allclose(net.bias, twin.bias, atol=1e-7)


@pytest.mark.parametrize("most", [0.01, 0.5, 100.0, float("nan")])
def test_gradients_are_clipped_as_pytorch_clips_them(most: float) -> None:
    mine, theirs = network(), network()
    for net in (mine, theirs):
        net(torch.from_numpy(feed().x)).square().mean().backward()
        if np.isnan(most):
            next(net.parameters()).grad.fill_(float("nan"))  # type: ignore[union-attr]
    epoch.clip_gradients(mine, torch.optim.SGD(mine.parameters()), 0.5 if np.isnan(most) else most, FABRIC)
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5 if np.isnan(most) else most)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad) or (a.grad.isnan() == b.grad.isnan()).all()  # type: ignore[union-attr, arg-type]


def test_passes_of_a_step_add_up_to_the_whole_batch() -> None:
    whole, parts = torch.nn.Linear(8, 3), torch.nn.Linear(8, 3)
    parts.load_state_dict(whole.state_dict())
    run(whole, feed(), Recipe(1e-2, epochs=2, batch=40))
    run(parts, feed(), Recipe(1e-2, epochs=2, batch=40, accumulate=3))
    assert torch.allclose(whole.weight, parts.weight, atol=1e-5)


class _KilledError(Exception):
    pass


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(1e-2, epochs=5, batch=24, patience=0)
    straight = network()
    expected = run(straight, feed(), recipe, folder=tmp_path / "straight")
    for dies_at in (1, 3):  # at the third call of save the best of the first epochs is there, the last is not always
        saved = {"n": 0}
        real = checkpoint.save

        def dying(*args, _real=real, _saved=saved, _at=dies_at, **kwargs):  # type: ignore[no-untyped-def]
            _saved["n"] += 1
            if _saved["n"] > 2 * _at:
                raise _KilledError
            _real(*args, **kwargs)

        monkeypatch.setattr(checkpoint, "save", dying)
        folder = tmp_path / str(dies_at)
        with pytest.raises(_KilledError):
            run(network(), feed(), recipe, folder=folder)
        monkeypatch.setattr(checkpoint, "save", real)
        assert (folder / checkpoint.LAST).is_file()
        resumed = network(seed=5)  # whatever it starts from: the checkpoint counts
        done = run(resumed, feed(), recipe, folder=folder)
        assert same(resumed, straight)
        assert [(e.train_loss, e.val_loss) for e in done.epochs] == [
            (e.train_loss, e.val_loss) for e in expected.epochs
        ]


def test_the_best_epoch_by_validation_is_kept_and_test_is_never_looked_at() -> None:
    data = feed()
    net = network()
    done = run(net, data, Recipe(3e-2, epochs=8, batch=24, patience=0))
    assert "test" not in data.asked
    ranks = [(e.val_accuracy, -e.val_loss) for e in done.epochs]
    assert done.best == ranks.index(max(ranks))
    logits = held_logits(net, data, "validation", FABRIC)
    assert np.mean(logits.argmax(1) == data.held["validation"]) == pytest.approx(done.epochs[done.best].val_accuracy)
    other = feed()
    other.held["test"] = 2 - other.held["test"]
    other.held_x["test"] = -other.held_x["test"]
    twin = network()
    assert run(twin, other, Recipe(3e-2, epochs=8, batch=24, patience=0)).best == done.best
    assert same(net, twin)


def test_early_stopping_waits_for_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    worse = iter(np.linspace(0.9, 0.1, 20))
    monkeypatch.setattr(Classification, "validate", lambda self, model, fabric: (1.0, next(worse)))
    done = run(network(), feed(), Recipe(1e-2, epochs=20, batch=24, patience=3))
    assert done.stopped == "early stopping"
    assert (len(done.epochs), done.best) == (4, 0)


def test_when_the_time_is_up_the_learning_rate_has_come_down_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1e6, 0.5))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(clock)))
    data = feed()
    done = run(network(), data, Recipe(1e-2, epochs=1000, batch=24, warmup=0.0, patience=0), allowed=60.0)
    assert done.stopped == "budget"
    assert 0 < done.steps < 1000
    assert done.epochs[-1].lr < 1e-3
    assert all(np.isfinite(e.train_loss) for e in done.epochs)


def test_a_loss_that_is_no_number_stops_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    data = feed()

    class Poisoned(Points):
        def batch(self, rows: np.ndarray, *, epoch: int, device: torch.device) -> torch.Tensor:
            x = super().batch(rows, epoch=epoch, device=device)
            return x * torch.nan if epoch == 2 and len(self.asked) > 0 and self.count() == 24 else x

        def count(self) -> int:
            return sum(a == "train" for a in self.asked)

    poisoned = Poisoned(data.x, data.y, data.held_x, data.held)
    net = network()
    with pytest.raises(DivergedError, match=r"step 24 \(epoch 3, .*--lr"):
        run(net, poisoned, Recipe(1e-2, epochs=4, batch=24), folder=tmp_path)
    state = checkpoint.load(tmp_path / checkpoint.LAST)
    assert state is not None
    assert state["progress"]["epoch"] == 2
    assert all(torch.isfinite(t).all() for t in state["tensors"].values())


def test_out_of_memory_halves_the_pass_and_keeps_the_batch() -> None:
    class Small(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training and len(x) > 10:
                raise torch.OutOfMemoryError("too many")
            return super().forward(x)

    small, plain = Small(8, 3), torch.nn.Linear(8, 3)
    plain.load_state_dict(small.state_dict())
    done = run(small, feed(), Recipe(1e-2, epochs=2, batch=40))
    run(plain, feed(), Recipe(1e-2, epochs=2, batch=40))
    assert done.accumulate == 4
    assert torch.allclose(small.weight, plain.weight, atol=1e-5)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    class Broken(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        run(Broken(8, 3), feed(), Recipe(1e-2, epochs=1))


def test_damaged_checkpoints_and_full_disks_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / checkpoint.LAST).write_bytes(b"PK not a checkpoint")
    with pytest.raises(StoreError, match="delete it"):
        run(network(), feed(), Recipe(1e-2, epochs=1), folder=tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="free some space"):
        checkpoint.save(FABRIC, tmp_path / "file" / "x.ckpt", {"a": torch.ones(1)})


def test_a_checkpoint_holds_no_pickle_that_runs(tmp_path: Path) -> None:
    run(network(), feed(), Recipe(1e-2, epochs=1), folder=tmp_path)
    torch.load(tmp_path / checkpoint.LAST, weights_only=True)
    torch.load(tmp_path / checkpoint.BEST, weights_only=True)


def test_moments_next_to_nothing_are_set_to_nought_and_no_others() -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([weight], lr=1e-2)
    weight.grad = torch.tensor([1.0, 0.0, -1e-3, 0.0])
    optimizer.step()
    state = optimizer.state[weight]
    state["exp_avg"][1], state["exp_avg"][3] = 1e-39, -1e-31
    before = {k: v.clone() for k, v in state.items()}
    epoch.sweep_moments(optimizer)
    assert state["exp_avg"].tolist() == [before["exp_avg"][0], 0.0, before["exp_avg"][2], 0.0]
    assert torch.equal(state["exp_avg_sq"], before["exp_avg_sq"])
    assert torch.equal(state["step"], before["step"])
