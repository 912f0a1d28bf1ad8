"""What an encoder returned: which output is the mean of q(z | x), and which its spread in which form, told by measurement.

What differs between two calls on the same images is a sample, no parameter; its spread around the mean says what the spread's form is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from visus.errors import DataError, SpecError
from visus.models.vae_faults import NotFiniteError, check_outputs
from visus.models.vae_names import returned_names, role
from visus.models.vae_outputs import FORMS, NAMES, SOFT, Output, Reading, gaussian_of, outputs_of, refuse_other_kinds
from visus.models.vae_samples import DRAWS, draws_of, draws_on_the_way, sampling_methods, walks
from visus.models.vae_theirs import sampling

FIT = 0.05  # by how much the mean square of standardised samples may miss 1
SURE = 10.0  # nats by which one form must beat another
OTHER = frozenset(FORMS) - {"logvar", "softplusvar"}  # names that speak against the documented order
SAME = 1e-3  # relative difference of KL below which two readings are one


class Draws(Protocol):
    """A decoder: draw(z) gives its raw outputs [b, c, h, w], None where z is none of its own, for the reason in `trouble`."""

    trouble: str

    def draw(self, z: torch.Tensor) -> torch.Tensor | None: ...


def read_encoder(
    module: nn.Module,
    encode: Callable[[], Any],
    run: Callable[[str], Any],
    decoder: Draws,
    images: torch.Tensor,
    *,
    name: str,
    asked: str | None = None,
) -> Reading:
    """How to read what `encode` returns.

    encode: calls the module's own on one batch. run: calls the method of that name on the same batch. decoder: decodes what may be z.
    images: the batch, float
    [b, c, h, w]. asked: names of the outputs in order, by commas (see NAMES). Decides only where one reading fits: the
    module's own samples first, then the names of its outputs, then the documented order (mu, logvar). Raises DataError, SpecError.
    """
    try:
        first = encode()
        try:
            if gaussian_of(first) is not None:
                return Reading(0, 0, "logvar", "encode returns a Gaussian distribution")
        except TypeError as error:
            raise DataError(f"{error}; a class of yours may turn it into (mu, logvar)") from error
        return _Evidence(module, encode, run, decoder, images, first).reading(asked)
    except NotFiniteError as error:
        raise error.by(name) from error
    except (DataError, SpecError) as error:
        raise type(error)(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error


class _Evidence:
    """What is known of an encoder's outputs on one batch."""

    def __init__(
        self,
        module: nn.Module,
        encode: Callable[[], Any],
        run: Callable[[str], Any],
        decoder: Draws,
        images: torch.Tensor,
        first: Any,
    ) -> None:
        self.module, self.encode, self.run, self.images = module, encode, run, images
        self.decoder, self.draw = decoder, decoder.draw
        self.found = first
        outputs = outputs_of(first)
        refuse_other_kinds(module, outputs)
        check_outputs(module, encode, outputs)
        self.halves = False
        if len([o for o in outputs if isinstance(o[1], torch.Tensor)]) == 1:
            outputs = self._halved(outputs)
        self.outputs = outputs
        again = self._values(encode())
        n = len(images)
        # What may be a parameter or a sample: one row of numbers an image.
        self.fits = [
            i for i, (_, t) in enumerate(outputs)
            if isinstance(t, torch.Tensor) and t.is_floating_point() and t.ndim >= 2 and len(t) == n
        ]  # fmt: skip
        self.still = [i for i in self.fits if torch.equal(outputs[i][1], again[i])]
        self.moving = [i for i in self.fits if i not in self.still]

    def _values(self, found: Any) -> list[Any]:
        values = [v for _, v in outputs_of(found)]
        return list(values[0].chunk(2, dim=1)) if self.halves else values

    def _halved(self, outputs: list[Output]) -> list[Output]:
        """One tensor: mean and log-variance side by side, where the decoder takes a half and not the whole."""
        ((_, whole),) = [o for o in outputs if isinstance(o[1], torch.Tensor)]
        if not torch.equal(whole, next(v for _, v in outputs_of(self.encode()) if isinstance(v, torch.Tensor))):
            raise DataError(
                "encode gives one output, and another one at every call: a sample of z; what is measured needs (mu, logvar): return "
                "them from encode"
            )
        even = whole.ndim >= 2 and whole.shape[1] % 2 == 0 and len(outputs) == 1
        taken = self.draw(whole) is not None
        if not taken and not (even and self.draw(whole.chunk(2, dim=1)[0]) is not None):
            raise DataError(
                f"encode gives one output of {list(whole.shape)}, and decode takes neither it nor a half of it ({self.decoder.trouble})"
            )
        if taken:
            raise DataError(
                f"encode gives one output of {list(whole.shape)}, the same at every call: an autoencoder without a posterior; a VAE's gives "
                "(mu, logvar), a distribution, or both side by side"
            )
        self.halves = True
        return [("", t) for t in whole.chunk(2, dim=1)]

    def reading(self, asked: str | None) -> Reading:
        if asked is not None:
            return self._as_asked(asked)
        if len(self.still) < 2:
            raise DataError(self._short())
        candidates = self._candidates()
        if not candidates:
            why = f" ({self.decoder.trouble})" if self.decoder.trouble else ""
            raise DataError(
                f"among what encode gives ({self.seen()}) no two of one shape are a mean and its spread{why}"
            )
        source, samples = self._samples(candidates[0].mu)
        if samples is not None:
            fitting = self._fitting(candidates, samples)
            if not fitting:
                raise DataError(self._misfit(candidates, samples, source))
            if len(fitting) == 1:
                return self._told(fitting[0], f"by the spread of {source}")
            candidates = fitting
        named = self._named(candidates)
        if len(named) == 1:
            return self._told(named[0], "by the names of its outputs")
        usual = self._usual(named or candidates)
        if usual is None:
            options = self._options(named or candidates)
            raise DataError(
                f"encode gives {self.seen()}, and whether that is {' or '.join(options[:4])} cannot be told; say it as ?encode={options[0]} "
                f"or as it is (of {', '.join(NAMES)})"
            )
        return usual

    def _told(self, reading: Reading, how: str) -> Reading:
        return replace(reading, told=how, halves=self.halves)

    def seen(self) -> str:
        """The outputs, for a message: their names or numbers, shapes and ranges."""
        parts = []
        for i, (name, t) in enumerate(self.outputs):
            if not isinstance(t, torch.Tensor):
                continue
            text = f"{name or i + 1}: {list(t.shape)}"
            if i in self.fits:
                text += f" from {t.min():.3g} to {t.max():.3g}" + (", other at every call" if i in self.moving else "")
            parts.append(text)
        return "; ".join(parts)

    def _short(self) -> str:
        if len(self.moving) >= 2 and not self.still:
            return (
                f"every output of encode is another at the second call on the same images ({self.seen()}); is there a dropout that eval() does "
                "not turn off? Nothing that changes can be measured"
            )
        return f"encode gives {self.seen()}; mean and log-variance are not among them: return (mu, logvar), or (z, mu, logvar)"

    def _candidates(self) -> list[Reading]:
        """Every reading that shapes, signs and copies allow: copies of one another count once, what follows from another is left out."""
        t = {i: self.outputs[i][1] for i in self.still}
        kept: list[int] = []
        # Out of training z may be mu itself: the one that is not called z is kept, else the last.
        for i in sorted(self.still, key=lambda i: (role(self.outputs[i][0]) == "z", -i)):
            if not any(t[i].shape == t[j].shape and torch.equal(t[i], t[j]) for j in kept):
                kept.append(i)
        allowed: dict[int, set[str]] = {}
        derived: set[int] = set()
        for i, j in itertools.permutations(kept, 2):
            if t[i].shape != t[j].shape:
                continue
            for forms, image in (
                ({"logvar"}, torch.exp(0.5 * t[i])), ({"logvar", "logsigma"}, torch.exp(t[i])), ({"sigma"}, t[i].square()),
            ):  # fmt: skip
                if torch.allclose(image, t[j], rtol=1e-4, atol=1e-7) and not (
                    bool((t[j] == 1).all()) or bool((t[j] == 0).all())
                ):
                    allowed[i] = allowed.get(i, forms) & forms
                    derived.add(j)
        allowed = {i: forms for i, forms in allowed.items() if i not in derived}
        found = []
        for i, j in itertools.permutations(sorted(set(kept) - derived), 2):
            if t[i].shape != t[j].shape or i in allowed or (allowed and j not in allowed) or self.draw(t[i]) is None:
                continue
            forms = allowed.get(j, set(FORMS))
            found += [Reading(i, j, f) for f in FORMS if f in forms and (f != "var" or bool((t[j] > 0).all()))]
        return found

    def _samples(self, like: int) -> tuple[str, torch.Tensor | None]:
        """Draws of z by the module itself, float [draws, b, ...], and whose they are; None where it draws none that can be seen."""
        t = self.outputs[like][1]
        for i in self.moving:
            if self.outputs[i][1].shape == t.shape:
                return "the z that encode draws", self._drawn(i)
        holder = getattr(self.found, "latent_dist", self.found)
        if not isinstance(holder, torch.Tensor | Mapping | tuple | list) and callable(getattr(holder, "sample", None)):
            draws = draws_of(holder.sample, t.shape)
            if draws is not None:
                return "its samples", draws
        for mode in (sampling(self.module), nullcontext()):
            with mode:
                again = self._values(self.encode())
                varies = [i for i in self.still if not torch.equal(again[i], self.outputs[i][1])]
                if (
                    len(varies) == 1 and len(self.still) > 2 and again[varies[0]].shape == t.shape
                ):  # z is mu out of training
                    return "the z that encode draws in training", self._drawn(varies[0])
                if varies:
                    continue
                pair = [self.outputs[i][1] for i in self.still if self.outputs[i][1].shape == t.shape]
                for name, method in sampling_methods(self.module) if len(pair) == 2 else ():
                    draws = draws_of(partial(method, *pair), t.shape)
                    if draws is not None:
                        return f"what {name} draws", draws
                for name in walks(self.module):
                    draws = draws_on_the_way(self.module, partial(self.run, name), t.shape)
                    if draws is not None:
                        return f"the z that {name} decodes", draws
        return "", None

    def _drawn(self, i: int) -> torch.Tensor:
        return torch.stack([self._values(self.encode())[i] for _ in range(DRAWS)])

    def _fitting(self, candidates: Sequence[Reading], z: torch.Tensor) -> list[Reading]:
        """The readings that samples fit: standardised by it they have mean 0 and mean square 1, whatever the spread; far worse ones go."""
        scores = []
        for r in candidates:
            mu, logvar = self.outputs[r.mu][1].double(), FORMS[r.form](self.outputs[r.spread][1]).double()
            if not bool(logvar.isfinite().all()):
                continue
            square = (z.double() - mu).square() * torch.exp(-logvar)
            n = square.numel()
            if abs(float(square.mean()) - 1) > FIT + 5 * (2 / n) ** 0.5 or not _even(square.mean(0), logvar):
                continue
            scores.append((float((square + logvar).mean()) * 0.5 * n, r, float((mu.square() + logvar.exp() - logvar - 1).mean())))  # fmt: skip
        if not scores:
            return []
        scores.sort(key=lambda s: s[0])
        best = scores[0]
        near = [s for s in scores if s[0] - best[0] < SURE]
        near = [s for s in near if s[1].form not in SOFT] or near  # where the spread is small, exp and softplus are one
        best = near[0]
        if all(abs(s[2] - best[2]) <= SAME * max(abs(best[2]), 1e-9) for s in near):
            return [best[1]]
        return [s[1] for s in near]

    def _misfit(self, candidates: Sequence[Reading], z: torch.Tensor, source: str) -> str:
        says = []
        for r in candidates[: 2 * len(FORMS)]:
            square = (z - self.outputs[r.mu][1]).square() * torch.exp(-FORMS[r.form](self.outputs[r.spread][1]))
            says.append(f"{self._order(r)} {float(square.mean().sqrt()):.3g}")
        return (
            f"encode gives {self.seen()}; {source} fits no reading of them (its spread, in units of the one named, is 1 where it fits: "
            f"{'; '.join(says)}); is the posterior a diagonal Gaussian? If so, return (mu, logvar) from encode, or say which outputs "
            f"they are as ?encode={self._options(candidates)[0]}"
        )

    def _named(self, candidates: Sequence[Reading]) -> list[Reading]:
        """The readings that the outputs' names say: of a dict or a dataclass, else of the variables that encode's source returns."""
        names = [role(name) for name, _ in self.outputs]
        if not any(names):
            names = [role(n) for n in returned_names(getattr(type(self.module), "encode", None))]
            if len(names) != len(self.outputs) or self.halves:
                return []
        found = [r for r in candidates if names[r.mu] in ("mu", "") and names[r.spread] == r.form]
        if any(n == "mu" for n in names):
            found = [r for r in found if names[r.mu] == "mu"]
        # 'log_sigma' is written for a log-variance as often as for what it says, 'rho' for more than one thing, and a negative sigma is none.
        return [
            r for r in found
            if r.form not in ("logsigma", *SOFT) and not (r.form == "sigma" and bool((self.outputs[r.spread][1] <= 0).any()))
        ]  # fmt: skip

    def _usual(self, candidates: Sequence[Reading]) -> Reading | None:
        """(mu, logvar) as documented: of two outputs whose second takes negative values and whose names say nothing else.

        The other way round where the second, and not the first, decodes to these images.
        """
        named = [role(n) for n in returned_names(getattr(type(self.module), "encode", None))]
        if OTHER & set(named) and len(named) == len(self.outputs):
            return None
        if OTHER & {role(name) for name, _ in self.outputs}:
            return None
        pairs = {
            (r.mu, r.spread) for r in candidates if r.form == "logvar" and bool((self.outputs[r.spread][1] < 0).any())
        }
        involved = sorted({i for p in pairs for i in p})
        if len(involved) != 2:
            return None
        a, b = involved
        if (a, b) in pairs and (b, a) in pairs:
            kept = [self._likeness(i) for i in (a, b)]
            if kept[1] > 0.3 and kept[1] > kept[0] + 0.2:
                told = f"its second output decodes to the images (correlation {kept[1]:.2f}), its first does not"
                return Reading(b, a, "logvar", told, self.halves)
        if (a, b) not in pairs:
            return None
        told = "by their order and signs, as nothing else could be measured"
        doubt = (
            "that the spread is a log-variance is custom, not measured, since nothing in the module draws z; say it as "
            f"?encode={self._order(Reading(a, b, 'logvar'))} (or logsigma, softplus ...)"
        )
        return Reading(a, b, "logvar", told, self.halves, doubt)

    def _likeness(self, i: int) -> float:
        """Correlation of what output i decodes to with the images, over images, pixel by pixel; whatever the decoder's range."""
        drawn = self.draw(self.outputs[i][1])
        if drawn is None:
            return 0.0
        a, b = (t.double() - t.double().mean(0) for t in (drawn, self.images))
        size = float(a.norm() * b.norm())
        return float((a * b).sum()) / size if size > 0 else 0.0

    def _as_asked(self, asked: str) -> Reading:
        names = [part.strip() for part in asked.split(",")]
        unknown = [n for n in names if n not in NAMES]
        spreads = [i for i, n in enumerate(names) if n in FORMS]
        if unknown or names.count("mu") != 1 or len(spreads) != 1:
            raise SpecError(
                f"?encode={asked} is not understood; name the outputs in order, as mu,logvar or z,mu,sigma (of {', '.join(NAMES)})"
            )
        if len(names) != len(self.outputs):
            raise SpecError(
                f"?encode={asked} names {len(names)} outputs, encode gives {len(self.outputs)}: {self.seen()}"
            )
        mu, spread = names.index("mu"), spreads[0]
        form, values = names[spread], self.outputs[spread][1]
        for i in (mu, spread):
            if i not in self.fits:
                raise SpecError(f"?encode={asked}: output {i + 1} is no {names[i]}; encode gives {self.seen()}")
            if i in self.moving:
                raise SpecError(
                    f"?encode={asked}: output {i + 1} is another at every call, a sample; encode gives {self.seen()}"
                )
        if form in ("sigma", "var") and bool((values < 0).any()):
            raise SpecError(
                f"?encode={asked}: a {form} is never negative, but this output is ({float(values.min()):.3g})"
            )
        reading = Reading(mu, spread, form, "as ?encode says", self.halves)
        source, samples = self._samples(mu)
        if samples is None or self._fitting([reading], samples):
            return reading
        return replace(
            reading, doubt=f"?encode={asked} does not fit the spread of {source}; is it what the module means?"
        )

    def _order(self, r: Reading) -> str:
        names = {r.mu: "mu", r.spread: r.form}
        return ",".join(names.get(i, "z" if i in self.moving else "skip") for i in range(len(self.outputs)))

    def _options(self, candidates: Sequence[Reading]) -> list[str]:
        """The readings as ?encode= takes them, the likelier first: a mean before its spread, a spread that could be one."""
        odd = [r.form in ("sigma", "var") and bool((self.outputs[r.spread][1] <= 0).any()) for r in candidates]
        ranked = sorted(zip(odd, candidates, strict=True), key=lambda o: (o[0], o[1].mu > o[1].spread))
        return list(dict.fromkeys(self._order(r) for _, r in ranked))


def _even(square: torch.Tensor, logvar: torch.Tensor) -> bool:
    """Whether standardised squares [...] are as large where the spread is large as where it is small."""
    a, b = logvar.flatten(), square.clamp_min(1e-12).log().flatten()
    a, b = a - a.mean(), b - b.mean()
    size = float(a.square().sum())
    if size / len(a) < 0.04:
        return True
    noise = float(b.std()) / size**0.5
    return bool(abs(float((a * b).sum()) / size) < FIT + 5 * noise)
