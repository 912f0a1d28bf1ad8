"""The shuffled-label control of a probe: what the same probe reaches where there is nothing to learn, many permutations solved at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from visus.errors import DataError
from visus.measures._arrays import as_array, generator_of
from visus.measures.probe import checked_rows, protocol_of
from visus.measures.probe_blocks import Array, Source, as_blocks
from visus.measures.probe_solver import Solver, check_labels, solve_path

PERMUTATIONS = 20
LEVEL = 0.95
ROUGH = Solver(tol=1e-4)  # of a fit to labels that mean nothing only the accuracy counts


@dataclass(frozen=True)
class ProbeSetting:
    """How a probe was fitted. lambda_: the penalty that validation chose. protocol: one of `probe.PROTOCOLS`."""

    n_classes: int
    lambda_: float
    protocol: str = "visus"


@dataclass(frozen=True)
class PermutationNull:
    """Test accuracy of a probe fitted on permuted training labels. accuracy: float64 [permutations], each 0..1."""

    accuracy: NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float(self.accuracy.mean())

    @property
    def point(self) -> float:
        """The 95 % point: of m values the one of rank ceil(0.95 (m + 1)), of 20 the highest. Labels that the features know nothing of exceed
        it in at most 5 % of cases; with fewer than 19 permutations that cannot be told, and it is infinite."""
        rank = math.ceil(LEVEL * (len(self.accuracy) + 1) - 1e-9)
        return float(np.sort(self.accuracy)[rank - 1]) if rank <= len(self.accuracy) else math.inf

    def exceeded_by(self, accuracy: float) -> bool:
        """Whether a test accuracy lies above the 95 % point."""
        return accuracy > self.point

    def p_value(self, accuracy: float) -> float:
        """(1 + how many permutations reach it) / (1 + permutations), which is never 0 (Phipson and Smyth 2010)."""
        return float((1 + np.sum(self.accuracy >= accuracy)) / (1 + len(self.accuracy)))


def permutation_null(
    x: Source,
    y: Array,
    *,
    train: Array,
    test: Array,
    setting: ProbeSetting,
    permutations: int = PERMUTATIONS,
    device: str = "cpu",
    seed: int = 0,
) -> PermutationNull:
    """Fit the probe at one penalty on permuted labels of `train` and test each fit on the true labels of `test`.

    x: features [n, d] (array, memory map, or blocks); y: int [n]; train, test: rows; setting: of the probe of the true labels. Permutation k
    is the k-th draw of `seed`. All fits share their passes over x: one product [n, d] x [d, permutations * classes] a step.
    Raises DataError as `linear_probe` does. Source: Ojala and Garriga 2010, test 1.
    """
    preset, n_classes = protocol_of(setting.protocol), setting.n_classes
    if permutations < 1:
        raise DataError(f"permutations is {permutations}; at least 1 is needed, and 19 for a 95 % point")
    labels = as_array(y, "y")
    train, test = checked_rows(train, len(labels), "train"), checked_rows(test, len(labels), "test")
    if np.intersect1d(train, test).size:
        raise DataError("train and test share rows; a probe must be tested on images it never saw")
    rows = np.sort(train)
    generator = generator_of(seed)
    true = check_labels(labels[rows], n_classes)
    permuted = np.stack([generator.permutation(true) for _ in range(permutations)])
    path = solve_path(
        as_blocks(x, rows),
        permuted,
        lambdas=np.full(permutations, setting.lambda_),
        n_classes=n_classes,
        standardise=preset.standardise,
        device=device,
        solver=ROUGH,
    )
    rows = np.sort(test)
    weights = torch.as_tensor(path.W, device=device).permute(1, 0, 2).reshape(-1, permutations * n_classes)
    bias = torch.as_tensor(path.b, device=device).reshape(-1)
    truth = torch.as_tensor(check_labels(labels[rows], n_classes), device=device)
    hits, offset = torch.zeros(permutations, dtype=torch.int64, device=device), 0
    for block in as_blocks(x, rows).blocks(max(64, (1 << 22) // (permutations * n_classes))):
        scaled = ((np.asarray(block, np.float64) - path.mean) / path.scale).astype(np.float32)
        z = torch.addmm(bias, torch.as_tensor(scaled, device=device), weights).view(len(block), permutations, n_classes)
        hits += (z.argmax(dim=2) == truth[offset : offset + len(block), None]).sum(dim=0)
        offset += len(block)
    return PermutationNull(hits.cpu().numpy() / len(rows))
