"""Opening a variational autoencoder: a folder that the lab wrote, or anybody's module with encode and decode."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visus.errors import DataError, SpecError
from visus.models.checkpoint import read, take_in
from visus.models.hub import first_line
from visus.models.local import read_config
from visus.models.vae import ConvVae, Decoder, Vae, VaeSizes, new_vae, wrap
from visus.paths import atomic_path, write_text
from visus.spec import Spec, parse_spec

VERSION = 1
WEIGHTS, CONFIG, KEY = "model.safetensors", "config.json", "visus_vae"


def save_vae(folder: Path, network: ConvVae, *, info: Mapping[str, Any]) -> Path:
    """Write a folder that `load_vae` opens: config.json and model.safetensors, each whole or not at all. Raises StoreError."""
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, str(temporary), metadata={"format": "pt"})
    config = {KEY: VERSION, **network.config(), "info": dict(info)}
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    return folder


def load_vae(text: str, *, shape: tuple[int, int, int], decoder: Decoder | None = None, seed: int = 0) -> Vae:
    """A VAE by its spec: a folder that `visus vae` wrote, or python:MODULE:CLASS?weights=FILE&ARGUMENT=VALUE.

    shape: (c, h, w) of the pictures it will see; another's module is tried on one. decoder: the likelihood of another's module (default
    Gaussian of variance 1/2). The class is imported from the Python path or the working folder, made with the arguments (JSON values, else
    texts), and must have encode(x) -> (mu, logvar), or a distribution with mean and stddev, or an object with `latent_dist`; and decode(z) ->
    mean in [0, 1]. Its weights are safetensors (or a state_dict read without executing it). With a method loss(x) -> scalar, the study
    measures what beta that loss has. Raises DataError, SpecError.
    """
    spec = parse_spec(text, ("python",))
    if spec.scheme == "python":
        return _foreign(spec, shape, decoder or Decoder(), seed)
    path = Path(spec.name).expanduser()
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
    path = Path(spec.name).expanduser()
    if spec.scheme or not path.is_dir():
        return None
    sizes = read_config(path).get("sizes")
    return (sizes["channels"], sizes["height"], sizes["width"]) if isinstance(sizes, dict) and len(sizes) > 2 else None


def _foreign(spec: Spec, shape: tuple[int, int, int], decoder: Decoder, seed: int) -> Vae:
    name, _, kind = spec.name.partition(":")
    if not kind:
        raise SpecError(f"{spec.text!r} names no class; write python:MODULE:CLASS?weights=FILE")
    if decoder.kind == "learned-gaussian":
        raise DataError("the learned variance of another's module is not known; say --decoder gaussian or bernoulli")
    options = dict(spec.options)
    weights = options.pop("weights", None)
    module = _made(spec, name, kind, {k: _value(v) for k, v in options.items()}, seed)
    if weights and weights != "none":
        file = Path(weights).expanduser()
        if not file.is_file():
            raise DataError(f"there is no file {file}; give the module's weights as ?weights=FILE")
        take_in(module, read(file), what=f"{file} into {spec.name}")
    module.eval().requires_grad_(requires_grad=False)
    encode, decode, latent = _doors(spec, module, shape)
    loss = getattr(module, "loss", None)
    return Vae(
        spec.text, module, shape, latent, decoder, encode, decode,
        loss=loss if callable(loss) else None, random=not weights or weights == "none", info={"class": spec.name},
    )  # fmt: skip


def _made(spec: Spec, name: str, kind: str, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """The class, imported as Python would from the working folder, and made."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found: Any = getattr(importlib.import_module(name), kind)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f"{spec.text!r}: {first_line(error)}; start visus in the module's folder, or install it"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = found(**arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            raise SpecError(
                f"{spec.text!r}: the class cannot be made ({first_line(error)}); give its arguments as ?NAME=VALUE&NAME=VALUE"
            ) from error
    if not isinstance(module, nn.Module) or not all(callable(getattr(module, m, None)) for m in ("encode", "decode")):
        raise SpecError(f"{spec.text!r} is no torch module with the methods encode and decode")
    return module


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


Encode = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Decode = Callable[[torch.Tensor], torch.Tensor]


def _doors(spec: Spec, module: Any, shape: tuple[int, int, int]) -> tuple[Encode, Decode, int]:
    """encode and decode on flat latents, tried on one grey picture, and the number of latent dimensions."""
    blank = torch.full((2, *shape), 0.5)
    try:
        with torch.inference_mode():
            mu, logvar = posterior_of(module.encode(blank))
            inner = tuple(mu.shape[1:])
            mean = _mean_of(module.decode(mu))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{spec.name} does not take pictures of {list(shape)}: {first_line(error)}") from error
    if mu.shape != logvar.shape or mean.shape != blank.shape:
        raise DataError(
            f"{spec.name}: mu {list(mu.shape)}, logvar {list(logvar.shape)} and the decoded {list(mean.shape)} do not fit pictures of "
            f"{list(blank.shape)}; encode gives (mu, logvar) of one shape, decode the pictures'"
        )

    def encode(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mu, logvar = posterior_of(module.encode(x))
        return mu.flatten(1), logvar.flatten(1)

    def decode(z: torch.Tensor) -> torch.Tensor:
        return _mean_of(module.decode(z.view(len(z), *inner)))

    return encode, decode, int(mu[0].numel())


def posterior_of(found: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(mu, logvar) of what an encode method returned. Raises TypeError for something else."""
    found = getattr(found, "latent_dist", found)
    if isinstance(found, torch.distributions.Distribution):
        return found.mean, 2 * torch.log(found.stddev)
    if isinstance(found, tuple | list) and len(found) >= 2 and all(isinstance(t, torch.Tensor) for t in found[:2]):
        return found[0], found[1]
    # diffusers' DiagonalGaussianDistribution, pythae's ModelOutput.
    for mean, spread in (("mean", "logvar"), ("embedding", "log_covariance"), ("mu", "logvar")):
        pair = getattr(found, mean, None), getattr(found, spread, None)
        if all(isinstance(t, torch.Tensor) for t in pair):
            return pair  # type: ignore[return-value]
    raise TypeError(f"encode gave {type(found).__name__}, not (mu, logvar)")


def _mean_of(found: Any) -> torch.Tensor:
    """The decoded pictures of what a decode method returned."""
    for name in ("sample", "reconstruction"):
        inner = getattr(found, name, None)
        if isinstance(inner, torch.Tensor):
            return inner
    if isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, torch.Tensor):
        raise TypeError(f"decode gave {type(found).__name__}, not pictures")
    return found
