"""Regimes that were trained before are found again: their folders are named as they were, whatever the classes are called."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from visus.studies.transfer.regimes.runs import content_key
from visus.training.budget import RegimeBudget
from visus.training.devices import Devices
from visus.training.training_data import Settings, TrainingData


class Images:
    fingerprint = "abc"


class Network:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    fingerprint = "def"


def test_the_folder_of_a_regime_is_named_as_it_was() -> None:
    images, network = Images(), Network()
    data = TrainingData(images, np.arange(8) % 2, 2, np.arange(4), np.arange(4, 6), np.arange(6, 8))  # type: ignore[arg-type]
    budget = asdict(RegimeBudget(10, 224, (1e-4, 3e-4), 3))
    asked: Any = (32, 1, 0, asdict(Settings()), asdict(Devices()))
    assert content_key(data, {"full": network}, budget, asked) == "9302b401399f0a9edbd2ff91"  # type: ignore[dict-item]
