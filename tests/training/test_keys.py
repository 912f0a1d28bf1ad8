"""Trainings that were finished before are found again: what names their folders stays as it was, whatever the classes are called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xxhash

from visus.models.dual_new import ClipConfig
from visus.models.vae import Decoder, VaeSizes
from visus.training import checkpoint
from visus.training.from_scratch import Plan
from visus.training.parts import Parts
from visus.training.recipe import Recipe
from visus.training.vae import KLSchedule, VaePlan


def test_the_folder_of_a_vae_is_named_as_it_was() -> None:
    plan = VaePlan("any", VaeSizes(8, 8), Decoder(), KLSchedule(beta=2.0, warmup=1), Recipe(1e-3))
    assert plan.key("pictures") == "vae-6957f676f6e16bac7d20fddf"


def test_a_folder_says_of_its_training_what_it_said() -> None:
    plan = Plan(
        Parts(np.arange(4), np.arange(4, 6), np.arange(6, 8)), ClipConfig(32, 8, 64, 1), Recipe(1e-3), Path("anywhere")
    )
    said = json.dumps([plan.content(), plan.describe()])
    assert xxhash.xxh3_128_hexdigest(said.encode()) == "aecf47e0e1e82d2148117a8e950fc152"


def test_the_files_of_a_run_are_called_as_they_were() -> None:
    names = (checkpoint.LAST, checkpoint.BEST, checkpoint.DONE, checkpoint.LOGITS)
    assert names == ("last.ckpt", "best.ckpt", "run.json", "logits.npy")
