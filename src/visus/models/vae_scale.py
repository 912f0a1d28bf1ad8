"""Which numbers another's VAE takes for pixels and gives for them: 0..1, -1..1, 0..255, logits; told by how well it reconstructs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from visus.errors import DataError, SpecError

SLACK = 1e-3
CLEAR = 1.25  # times: the error of every other reading, where one is taken that is not the usual one
USED = 0.9  # of the mean image's error, at most: an encoder that is heard, so that its input can be told
NO_WORSE = 1.05  # times the mean image's error: a decoder whose outputs are images at all
POOR = 1.25  # times the mean image's error, which a collapsed VAE just about reaches: from there on something is wrong
EVEN = 1.02, 3.0  # a ratio of errors and a paired z-score; below either the usual reading is not beaten
IMAGENET = "0.485,0.456,0.406/0.229,0.224,0.225"
MNIST = "0.1307/0.3081"


@dataclass(frozen=True)
class Scale:
    """What pixels in [0, 1] are to a network: (x - mean) / deviation, by channel; or, of a decoder's outputs, logits."""

    name: str
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    logits: bool = False

    def into(self, x: torch.Tensor) -> torch.Tensor:
        """Images in [0, 1], float [..., c, h, w], as the network takes them."""
        return x if self.name == "unit" else (x - self._wide(self.mean, x)) / self._wide(self.deviation, x)

    def back(self, raw: torch.Tensor) -> torch.Tensor:
        """What the network gives, float [..., c, h, w], as images in [0, 1]."""
        if self.logits:
            return torch.sigmoid(raw)
        return raw if self.name == "unit" else raw * self._wide(self.deviation, raw) + self._wide(self.mean, raw)

    @property
    def square(self) -> float:
        """A variance of 1 in the network's outputs is this in [0, 1] (of channels that differ, their mean)."""
        return sum(d * d for d in self.deviation) / len(self.deviation)

    def _wide(self, values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)


UNIT = Scale("unit")
NAMED: Mapping[str, Scale] = {
    "unit": UNIT,
    "signed": Scale("signed", (0.5,), (0.5,)),
    "bytes": Scale("bytes", (0.0,), (1 / 255,)),
    "logits": Scale("logits", logits=True),
}
WORDS = {"unit": "0 to 1", "signed": "-1 to 1", "bytes": "0 to 255", "logits": "logits"}
INPUTS, OUTPUTS = ("unit", "signed", "bytes"), ("unit", "logits", "signed", "bytes")


def scale(text: str, *, option: str, channels: int) -> Scale:
    """'unit', 'signed', 'bytes', 'logits' (of a decoder), or MEAN/DEVIATION as 0.1307/0.3081, by channel with commas. Raises SpecError."""
    known = INPUTS if option == "input" else OUTPUTS
    if text in known:
        return NAMED[text]
    try:
        mean, deviation = ([float(v) for v in part.split(",")] for part in text.split("/"))
    except ValueError:
        raise SpecError(
            f"?{option}={text} is not understood; write {', '.join(known)}, or MEAN/DEVIATION as {MNIST}"
        ) from None
    if not {len(mean), len(deviation)} <= {1, channels} or not all(d > 0 for d in deviation):
        raise SpecError(f"?{option}={text}: give one mean and deviation, or {channels}, deviations above 0")
    return Scale(text, tuple(mean), tuple(deviation))


@dataclass(frozen=True)
class Scales:
    """How pixels go in and come out. told: how that was found, for the page ('' where the user said both). doubt: what to know, or ''."""

    input: Scale
    output: Scale
    told: str = ""
    doubt: str = ""


@dataclass(frozen=True)
class _Tried:
    input: Scale
    output: Scale
    errors: torch.Tensor  # mean square by image, float64 [n]
    channels: int

    @property
    def error(self) -> float:
        return float(self.errors.mean())

    @property
    def words(self) -> str:
        return f"?input={self.input.name}&decode={self.output.name}"


