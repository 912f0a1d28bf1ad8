"""Recalibrated statistics against the closed form, and against torch's own where that has nothing else in train mode."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visus.errors import DataError
from visus.training.batchnorm import recalibrate


def data(*sizes: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [3 + 2 * torch.randn(n, 3, 5, 4, generator=generator) for n in sizes]


def network() -> nn.Sequential:
    """Two BatchNorms with dropout between them, in eval mode, with used statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = nn.Sequential(
            nn.BatchNorm2d(3, momentum=0.3), nn.Dropout(0.5), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LayerNorm(24)
        )  # fmt: skip
    for p in model.parameters():
        p.data.add_(0.1)
    model(torch.randn(4, 3, 5, 4, generator=torch.Generator().manual_seed(3)))
    return model.eval()


def test_closed_form():
    model = network()
    weights = [p.clone() for p in model.parameters()]
    batches = data(4, 7, 3)
    assert recalibrate(model, iter(batches)) is True
    inputs, outputs = batches, []
    for x in (
        inputs
    ):  # what the second norm sees: the first one normalises by the batch while it learns, and nothing is dropped
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        y = (x - mean) / (variance + 1e-5).sqrt() * model[0].weight[:, None, None] + model[0].bias[:, None, None]
        outputs.append(model[2](y))
    for norm, seen in ((model[0], inputs), (model[3], outputs)):
        means = torch.stack([x.mean((0, 2, 3)) for x in seen])
        variances = torch.stack([x.var((0, 2, 3), correction=1) for x in seen])
        torch.testing.assert_close(norm.running_mean, means.mean(0))
        torch.testing.assert_close(norm.running_var, variances.mean(0))
        assert int(norm.num_batches_tracked) == 3
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert [m.training for m in model.modules()] == [False] * 7
    assert (model[0].momentum, model[3].momentum) == (0.3, 0.1)
    assert all(p.grad is None for p in model.parameters())


def test_equals_torch_without_dropout():
    ours, theirs = network(), network()
    del ours[1], theirs[1]
    ours.train()
    recalibrate(ours, data(4, 4))
    torch.optim.swa_utils.update_bn(data(4, 4), theirs)
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert all(m.training for m in ours.modules())


def test_without_batchnorm_nothing_is_run():
    def never():
        raise ZeroDivisionError
        yield

    assert (
        recalibrate(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)), never()) is False
    )


def test_an_error_leaves_everything_as_it_was():
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}

    def breaking():
        yield from data(4)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        recalibrate(model, breaking())
    with pytest.raises(DataError, match="at least one batch"):
        recalibrate(model, [])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(m.training for m in model.modules())
    assert model[0].momentum == 0.3
