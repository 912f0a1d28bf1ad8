"""Anybody's VAE as one of ours: how its encode, its pixels and its decode are to be read is measured on the images, and said."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import distributions, nn

from visus.errors import DataError
from visus.models.vae import Decoder, Vae
from visus.models.vae_faults import bad_weights, check_posterior
from visus.models.vae_outputs import WORDS, Reading
from visus.models.vae_posterior import read_encoder
from visus.models.vae_scale import UNIT, Scale, Scales, scale, told_scales
from visus.models.vae_scale import WORDS as RANGES
from visus.models.vae_theirs import dtype_of, made, required, theirs
from visus.progress import caution, note
from visus.spec import Spec

TRIED = 64  # images on which a module is read
IMAGE_NAMES = ("sample", "reconstruction", "recon", "recon_x", "x_recon", "x_hat", "mean", "mu", "x_logits", "logits")


def foreign(spec: Spec, shape: tuple[int, int, int], decoder: Decoder, *, images: np.ndarray | None, seed: int) -> Vae:
    """python:MODULE:CLASS?weights=FILE as a Vae.

    Options that are not the class's: weights; encode, the outputs of encode by name; input and decode, the range of pixels (see vae_scale).
    images: uint8 [n, h, w, c], some of those to be examined: what is not said is measured on them. Without them only what shapes
    and ranges tell is known. Raises DataError, SpecError.
    """
    if decoder.kind == "learned-gaussian":
        raise DataError("the learned variance of another's module is not known; say --decoder gaussian or bernoulli")
    options = dict(spec.options)
    weights, asked, asked_in, asked_out = (options.pop(k, None) for k in ("weights", "encode", "input", "decode"))
    if asked_in:
        scale(asked_in, option="input", channels=shape[0])
    if asked_out:
        scale(asked_out, option="decode", channels=shape[0])
    module = made(spec, {k: _value(v) for k, v in options.items()}, weights, seed=seed)
    x = _stand_ins(shape) if images is None else _floats(images[:TRIED])
    calls = Calls(module, spec.name, shape)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        calls.lay_out(x)
        given = scale(asked_in, option="input", channels=shape[0]) if asked_in else UNIT
        reading = calls.read(given.into(x), x, asked)
        try:
            scales = told_scales(
                lambda inside: calls.image(reading.pair(calls.encode(inside))[0]), x,
                asked_input=asked_in, asked_output=asked_out, real=images is not None,
            )  # fmt: skip
        except DataError as error:
            raise DataError(f"{spec.name}: {str(error).removeprefix(f'{spec.name}: ')}") from error
        if scales.input is not given:
            reading = calls.read(scales.input.into(x), x, asked)
        latent = calls.check(scales.input.into(x), reading)
    if decoder.kind == "gaussian" and not scales.output.logits:
        decoder = replace(decoder, variance=decoder.variance * scales.output.square)
    _say(spec, reading, scales, decoder, measured=images is not None)

    def encode(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mu, logvar = reading.pair(calls.encode(scales.input.into(x)))
        return mu.flatten(1).float(), logvar.flatten(1).float()

    def decode(z: torch.Tensor) -> torch.Tensor:
        return scales.output.back(calls.image(z).float())

    return Vae(
        spec.text, module, shape, latent, decoder, encode, decode,
        loss=_loss(module, calls, scales.input), random=not weights or weights == "none", info={"class": spec.name},
    )  # fmt: skip


class Calls:
    """A module's own encode, decode and forward, on images [b, c, h, w] or rows of pixels, whichever it takes."""

    def __init__(self, module: Any, name: str, shape: tuple[int, int, int]) -> None:
        self.module, self.name, self.shape, self.flat = module, name, shape, False
        self.trouble = ""  # why the last z was not decoded
        self.layout: Callable[[torch.Tensor], torch.Tensor] | None = None

    def laid(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) if self.flat else x).to(dtype_of(self.module))

    def encode(self, x: torch.Tensor) -> Any:
        """What encode returns. Raises DataError, naming file and line, for whatever it raises."""
        with theirs(f"{self.name} does not take pictures of {list(self.laid(x).shape[1:])}: encode"):
            return self.module.encode(self.laid(x))

    def run(self, method: str, x: torch.Tensor) -> Any:
        """What a method of the module that takes images returns. Raises DataError for whatever it raises."""
        with theirs(f"{self.name}: {method}"):
            return getattr(self.module, method)(self.laid(x))

    def lay_out(self, x: torch.Tensor) -> None:
        """Find out whether encode takes images, or rows of c h w pixels."""
        try:
            self.encode(x)
        except DataError:
            self.flat = True
            try:
                self.encode(x)
            except DataError:
                self.flat = False
                self._tell(x)

    def _tell(self, x: torch.Tensor) -> None:
        """Raise the error of encode on images; with the weights that are no numbers, if such there are."""
        try:
            self.encode(x)
        except DataError as error:
            weights = bad_weights(self.module)
            raise DataError(f"{error}; {weights}" if weights else str(error)) from error

    def draw(self, z: torch.Tensor) -> torch.Tensor | None:
        """The decoder's raw outputs [b, c, h, w] of z as it came from encode, as rows, or as [b, d, 1, 1]; None where none of them is decoded."""
        for layout in (_as_it_is, _rows, _points):
            try:
                found = self._decoded(layout(z))
            except DataError as error:
                self.trouble = self.trouble or str(error)
                continue
            self.layout = layout
            return found
        return None

    def image(self, z: torch.Tensor) -> torch.Tensor:
        """The decoder's raw outputs, float [b, c, h, w], of z in rows or as it came from encode."""
        return self._decoded(z.view(len(z), *self.inner))

    def read(self, inside: torch.Tensor, x: torch.Tensor, asked: str | None) -> Reading:
        """How encode is to be read, and in which layout its mean is decoded."""
        self.trouble = ""
        reading = read_encoder(
            self.module,
            lambda: self.encode(inside),
            lambda method: self.run(method, inside),
            self,
            x,
            name=self.name,
            asked=asked,
        )
        mu, logvar = reading.pair(self.encode(inside))
        check_posterior(self.module, lambda: self.encode(inside), mu, logvar, name=self.name)
        if self.draw(mu) is None:
            raise DataError(self.trouble)
        assert self.layout is not None
        self.inner = tuple(self.layout(mu).shape[1:])
        if mu.shape != logvar.shape:
            raise DataError(
                f"{self.name}: mu {list(mu.shape)} and its spread {list(logvar.shape)} are of different shapes"
            )
        return reading

    def check(self, inside: torch.Tensor, reading: Reading) -> int:
        """Latent dimensions. Raises DataError for a decoder that draws, and warns of an encoder that looks at the whole batch."""
        mu, _ = reading.pair(self.encode(inside))
        if not torch.equal(self.image(mu), self.image(mu)):
            raise DataError(
                f"{self.name}: decode gives another picture at every call on the same z; return the mean, not a sample of it"
            )
        half = max(len(inside) // 2, 1)
        alone = reading.pair(self.encode(inside[:half]))[0]
        if len(inside) > 1 and not torch.allclose(alone, mu[:half], rtol=1e-2, atol=1e-2 * float(mu.std())):
            caution(
                f"{self.name}: what it says of an image depends on the others in the batch (a BatchNorm without running statistics?); its "
                "numbers hold for batches as this study makes them"
            )
        return int(mu[0].numel())

    def _decoded(self, z: torch.Tensor) -> torch.Tensor:
        with theirs(f"{self.name} does not decode z of {list(z.shape)}: decode"):
            found = _mean_of(self.module.decode(z.to(dtype_of(self.module)))).float()
        c, h, w = self.shape
        if found.shape[1:] == (h, w, c) != (c, h, w):
            return found.permute(0, 3, 1, 2)
        if len(found) != len(z) or found[0].numel() != c * h * w:
            raise DataError(
                f"{self.name}: z of {list(z.shape)} is decoded to {list(found.shape)}, which do not fit pictures of {[len(z), c, h, w]}"
            )
        return found.reshape(len(z), c, h, w)


def _as_it_is(z: torch.Tensor) -> torch.Tensor:
    return z


def _rows(z: torch.Tensor) -> torch.Tensor:
    return z.flatten(1)


def _points(z: torch.Tensor) -> torch.Tensor:
    return z.flatten(1)[..., None, None]


def _say(spec: Spec, reading: Reading, scales: Scales, decoder: Decoder, *, measured: bool) -> None:
    """What was taken, for the page; what is to be known, for its warnings."""
    ranges = [RANGES.get(s.name, s.name) for s in (scales.input, scales.output)]
    text = f"{spec.name}: encode read as the mean and {WORDS[reading.form]} ({reading.told})"
    text += f"; pixels go in as {ranges[0]} and come out as {ranges[1]} ({scales.told or 'as said'})"
    if decoder.kind == "gaussian" and scales.output.square != 1 and not scales.output.logits:
        text += f"; --variance, of the decoder's own outputs, is {decoder.variance:.3g} in [0, 1]"
    note(text)
    if scales.doubt:
        caution(f"{spec.name}: {scales.doubt}")
    if reading.doubt:
        caution(f"{spec.name}: {reading.doubt}")


def _loss(module: nn.Module, calls: Calls, inside: Scale) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The module's own loss(x), on the pixels that it takes; None without a method that asks for the images alone."""
    loss = getattr(module, "loss", None)
    if not callable(loss) or isinstance(loss, nn.Module):
        return None
    if (needed := required(loss)) is not None and len(needed) != 1:
        note(
            f"{calls.name}: its loss({', '.join(needed)}) asks for more than the images, so its effective beta is not measured"
        )
        return None

    def measured(x: torch.Tensor) -> torch.Tensor:
        with theirs(f"{calls.name}: loss"):
            found = loss(calls.laid(inside.into(x)))
        if isinstance(found, Mapping) and "loss" in found:
            found = found["loss"]
        elif isinstance(found, tuple | list) and found:
            found = found[0]
        if not isinstance(found, torch.Tensor):
            raise DataError(
                f"{calls.name}: its loss gave {type(found).__name__}, not a tensor that depends on the weights"
            )
        return found

    return measured


def _mean_of(found: Any) -> torch.Tensor:
    """The decoded images of what a decode method returned. Raises TypeError for something else."""
    if isinstance(found, distributions.Distribution):
        mean: torch.Tensor = found.mean
        return mean
    if isinstance(found, tuple | list) and found:
        return _mean_of(found[0])
    for name in () if isinstance(found, torch.Tensor) else IMAGE_NAMES:
        inner = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
        if isinstance(inner, torch.Tensor):
            return inner
    if not isinstance(found, torch.Tensor):
        names = f" of {', '.join(map(str, found))}" if isinstance(found, Mapping) else ""
        raise TypeError(
            f"it gave {type(found).__name__}{names}, not pictures; name them {IMAGE_NAMES[0]} or {IMAGE_NAMES[-1]}"
        )
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _floats(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def _stand_ins(shape: tuple[int, int, int]) -> torch.Tensor:
    """Blocks of grey levels, where no images are at hand."""
    c, h, w = shape
    small = torch.rand(TRIED, c, 4, 4, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(small, (h, w), mode="bilinear")
