"""What a VAE study says in words: findings, the verdict on collapse with its reasons, what to try, and what not to trust."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from visus.measures.priors import AGGREGATE, NORMAL
from visus.studies.common.shared import percent

if TYPE_CHECKING:
    from visus.measures.compare import PairedDifference
    from visus.studies.vae.examine import VaeEvaluation
    from visus.studies.vae.quality import FeatureSpace
    from visus.studies.vae.subject import Subject

TOLERANCE = 0.02  # of the effective beta, relative
UNEXPLAINED = 0.05  # of a loss's gradient, that is neither reconstruction nor KL
NO_WORSE = 1.1  # times the mean picture's error
FEW_ENOUGH = 2000  # training pictures to know the mean picture's error by
UNIFORM = 8.0  # bits a pixel of 256 levels, all alike
HEAVY = 1.5  # a beta above which it is the first thing to lower
FEW_EFFECTIVE = 2.0  # importance samples that count, of K
FEATURES_NEED = 4  # times as many pictures as features, for a Fréchet distance to be trusted


def verdict(e: VaeEvaluation) -> str:
    """'not collapsed', 'partly', 'mostly' or 'wholly collapsed': by the share of dimensions whose mean KL is at most 0.01 nats; 'held up by
    free bits alone' where every dimension above it has no more than they give away."""
    if e.active.by_kl.any() and e.at_floor[e.active.by_kl].all():
        return "held up by free bits alone"
    if not e.dead:
        return "not collapsed"
    if e.dead == e.vae.latent:
        return "wholly collapsed"
    return "mostly collapsed" if 2 * e.dead >= e.vae.latent else "partly collapsed"


def against(e: VaeEvaluation, other: VaeEvaluation) -> tuple[PairedDifference, PairedDifference]:
    """Paired differences e - other on the same test images: negative ELBO, log-likelihood; in nats."""
    from visus.measures import paired_bootstrap

    totals = (e.bounds.reconstruction + e.bounds.kl, other.bounds.reconstruction + other.bounds.kl)
    return (
        paired_bootstrap(*totals, seed=e.seed),
        paired_bootstrap(e.likelihood.per_image, other.likelihood.per_image, seed=e.seed),
    )


def findings(space: FeatureSpace, examined: Sequence[VaeEvaluation]) -> list[str]:
    """Sentences made from numbers, the most important first."""
    said = []
    softened = [e for e in examined if _softened(e)]
    if examined[0].setting is not None:
        said += _sweep(examined)
    else:
        for e in examined:
            helped = next((s.name for s in softened if s is not e and _beats(s, e)), "")
            said += [_quality(e), _collapse(e, fixed=bool(softened), helped=helped)]
        said += [_back(e, examined[0]) for e in examined[1:]]
        said += [_generation(e, space) for e in examined]
    return said


def _quality(e: VaeEvaluation) -> str:
    b = e.bounds
    return (
        f"{e.name}: reconstruction {b.reconstruction.mean():.1f} + KL {b.kl.mean():.1f} = {(b.reconstruction + b.kl).mean():.1f} nats per image on "
        f"{len(b.kl):,} test images; log-likelihood {e.likelihood.nats:,.1f} ± {e.likelihood.stderr:.1f} nats "
        f"(importance-weighted bound, K = {e.likelihood.k})"
        + (f", {e.likelihood.bits_per_dimension:.2f} bits per dimension" if e.vae.decoder.density else "")
        + _beta(e)
        + "."
    )


def _beta(e: VaeEvaluation) -> str:
    if e.beta is None or not np.isfinite(e.beta.beta):
        return ""
    return f"; effective beta {e.beta.beta:.3g}, by the gradient of its loss"


