"""Gradient norms by stage against one slow pass over all images, and against a closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from visus.errors import DataError
from visus.training.gradients import stage_gradient_norms

STAGES = {"first": "0", "second": "2", "whole": ""}


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Tanh())
        model = nn.Sequential(first, nn.Dropout(0.5), nn.Sequential(nn.Flatten(), nn.Linear(24, 4)))
    first[1].running_mean.fill_(0.2)
    return model


def data(*sizes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [
        (torch.randn(n, 3, 5, 5, generator=generator), torch.randint(0, 4, (n,), generator=generator)) for n in sizes
    ]


def test_equals_one_full_batch():
    model = network().train()
    model[0].requires_grad_(False)
    model[2][1].weight.grad = torch.ones(4, 24)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    batches = data(7, 2, 1)
    with torch.no_grad():
        found = stage_gradient_norms(model, iter(batches), STAGES)
    assert list(found) == list(STAGES)

    slow = network().eval()
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    (sum(nn.functional.cross_entropy(slow(a[None]), b[None]) for a, b in zip(x, y, strict=True)) / 10).backward()
    for name, part in (("first", slow[0]), ("second", slow[2]), ("whole", slow)):
        expected = torch.cat([p.grad.flatten() for p in part.parameters()]).norm()
        assert found[name] == pytest.approx(float(expected), rel=1e-5)

    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(m.training for m in model.modules())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(model[2][1].weight.grad, torch.ones(4, 24))
    assert model[0][0].weight.grad is None


def test_closed_form_and_a_part_that_is_not_used():
    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line, self.unused = nn.Linear(2, 1, bias=False), nn.Linear(2, 1)

        def forward(self, x):
            return self.line(x)

    model = Line()
    batches = [(torch.tensor([[3.0, 0.0]]), torch.zeros(1)), (torch.tensor([[0.0, 4.0], [0.0, 4.0]]), torch.zeros(2))]
    found = stage_gradient_norms(model, batches, {"line": "line", "unused": "unused"}, loss=lambda y, t: y.mean())
    # d/dw mean(w x) = mean x = (1, 8/3)
    assert found == pytest.approx({"line": math.hypot(1, 8 / 3), "unused": 0.0})


def test_errors_restore():
    model = network().train().requires_grad_(False)
    for batches, stages, message in (
        ([], STAGES, "at least one batch"),
        (data(2), {"third": "7"}, "stage third: there is no module '7'"),
        (data(2), {"drop": "1"}, "no parameters"),
        ([(torch.full((1, 3, 5, 5), math.nan), torch.zeros(1, dtype=torch.long))], STAGES, "not finite"),
    ):
        with pytest.raises(DataError, match=message):
            stage_gradient_norms(model, batches, stages)
        assert not any(p.requires_grad for p in model.parameters())
        assert all(m.training for m in model.modules())
    with pytest.raises(ZeroDivisionError):
        stage_gradient_norms(model, data(2), STAGES, loss=lambda y, t: 1 / 0)
    assert not any(p.requires_grad for p in model.parameters())
