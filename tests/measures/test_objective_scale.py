"""The effective beta from planted sums of gradients, against numpy's least squares, and where it is not defined."""

from __future__ import annotations

import math

import numpy as np
import pytest

from visus.errors import DataError
from visus.measures import effective_beta


def _gradients(p: int = 4000, *, ratio: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.standard_normal(p)
    return 80 * first, ratio * (rng.standard_normal(p) - 0.4 * first)


@pytest.mark.parametrize(
    ("a", "b", "beta"), [(1, 1, 1), (1 / 784, 1 / 128, 6.125), (1 / 128, 4 / 128, 4), (2, 0, 0), (1, -0.5, -0.5)]
)
@pytest.mark.parametrize("ratio", [1.0, 1e-6, 1e6])
def test_planted_scales_are_found(a: float, b: float, beta: float, ratio: float) -> None:
    first, second = _gradients(ratio=ratio)
    found = effective_beta(a * first + b * second, first, second)
    assert found.reconstruction_scale == pytest.approx(a, rel=1e-6)
    assert found.kl_scale == pytest.approx(b, rel=1e-6, abs=1e-7)
    assert found.beta == pytest.approx(beta, rel=1e-6, abs=1e-7)
    assert found.unexplained < 1e-20
    assert found.reason == ""


def test_float32_gradients_are_enough() -> None:
    first, second = (v.astype(np.float32) for v in _gradients(ratio=1e-2))
    loss = first / np.float32(784) + second / np.float32(128)
    found = effective_beta(loss, first, second)
    assert found.beta == pytest.approx(6.125, rel=1e-4)
    assert found.unexplained < 1e-10


def test_noise_is_unexplained_and_the_fit_is_least_squares() -> None:
    first, second = _gradients()
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(len(first)) * np.linalg.norm(first + second) / np.sqrt(len(first))
    shares = []
    for level in (0.0, 0.1, 1.0, 10.0):
        loss = first + second + level * noise
        found = effective_beta(loss, first, second)
        fit, rest = np.linalg.lstsq(np.stack([first, second], axis=1), loss, rcond=None)[:2]
        np.testing.assert_allclose([found.reconstruction_scale, found.kl_scale], fit, rtol=1e-9)
        assert found.unexplained == pytest.approx(float(rest[0]) / (loss @ loss), abs=1e-12)
        shares.append(found.unexplained)
    assert shares == sorted(shares)
    assert shares[2] == pytest.approx(0.5, abs=0.05)
    assert shares[3] > 0.95


def test_a_term_without_gradient_leaves_the_other_s_scale_and_a_reason() -> None:
    first, second = _gradients()
    none = np.zeros_like(first)
    found = effective_beta(first / 784, first, none)
    assert found.reconstruction_scale == pytest.approx(1 / 784)
    assert math.isnan(found.kl_scale)
    assert math.isnan(found.beta)
    assert "KL" in found.reason
    assert found.unexplained == pytest.approx(0, abs=1e-20)
    found = effective_beta(3 * second, none, second)
    assert found.kl_scale == pytest.approx(3)
    assert math.isnan(found.beta)
    assert "reconstruction" in found.reason
    both = effective_beta(first, none, none)
    assert both.unexplained == 1
    assert "and" in both.reason


def test_parallel_gradients_are_not_told_apart_and_a_loss_without_reconstruction_is_named() -> None:
    first = _gradients()[0]
    found = effective_beta(first, first, -2 * first)
    assert math.isnan(found.beta)
    assert "parallel" in found.reason
    assert found.unexplained < 1e-20
    unit = np.eye(3)
    found = effective_beta(2 * unit[1], unit[0], unit[1])
    assert found.beta == math.inf
    assert found.kl_scale == 2
    assert "\n" not in found.reason
    assert found.reason


def test_the_inputs_stay_as_they_were() -> None:
    first, second = _gradients()
    loss = first + second
    copies = [v.copy() for v in (loss, first, second)]
    effective_beta(loss, first, second)
    assert all(np.array_equal(v, c) for v, c in zip((loss, first, second), copies, strict=True))


def test_bad_input_is_one_line() -> None:
    first, second = _gradients(10)
    bad = first.copy()
    bad[4] = np.nan
    for call in (
        lambda: effective_beta(first, first, second[:9]),
        lambda: effective_beta(first[None], first, second),
        lambda: effective_beta(bad, first, second),
        lambda: effective_beta(0 * first, first, second),
        lambda: effective_beta(first[:0], first[:0], second[:0]),
    ):
        with pytest.raises(DataError) as error:
            call()
        assert "\n" not in str(error.value)
