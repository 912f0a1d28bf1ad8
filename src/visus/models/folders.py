"""What lies in a checkpoint folder: its config.json, its weights by their usual names, and the checkpoints of a training run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visus.errors import DataError
from visus.progress import note

# The usual names of weights, the likeliest first.
TIMM_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "model.pt", "model.pth")
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def read_config(path: Path) -> dict[str, Any]:
    """A checkpoint folder's config.json. Raises DataError when it is missing or damaged."""
    try:
        body = json.loads((path / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path} is no checkpoint folder: it holds no config.json (transformers, timm) and no open_clip_config.json"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path / 'config.json'} cannot be read: {error}") from error
    if not isinstance(body, dict):
        raise DataError(f"{path / 'config.json'} holds no settings; save the model again")
    return body


def trained_step(path: Path) -> Path | None:
    """Which checkpoint-N of a Trainer's run to load: the best by trainer_state.json where that is there, else the newest; it is noted.

    None for a folder without any.
    """
    steps = {
        int(p.name.rpartition("-")[2]): p for p in path.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit()
    }
    steps = {n: p for n, p in steps.items() if (p / "config.json").is_file() or (p / "adapter_config.json").is_file()}
    if not steps:
        return None
    newest = steps[max(steps)]
    try:
        best = json.loads((newest / "trainer_state.json").read_text("utf-8")).get("best_model_checkpoint")
    except (OSError, ValueError, AttributeError):
        best = None
    chosen = {p.name: p for p in steps.values()}.get(str(best or "").replace("\\", "/").rpartition("/")[2])
    why = "the best by its trainer_state.json" if chosen else "the newest"
    chosen = chosen or newest
    if len(steps) > 1:
        names = ", ".join(steps[n].name for n in sorted(steps))
        note(
            f"{path} is a training run with {names}: {chosen.name} was taken, {why}; give a checkpoint's own path for another"
        )
    return chosen