def _collapse(e: VaeEvaluation, *, fixed: bool, helped: str = "") -> str:
    n, active = e.vae.latent, int(e.active.by_kl.sum())
    held = verdict(e) == "held up by free bits alone"
    text = f"{e.name} is {verdict(e)}: " if held else f"{e.name} has {verdict(e)}: "
    if active == 0:
        text += f"all {n} posteriors are the prior, whatever the image, and the decoder draws one picture"
    else:
        carried = e.kl.per_dimension[e.active.by_kl].sum()
        text += f"{active} of {n} latent dimensions carry {_nats(carried)} nats"
        if e.dead:
            text += f"; the other {e.dead} keep to the prior (mean KL at most 0.01 nats)"
            text += _deaf(e)
    floor = int(e.at_floor.sum())
    if floor:
        share = e.kl.per_dimension[e.at_floor].sum()
        text += f"; {floor} of them only fill the free bits ({_nats(share)} nats together)"
    text += f". Image and code share {e.information.value:.1f} ± {e.information.stderr:.1f} nats"
    text += f" (at most {e.information.bound:.1f} can be seen with {len(e.posteriors.mu):,} images)."
    tries = advice(e, fixed=fixed, helped=helped)
    return text + (f" To try: {'; '.join(tries)}." if tries else "")


def _nats(value: float) -> str:
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def _softened(e: VaeEvaluation) -> bool:
    return e.pressure is not None and bool(e.pressure.warmup or e.pressure.free_bits)


def _deaf(e: VaeEvaluation) -> str:
    """How little the decoder hears of dead dimensions."""
    dead = ~e.active.by_kl
    loud = float(e.sensitivity[~dead].mean())
    share = float(e.sensitivity[dead].mean()) / loud if loud else 1.0
    return f", and the decoder is {percent(share)} as sensitive to them as to the rest"


def _beats(e: VaeEvaluation, other: VaeEvaluation) -> bool:
    """Whether the negative ELBO of `e` is lower, beyond chance, under the same likelihood."""
    return e.vae.decoder == other.vae.decoder and against(e, other)[0].high < 0


def advice(e: VaeEvaluation, *, fixed: bool, helped: str = "") -> list[str]:
    """What to try next, the likeliest first. fixed: warm-up or free bits are in the study already; helped: the run that is better for them."""
    tries = []
    real = e.beta.beta if e.beta is not None and np.isfinite(e.beta.beta) else None
    if not e.dead:
        if (e.kl.per_dimension > 0.1).all():
            tries.append("every dimension is in use, so a larger --latent may help (--sweep latent)")
        return tries
    if real is not None and real > HEAVY:
        tries.append(f"less weight on the KL, which counts {real:.3g} times")
    if e.dead == e.vae.latent and e.trained:
        tries.append(
            f"more --epochs, as {e.trained[0].fit.steps:,} optimizer steps may not have sufficed to begin using the code"
        )
    if not fixed:
        tries.append("warm-up and free bits (--fix, or --compare baseline,mitigated)")
    if helped:
        tries.append(f"warm-up and free bits, which pay off in {helped}")
    elif 0 < e.dead < e.vae.latent:
        used = e.vae.latent - e.dead
        tries.append(
            f"{'or nothing' if tries else 'nothing'} at all: a VAE that needs {used} dimensions leaves the rest to the "
            f"prior, and --latent {used} may do as well"
        )
    return tries


def _back(e: VaeEvaluation, first: VaeEvaluation) -> str:
    """What one VAE has over the first: dimensions, and what they are worth."""
    elbo, likelihood = against(e, first)
    gained = int(e.active.by_kl.sum()) - int(first.active.by_kl.sum())
    same = e.vae.decoder == first.vae.decoder
    text = f"{e.name} against {first.name}: "
    if gained > 0:
        free = int(e.at_floor.sum())
        text += f"{gained} more active dimensions"
        text += f" ({free} of its {int(e.active.by_kl.sum())} sit at the floor of the free bits)" if free else ""
    elif gained < 0:
        text += f"{-gained} fewer active dimensions"
    else:
        text += "as many active dimensions"
    if not same:
        return text + "; their decoders differ, so their likelihoods are not compared."
    better = "undecided" if elbo.low <= 0 <= elbo.high else "lower, better" if elbo.difference < 0 else "higher, worse"
    text += f"; negative ELBO {elbo.difference:+.2f} nats per image ({elbo.low:+.2f} to {elbo.high:+.2f}: {better})"
    better = (
        "undecided" if likelihood.low <= 0 <= likelihood.high else "better" if likelihood.difference > 0 else "worse"
    )
    return (
        text
        + f", log-likelihood {likelihood.difference:+.2f} ({likelihood.low:+.2f} to {likelihood.high:+.2f}: {better})."
    )


