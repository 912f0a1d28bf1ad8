"""Operations of training, counted, against counting by hand."""

from __future__ import annotations

import torch

from visus.training.cost import forward_flops, training_flops


class LooksFirst(torch.nn.Module):
    """A layer that runs another, larger one on its first pass alone, as a tail does that looks for what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = torch.nn.Linear(8, 10_000), torch.nn.Linear(8, 3)
        self.first = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.first:
            self.large(torch.zeros(50, 8))
            self.first = False
        out: torch.Tensor = self.small(x)
        return out


def test_a_linear_layer_costs_its_products_forward_and_backward() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    x = torch.randn(4, 8)
    forward = 2 * (8 * 16 + 16 * 3)
    assert forward_flops(net, lambda n: x[:n]) == forward
    # Backward: both weights' gradients, and the gradient that enters the first layer's output.
    assert training_flops(net, lambda n: x[:n]) == 2 * forward + 2 * 16 * 3


def test_what_a_network_does_on_its_first_pass_alone_is_no_cost_of_an_image() -> None:
    x = torch.randn(4, 8)
    assert training_flops(LooksFirst(), lambda n: x[:n]) == 2 * 2 * 8 * 3
