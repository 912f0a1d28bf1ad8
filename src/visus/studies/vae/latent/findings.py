"""The verdict on collapse with its reasons, what to try, and where a loss weighs the KL otherwise than asked."""

from __future__ import annotations

import math

from visus.formats import percent
from visus.result import Finding
from visus.studies.vae.latent.measure import LatentMeasures, LatentRow

TOLERANCE = 0.02  # of the effective beta, relative
UNEXPLAINED = 0.05  # of a loss's gradient, that is neither reconstruction nor KL
HEAVY = 1.5  # a beta above which it is the first thing to lower
NEAR_BOUND = 0.9  # of the information that the images can show
TABLE = ("collapse",)


def findings(m: LatentMeasures) -> tuple[Finding, ...]:
    said: list[Finding] = []
    if not m.swept:
        for r in m.rows:
            said += _collapse(r)
        said += [_gained(r, m.rows[0]) for r in m.rows[1:]]
    return (*said, *(caution for r in m.rows for caution in cautions(r)))


def _collapse(r: LatentRow) -> list[Finding]:
    active = (r.key("active-dimensions"),)
    first, *more = collapse(r)
    told = [(text, active) for text in more]
    text = (
        f"{r.name}: image and code share {r.information:.1f} ± {r.information_stderr:.1f} nats, "
        f"of {r.information_bound:.1f} that these images can show."
    )
    told.append((text, (r.key("mutual-information"),)))
    if r.effective_beta is not None:
        text = f"{r.name}: effective beta {r.effective_beta:.3g}, by the gradient of its loss."
        told.append((text, (r.key("effective-beta"),)))
    told += [(f"To try with {r.name}: {text}.", active) for text in advice(r)]
    verdict = Finding(first, active, (*TABLE, "dimensions"))
    return [verdict, *(Finding(text, keys, TABLE) for text, keys in told)]


def collapse(r: LatentRow) -> list[str]:
    """The verdict, and what makes it."""
    if not r.active:
        return [
            f"{r.name} {r.state}: all {r.latent} posteriors are the prior, whatever the image, and the decoder draws one picture."
        ]
    said = [f"{r.name} {r.state}: {r.active} of {r.latent} latent dimensions carry {_nats(r.carried)} nats."]
    if r.dead and r.relative_sensitivity is not None:
        said.append(
            f"{r.name}: the other {r.dead} keep to the prior (mean KL at most 0.01 nats), and the decoder is "
            f"{percent(r.relative_sensitivity)} as sensitive to them as to the rest."
        )
    if r.at_floor:
        said.append(
            f"{r.name}: {r.at_floor} of its active dimensions only fill the free bits ({_nats(r.floor)} nats together)."
        )
    return said


def _nats(value: float) -> str:
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def advice(r: LatentRow) -> list[str]:
    """What to try next, the likeliest first."""
    tries = []
    if not r.dead:
        if r.all_used:
            tries.append("every dimension is in use, so a larger --latent may help (--sweep latent)")
        return tries
    if r.effective_beta is not None and r.effective_beta > HEAVY:
        tries.append(f"less weight on the KL, which counts {r.effective_beta:.3g} times")
    if not r.active and r.steps is not None:
        tries.append(f"more --epochs, as {r.steps:,} optimizer steps may not have sufficed to begin using the code")
    if not r.eased:
        tries.append("warm-up and free bits (--fix, or --compare baseline,mitigated)")
    if r.helped:
        tries.append(f"warm-up and free bits, which pay off in {r.helped}")
    elif r.active:
        tries.append(
            f"{'or nothing' if tries else 'nothing'} at all: a VAE that needs {r.active} dimensions leaves the rest to the "
            f"prior, and --latent {r.active} may do as well"
        )
    return tries


def _gained(r: LatentRow, first: LatentRow) -> Finding:
    """The dimensions that one VAE uses and the first does not."""
    gained = r.active - first.active
    text = f"{r.name} against {first.name}: "
    if gained > 0:
        text += f"{gained} more active dimensions"
        text += f" ({r.at_floor} of its {r.active} sit at the floor of the free bits)" if r.at_floor else ""
    elif gained < 0:
        text += f"{-gained} fewer active dimensions"
    else:
        text += "as many active dimensions"
    keys = (r.key("active-dimensions"), first.key("active-dimensions"))
    return Finding(f"{text}.", keys, TABLE)


def cautions(r: LatentRow) -> list[Finding]:
    """What not to trust: a beta other than the one asked for, a loss with a third part, information near what can be seen."""
    said = [(text, "effective-beta") for text in _scale(r)]
    if r.information > NEAR_BOUND * r.information_bound:
        text = f"{r.name}: the mutual information is near the most that {r.n:,} images can show; it may be larger."
        said.append((text, "mutual-information"))
    return [Finding(text, (r.key(what),), TABLE, "caution") for text, what in said]


def _scale(r: LatentRow) -> list[str]:
    beta, wanted = r.beta, r.expected
    if beta is None or wanted is None:
        return []
    said = []
    if not math.isfinite(beta.beta):
        said.append(f"{r.name}: the effective beta of its loss cannot be told ({beta.reason}).")
    elif abs(beta.beta - wanted) > TOLERANCE * max(wanted, 1e-3):
        said.append(
            f"{r.name}: its loss weighs the KL {beta.beta:.3g} times on the ELBO's scale, not {wanted:g} times as asked: sum over pixels "
            "and dimensions, then average both over images."
        )
        said.append(
            f"{r.name}: its loss counts reconstruction x {beta.reconstruction_scale:.3g} and KL x {beta.kl_scale:.3g}."
        )
    if beta.unexplained > UNEXPLAINED:
        said.append(
            f"{r.name}: {percent(beta.unexplained)} of its loss's gradient is neither the reconstruction's nor the KL's, as measured."
        )
        said.append(
            f"{r.name}: are the likelihood (--decoder, --variance) and the range of its pixels those that it was trained with?"
        )
    return said
