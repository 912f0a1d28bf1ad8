"""Opening a variational autoencoder: a folder that the lab wrote, or anybody's module with encode and decode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from visus.errors import DataError
from visus.models.checkpoint import read, take_in
from visus.models.folders import read_config
from visus.models.hub import first_line
from visus.models.vae import ConvVae, Decoder, Vae, VaeSizes, new_vae, wrap
from visus.models.vae_foreign import foreign
from visus.paths import atomic_path, expanded, write_text
from visus.spec import parse_spec

VERSION = 1
WEIGHTS, CONFIG, KEY = "model.safetensors", "config.json", "visus_vae"


def save_vae(folder: Path, network: ConvVae, *, info: Mapping[str, Any]) -> Path:
    """Write a folder that `load_vae` opens: config.json and model.safetensors, each whole or not at all. Raises StoreError."""
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, str(temporary), metadata={"format": "pt"})
    config = {KEY: VERSION, **network.config(), "info": dict(info)}
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    return folder


def load_vae(
    text: str,
    *,
    shape: tuple[int, int, int],
    decoder: Decoder | None = None,
    images: np.ndarray | None = None,
    seed: int = 0,
) -> Vae:
    """A VAE by its spec: a folder that `visus vae` wrote, or python:MODULE:CLASS?weights=FILE&ARGUMENT=VALUE.

    shape: (c, h, w) of the images it will see. decoder: the likelihood of another's module (default Gaussian of variance 1/2, in the
    decoder's own range). images: uint8 [n, h, w, c], some of them, on which another's module is read. The class is imported from the Python
    path or the working folder, made with the arguments (JSON values, else texts), and must have encode(x), which returns mean and spread of
    a Gaussian in any of the usual ways, and decode(z) -> mean. How they are to be read is measured and noted; ?encode=, ?input= and ?decode=
    say it outright. Its weights are safetensors (or a state_dict read without executing it). With a method loss(x) -> scalar, the
    study measures what beta that loss has. Raises DataError, SpecError, also where it cannot be told.
    """
    spec = parse_spec(text, ("python",))
    if spec.scheme == "python":
        return foreign(spec, shape, decoder or Decoder(), images=images, seed=seed)
    path = expanded(spec.name)
    if not path.is_dir():
        raise DataError(
            f"there is no folder {path}; --checkpoint takes what visus vae wrote, or python:MODULE:CLASS?weights=FILE"
        )
    return _ours(text, path, shape)


def _ours(text: str, path: Path, shape: tuple[int, int, int]) -> Vae:
    config = read_config(path)
    if KEY not in config:
        raise DataError(
            f"{path} holds no VAE of visus; give a folder that visus vae wrote, or python:MODULE:CLASS?weights=FILE"
        )
    try:
        network = new_vae(VaeSizes(**config["sizes"]), Decoder(**config["decoder"]), seed=0)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path / CONFIG} is damaged ({first_line(error)}); train the model again") from error
    s = network.sizes
    if (s.channels, s.height, s.width) != shape:
        raise DataError(
            f"{path} was trained on pictures of {s.width} x {s.height} with {s.channels} channels, these have "
            f"{shape[2]} x {shape[1]} with {shape[0]}; give the images it was trained on"
        )
    if not (path / WEIGHTS).is_file():
        raise DataError(f"{path} holds a config and no {WEIGHTS}; train the model again")
    take_in(network, read(path / WEIGHTS), what=f"{path / WEIGHTS} into the VAE")
    return wrap(network, text, info=config.get("info") or {})


def shape_of(text: str) -> tuple[int, int, int] | None:
    """(c, h, w) that a VAE of the lab's was trained on, by its folder; None for another's module. Raises DataError."""
    spec = parse_spec(text, ("python",))
    path = expanded(spec.name)
    if spec.scheme or not path.is_dir():
        return None
    sizes = read_config(path).get("sizes")
    return (sizes["channels"], sizes["height"], sizes["width"]) if isinstance(sizes, dict) and len(sizes) > 2 else None
