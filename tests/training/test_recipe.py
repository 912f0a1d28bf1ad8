"""The schedule at its corners, and weight decay on what trains alone."""

from __future__ import annotations

import pytest
import torch
from tests.training.tiny import network

from visus.training.recipe import Recipe, lr_factor, optimizer_for, parameter_groups


def test_the_learning_rate_warms_up_in_a_line_and_comes_down_as_torch_does_it() -> None:
    assert lr_factor(0.0, 0.1) == 0.0
    assert lr_factor(0.05, 0.1) == pytest.approx(0.5)
    assert lr_factor(0.1, 0.1) == pytest.approx(1.0)
    assert lr_factor(1.0, 0.1) == pytest.approx(0.0)
    assert lr_factor(7.0, 0.1) == pytest.approx(0.0)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for step in range(50):
        assert lr_factor(step / 50, 0.0) == pytest.approx(cosine.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        cosine.step()


def test_weight_decay_reaches_matrices_that_train_and_nothing_else() -> None:
    net = network()
    net[0].requires_grad_(False)
    groups = parameter_groups(net, 0.05)
    by_id = {id(p): g["weight_decay"] for g in groups for p in g["params"]}  # type: ignore[attr-defined]
    names = dict(net.named_parameters())
    assert {n: by_id.get(id(p)) for n, p in names.items()} == {
        "0.weight": None,
        "0.bias": None,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "4.weight": 0.05,
        "4.bias": 0.0,
    }


def test_frozen_parameters_do_not_decay_even_with_a_gradient_left_on_them() -> None:
    net = network()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    optimizer = optimizer_for(net, Recipe(lr=1.0, weight_decay=0.9))
    torch.nn.functional.cross_entropy(net(torch.randn(8, 8)), torch.zeros(8, dtype=torch.long)).backward()
    optimizer.step()
    assert torch.equal(net[0].weight, before)
    assert not torch.equal(net[4].weight, network()[4].weight)