def _sweep(examined: Sequence[VaeEvaluation]) -> list[str]:
    parts = [
        f"{e.name}: KL {e.bounds.kl.mean():.1f}, reconstruction {e.bounds.reconstruction.mean():.1f}, "
        f"{int(e.active.by_kl.sum())} of {e.vae.latent} active"
        for e in examined
    ]
    said = ["The sweep, in nats per image on test images. " + "; ".join(parts) + "."]
    if len({e.vae.decoder for e in examined}) == 1 and len(examined) > 1 and all(e.trained for e in examined):
        best, following = sorted(examined, key=_validation)[:2]
        likelihood = against(best, following)[1]
        sure = ", undecided" if likelihood.low <= 0 <= likelihood.high else ""
        said.append(
            f"Validation prefers {best.name}, by its negative ELBO, and puts {following.name} next: log-likelihoods on test images are "
            f"{best.likelihood.nats:,.1f} ± {best.likelihood.stderr:.1f} nats and {likelihood.difference:+.2f} from the next "
            f"({likelihood.low:+.2f} to {likelihood.high:+.2f}{sure})."
        )
    return said


def _validation(e: VaeEvaluation) -> float:
    """Negative ELBO of the validation images in nats per image, mean over trainings."""
    kept = [t.fit.epochs[t.fit.best].parts for t in e.trained]
    return float(np.mean([p["val_reconstruction"] + p["val_kl"] for p in kept]))


def _generation(e: VaeEvaluation, space: FeatureSpace) -> str:
    normal, aggregate = e.samples[NORMAL], e.samples[AGGREGATE]
    away = [s.frechet.distance for s in (normal.scores, aggregate.scores, space.floor)]
    sharing = normal.scores.sharing
    text = (
        f"{e.name}, generating: Fréchet distance {away[0]:.3g} from N(0, 1) and {away[1]:.3g} from the aggregate posterior, against "
        f"{away[2]:.3g} of real training images (in the {space.name} features); precision {percent(sharing.precision)}, "
        f"recall {percent(sharing.recall)} from N(0, 1)"
    )
    copies = normal.copies
    if copies.share_closer > 0.05:
        return (
            text
            + f"; {percent(copies.share_closer)} of the samples are nearer to a training image than 99 % of unseen images are: look at them."
        )
    return (
        text
        + f"; its samples are new: the median lies {copies.ratio:.2f} times as far from training images as unseen images do."
    )


def warnings(
    subject: Subject, space: FeatureSpace, examined: Sequence[VaeEvaluation], *, asked: float | None
) -> list[str]:
    """What a reader must know before trusting a number. asked: the beta that a user's own module should have; None for ours."""
    said: list[str] = []
    for e in examined:
        wanted = e.pressure.beta if e.pressure is not None else asked
        if e.beta is not None and wanted is not None:
            said += _scale(e, wanted)
        if e.vae.random:
            said.append(f"The weights of {e.name} are a random initialisation: nothing it shows was learned.")
        if e.likelihood.effective_samples < FEW_EFFECTIVE:
            said.append(
                f"{e.name}: of {e.likelihood.k} importance samples {e.likelihood.effective_samples:.1f} count, so its log-likelihood "
                "is a loose bound; give a larger --importance."
            )
        if e.information.value > 0.9 * e.information.bound:
            said.append(
                f"{e.name}: the mutual information is near the most that {len(e.posteriors.mu):,} images can show; it may be larger."
            )
        for t in e.trained[:1]:
            if t.fit.stopped == "budget":
                said.append(f"{e.name}: the time given was used up after epoch {len(t.fit.epochs)}.")
            elif t.fit.best == len(t.fit.epochs) - 1 and len(t.fit.epochs) > 1:
                said.append(f"{e.name}: the last epoch was the best, so longer training may bring more.")
    some = subject.train[:FEW_ENOUGH].reshape(min(len(subject.train), FEW_ENOUGH), -1).astype(np.float32)
    plain = float(some.var(axis=0).mean()) / 255**2
    said += [line for e in examined if (line := _costly(e, plain))]
    width = space.real.shape[1]
    drawn = min(space.floor.frechet.n_x, space.floor.frechet.n_y)
    if drawn < FEATURES_NEED * width:
        said.append(
            f"Fréchet distances are of {drawn:,} pictures in {width} dimensions, too few to be compared with those of other studies; within "
            "this page all have the same number."
        )
    if subject.quarantine:
        said.append(f"{len(subject.quarantine)} pictures could not be decoded and are left out.")
    return said