def told_scales(
    rebuild: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    *,
    asked_input: str | None,
    asked_output: str | None,
    real: bool,
) -> Scales:
    """The scales under which a VAE reconstructs `images`, float [n, c, h, w] in [0, 1].

    rebuild: images as the network takes them -> its decoder's raw outputs at the posterior mean. real: whether the images are the
    user's; else only the range of the outputs is judged. [0, 1] both ways, as documented, stands unless another reading is clearly better; it
    is never guessed between others. Raises DataError with the errors where it cannot be told, SpecError.
    """
    channels = images.shape[1]
    ins = [scale(asked_input, option="input", channels=channels)] if asked_input else [NAMED[n] for n in INPUTS]
    outs = [scale(asked_output, option="decode", channels=channels)] if asked_output else [NAMED[n] for n in OUTPUTS]
    if not asked_input and real:
        ins.append(Scale("normalised", *_normalised(channels)))
    if not asked_output and real:
        outs.append(Scale("normalised", *_normalised(channels)))
    usual_in, usual_out = ins[0], outs[0]
    raw = {usual_in.name: rebuild(usual_in.into(images))}
    for s in ins[1:] if real else ():
        try:
            raw[s.name] = rebuild(s.into(images))
        except DataError:
            continue  # numbers that it cannot take are not those that it was made for
    inside = bool((raw[usual_in.name].min() >= -SLACK) & (raw[usual_in.name].max() <= 1 + SLACK))
    tried = [_Tried(i, o, _errors(o.back(raw[i.name]), images), channels) for i in ins if i.name in raw for o in outs]
    usual = next(t for t in tried if t.input is usual_in and t.output is usual_out)
    if asked_input and asked_output:
        return Scales(usual_in, usual_out, doubt=_doubt(usual, images) if real else "")
    plain = float((images - images.mean(0)).square().mean())
    best = min(tried, key=lambda t: t.error)
    # Outputs that all lie in [0, 1] are a sigmoid's unless another reading shows the images: squeezed to a grey, anything nears their mean.
    if not real or not best.error <= (USED if inside and best is not usual else NO_WORSE) * plain:
        return _by_range(
            usual, best, raw[usual_in.name], inside=inside or bool(asked_output), plain=plain if real else None
        )
    if _not_beaten(usual, best):
        return Scales(usual_in, usual_out, _measured(usual, tried))
    others = min((t.error for t in tried if t is not best), default=float("inf"))
    clear = others >= CLEAR * best.error and (best.input is usual_in or best.error <= USED * plain)
    if not clear or "normalised" in (best.input.name, best.output.name):
        raise DataError(_undecided(tried, plain))
    return Scales(best.input, best.output, _measured(best, tried))


def _normalised(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and deviations that images are often normalised by: recognised, never taken, since there are many."""
    mean, deviation = (MNIST if channels == 1 else IMAGENET).split("/")
    if channels not in (1, 3):
        return (0.45,), (0.225,)
    return tuple(map(float, mean.split(","))), tuple(map(float, deviation.split(",")))


def _errors(drawn: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return (drawn.double() - images.double()).square().flatten(1).mean(1).nan_to_num(float("inf"))


def _not_beaten(usual: _Tried, best: _Tried) -> bool:
    if usual is best or usual.error <= EVEN[0] * best.error:
        return True
    gain = usual.errors - best.errors
    return bool(float(gain.mean()) < EVEN[1] * float(gain.std()) / len(gain) ** 0.5)


def _measured(taken: _Tried, tried: Sequence[_Tried]) -> str:
    rest = sorted((t for t in tried if t is not taken), key=lambda t: t.error)
    return f"mean squared error of reconstructions {taken.error:.2g}" + (
        f", next {rest[0].words} with {rest[0].error:.2g}" if rest else ""
    )


def _by_range(usual: _Tried, best: _Tried, raw: torch.Tensor, *, inside: bool, plain: float | None) -> Scales:
    """[0, 1] where all outputs lie there; else nothing is known."""
    spread = f"{float(raw.min()):.3g} to {float(raw.max()):.3g}"
    if not inside:
        raise DataError(
            f"decode gives numbers from {spread}, which are no pixels in [0, 1]"
            + ("" if plain is None else ", and reconstructs the images under no reading of them")
            + "; say what they are as ?decode=logits, signed, bytes, or unit for a mean without bounds"
        )
    doubt = "" if plain is None or usual.error <= POOR * plain else _poor(usual.error, plain)
    return Scales(usual.input, usual.output, f"by its outputs' range, {spread}", doubt)


def _doubt(tried: _Tried, images: torch.Tensor) -> str:
    plain = float((images - images.mean(0)).square().mean())
    return "" if tried.error <= POOR * plain else _poor(tried.error, plain)


def _poor(error: float, plain: float) -> str:
    return (
        f"its reconstructions are further from the images (mean squared error {error:.2g}) than their mean picture is ({plain:.2g}): is it "
        "trained, and are ?input= and ?decode= as it was trained?"
    )


def _undecided(tried: Sequence[_Tried], plain: float) -> str:
    nearest = sorted(tried, key=lambda t: t.error)[:4]
    says = "; ".join(f"{t.words} {t.error:.3g}" for t in nearest)
    guess = {1: MNIST, 3: IMAGENET}.get(tried[0].channels, "0.45/0.225")
    end = f"'normalised' as a guess at {guess}" if "normalised" in says else ""
    return (
        f"which pixels the module was trained on cannot be told from its reconstructions: mean squared errors {says} (of the mean picture "
        f"{plain:.3g}){f', {end}' if end else ''}; say it as ?input=...&decode=... (unit, signed, bytes, logits, or MEAN/DEVIATION)"
    )
