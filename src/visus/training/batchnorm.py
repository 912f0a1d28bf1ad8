"""BatchNorm statistics estimated anew, for a network whose activations are no longer those that its statistics were taken from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from visus.errors import DataError
from visus.models.modes import eval_mode


def recalibrate(module: nn.Module, batches: Iterable[torch.Tensor]) -> bool:
    """Estimate the running statistics of every BatchNorm of `module` anew; False, and nothing is run, where it has none.

    batches: normalised float [b, 3, h, w]. Afterwards running_mean is the mean over batches of the batch means, running_var the mean
    over batches of the unbiased batch variances (each batch weighs the same, so let them be of one size). Only the BatchNorms train, without
    gradients; modes and momenta are restored, weights are not touched. Raises DataError without batches; whenever an error ends the
    pass the statistics are those from before. Source: Izmailov et al. 2018, section 3.3 (torch.optim.swa_utils.update_bn, which
    puts the whole network into train mode, dropout and stochastic depth too).
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return False
    before = [{k: v.clone() for k, v in m.named_buffers(recurse=False)} for m in norms]
    done = False
    try:
        with torch.no_grad(), _estimating(module, norms):
            for batch in batches:
                if not done:
                    for norm in norms:
                        norm.reset_running_stats()
                    done = True
                module(batch.to(next(module.parameters(), batch).device))
    except BaseException:
        for norm, buffers in zip(norms, before, strict=True):
            for name, value in buffers.items():
                norm.get_buffer(name).copy_(value)
        raise
    if not done:
        raise DataError("BatchNorm statistics cannot be estimated from no images; give at least one batch")
    return True


@contextmanager
def _estimating(module: nn.Module, norms: Sequence[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    """`norms` in train mode with a cumulative average, all else in eval mode."""
    momenta = {m: m.momentum for m in norms}
    with eval_mode(module):
        try:
            for norm in momenta:
                norm.training, norm.momentum = True, None
            yield
        finally:
            for norm, momentum in momenta.items():
                norm.momentum = momentum