def _costly(e: VaeEvaluation, plain: float) -> str:
    """Why a fixed Gaussian takes more bits than guessing every grey level alike; '' where it does not. plain: error of the mean picture.

    Three things can cost: errors as large as a guess's, a variance that does not fit the errors, a code that costs more than it saves. Each is named
    only where the numbers leave no other.
    """
    bits = e.likelihood.bits_per_dimension
    if e.vae.decoder.kind != "gaussian" or not bits > UNIFORM:
        return ""
    pixels, variance = e.vae.pixels, e.vae.decoder.variance
    error = float(e.bounds.reconstruction.mean()) * 2 * variance / pixels
    text = f"{e.name}: {bits:.1f} bits per dimension, more than the {UNIFORM:g} of guessing every grey level alike. "
    at_best = UNIFORM + 0.5 * np.log2(2 * np.pi * np.e * max(error, 1e-12))  # with the variance that fits the errors
    code = float(e.bounds.kl.mean()) / (pixels * np.log(2))
    if error > NO_WORSE * plain:
        return text + (
            f"Its reconstructions are further from the images (mean squared error {error:.2g}) than the mean picture is ({plain:.2g})."
        )
    if at_best + code <= UNIFORM and (variance > 2 * error or variance < error / 2):
        than = "wider" if variance > error else "narrower"
        return text + (
            f"The fixed variance {variance:.3g} is {than} than the errors (mean square {error:.2g}), at which it would be {at_best + code:.1f}. For "
            "likelihoods to compare, train with --decoder learned-gaussian."
        )
    if at_best <= UNIFORM < at_best + code:
        return text + f"The code alone takes {code:.1f} bits per dimension (KL {e.bounds.kl.mean():.0f} nats)."
    return (
        text
        + f"Mean squared error {error:.2g} (of the mean picture {plain:.2g}), variance {variance:.3g}, KL {e.bounds.kl.mean():.0f} nats."
    )


def _scale(e: VaeEvaluation, wanted: float) -> list[str]:
    assert e.beta is not None
    said = []
    found = e.beta.beta
    if not np.isfinite(found):
        said.append(f"{e.name}: the effective beta of its loss cannot be told ({e.beta.reason}).")
    elif abs(found - wanted) > TOLERANCE * max(wanted, 1e-3):
        said.append(
            f"{e.name}: its loss weighs the KL {found:.3g} times on the ELBO's scale, not {wanted:g} times as asked (reconstruction x "
            f"{e.beta.reconstruction_scale:.3g}, KL x {e.beta.kl_scale:.3g}): sum over pixels and dimensions, then average both over images."
        )
    if e.beta.unexplained > UNEXPLAINED:
        said.append(
            f"{e.name}: {percent(e.beta.unexplained)} of its loss's gradient is neither the reconstruction's nor the KL's, as measured; are the "
            "likelihood (--decoder, --variance) and the range of its pixels those that it was trained with?"
        )
    return said
