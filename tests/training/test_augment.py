"""Crops against a slow resize, colours against torchvision, and the same dice for the same picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional
from torchvision.transforms.v2 import functional as tv

from visus.training.augment import PHOTOGRAPH, augmented, crops, draws


def image(h: int = 40, w: int = 48, *, seed: int = 0) -> torch.Tensor:
    low = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed)) * 255
    return functional.interpolate(low, (h, w), mode="bilinear").round().to(torch.uint8).permute(0, 2, 3, 1)


STILL = replace(PHOTOGRAPH, jitter=0.0)


def test_a_crop_is_what_cropping_and_resizing_gives() -> None:
    x = image(64, 64)
    side = 48  # of 64: a square in the upper left corner, not mirrored
    dice = np.array([[((side / 64) ** 2 - 0.4) / 0.6, 0.5, 0.0, 0.0, 0.9, 0.5, 0.5, 0.5]])
    found = augmented(x, (20, 20), dice, STILL)
    expected = tv.resized_crop(x.permute(0, 3, 1, 2).float(), 0, 0, side, side, [20, 20], antialias=False)
    assert torch.allclose(found, expected, atol=1e-2)
    mirrored = augmented(x, (20, 20), np.where(np.arange(8) == 4, 0.1, dice), STILL)
    assert torch.allclose(mirrored, found.flip(3), atol=1e-3)


def test_the_whole_picture_comes_back_when_the_dice_say_so() -> None:
    x = image(32, 32)
    dice = np.array([[1.0, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5, 0.5]])
    assert torch.allclose(augmented(x, (32, 32), dice, STILL), x.permute(0, 3, 1, 2).float(), atol=1e-2)


def test_colours_change_as_torchvision_changes_them() -> None:
    x = image(32, 32)
    dice = np.array([[1.0, 0.5, 0.5, 0.5, 0.9, 0.2, 0.9, 0.1]])
    b, c, s = 1 + 0.3 * (2 * dice[0, 5:] - 1)
    unit = x.permute(0, 3, 1, 2).float() / 255
    expected = tv.adjust_saturation(tv.adjust_contrast(tv.adjust_brightness(unit, b), c), s)
    assert torch.allclose(augmented(x, (32, 32), dice) / 255, expected, atol=2e-3)


def test_crops_stay_inside_and_cover_the_area_they_drew() -> None:
    dice = draws(2000, seed=3, epoch=1)
    theta = crops(dice, aspect=0.75)
    reach = np.abs(theta[:, [0, 1], [0, 1]]) + np.abs(theta[:, :, 2])
    assert reach.max() <= 1 + 1e-6
    area = np.abs(theta[:, 0, 0] * theta[:, 1, 1])
    assert area.max() <= 1 + 1e-6
    assert 0.6 < area.mean() < 0.75
    assert 0.45 < np.mean(theta[:, 0, 0] < 0) < 0.55


def test_views_differ_between_epochs_and_pictures_and_repeat() -> None:
    x = image().repeat(3, 1, 1, 1)
    once = augmented(x, (24, 24), draws(3, seed=0, epoch=4))
    assert torch.equal(once, augmented(x, (24, 24), draws(3, seed=0, epoch=4)))
    assert not torch.allclose(once[0], once[1], atol=1.0)
    assert not torch.allclose(once, augmented(x, (24, 24), draws(3, seed=0, epoch=5)), atol=1.0)
    assert torch.allclose(once[1:], augmented(x[1:], (24, 24), draws(3, seed=0, epoch=4)[1:]), atol=1e-3)


def test_a_turn_is_what_torchvision_turns_and_grey_is_grey() -> None:
    x = image(40, 40)
    dice = np.array([[1.0, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5, 0.5, 1.0, 0.05]])
    found = augmented(x, (40, 40), dice, replace(STILL, turn=20.0))
    expected = tv.rotate(x.permute(0, 3, 1, 2).float(), 20.0, tv.InterpolationMode.BILINEAR)
    assert torch.allclose(found[..., 12:28, 12:28], expected[..., 12:28, 12:28], atol=0.5)
    grey = augmented(x, (40, 40), dice, replace(STILL, grey=0.1))
    assert torch.allclose(grey[:, 0], grey[:, 1], atol=1e-3)
    assert not torch.allclose(*augmented(x, (40, 40), dice, replace(STILL, grey=0.01))[:, :2].unbind(1), atol=1.0)


def test_a_turn_keeps_right_angles_in_a_picture_that_is_not_square() -> None:
    dice = np.array([[1.0, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5, 0.5, 0.9, 0.5]])
    theta = crops(dice, 0.5, replace(STILL, turn=30.0))[0]
    pixels = np.diag([2.0, 1.0]) @ theta[:, :2]  # a picture twice as wide as tall; the crop is 1 tall
    assert abs(pixels[:, 0] @ pixels[:, 1]) < 1e-6
