"""The VAE study: images, VAEs, what is measured of each, sections, result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visus.images import ImageSet
from visus.measures.priors import NORMAL
from visus.models.vae import Vae
from visus.models.vae_open import load_vae, shape_of
from visus.paths import check_writable, home
from visus.progress import log
from visus.result import Result, Section, key_of
from visus.studies.common.imagesets import load_imageset
from visus.studies.common.section import section
from visus.studies.vae import comparison, latent, likelihood, runs, samples, set_aside, sweep
from visus.studies.vae.evaluation import NamedVae, VaeEvaluation, evaluate
from visus.studies.vae.feature_space import FeatureSpace, feature_space
from visus.studies.vae.inputs import ImageArrays, load_arrays
from visus.studies.vae.options import EvaluationOptions, Options
from visus.studies.vae.pairing import Comparisons
from visus.studies.vae.settle import settled, sized
from visus.studies.vae.training import TrainingSettings, planned_runs, rerun_of, train_runs
from visus.training.vae import KLSchedule


@dataclass(frozen=True)
class Evaluated:
    """What the sections tell of. beta: the one that another's module should have (None: the VAEs are ours)."""

    images: ImageArrays
    space: FeatureSpace
    evaluations: tuple[VaeEvaluation, ...]
    options: EvaluationOptions
    beta: float | None

    @property
    def swept(self) -> bool:
        return self.evaluations[0].model.setting is not None


@dataclass(frozen=True)
class Told:
    """Sections in reading order, the one sentence, the VAEs of the headline, and what was cut short."""

    sections: tuple[Section, ...]
    answer: str
    names: tuple[str, ...]
    cut: tuple[str, ...]


def run(options: Options) -> Result:
    """Open or train the VAEs, measure each on test images, and say what came of it."""
    asked, seed = settled(options), options.evaluation.seed
    native = shape_of(options.vaes.checkpoint) if options.vaes.checkpoint else None
    imageset = load_imageset(options.images, seed=seed, download=options.images.download, classes="wanted")
    images = load_arrays(imageset, size=asked.size, channels=options.images.channels, seed=seed, native=native)
    found = _evaluated(options, images, sized(asked.training, images, options.training.batch), asked.evaluation)
    told = _told(found)
    return Result(
        study="vae",
        title=_title(found),
        answer=told.answer,
        headline=_headline(told.names),
        sections=told.sections,
        warnings=[
            f"The weights of {e.name} are a random initialisation: nothing it shows was learned."
            for e in found.evaluations
            if e.vae.random
        ],
        provenance=_provenance(options.vaes.checkpoint, imageset, found),
        status="partial" if told.cut else "complete",
        reason=" ".join(told.cut),
    )


def _evaluated(
    options: Options, images: ImageArrays, training: TrainingSettings, evaluation: EvaluationOptions
) -> Evaluated:
    """The VAE that exists, or the runs, trained; with the rerun that fixes where there is something to fix."""
    vaes = options.vaes
    # What cannot be opened or trained is refused before anything takes long.
    opened = _opened(vaes.checkpoint, training, images, evaluation.seed) if vaes.checkpoint else None
    planned = [] if opened else planned_runs(vaes.compare, vaes.sweep, training)
    if vaes.fix or not opened:
        check_writable(home() / "training")
        if training.devices.precision == "bf16":
            log(
                "trains in bfloat16 (--precision fp32: in float32); weights, losses and all that is measured are float32"
            )
    space = feature_space(images, evaluation, devices=training.devices, download=options.images.download)
    models = [opened] if opened else train_runs(planned, images, training)
    found = [evaluate(model, images, space, evaluation) for model in models]
    if vaes.fix and found[0].dead:
        again, with_its_settings = rerun_of(models[0], training)
        found += [evaluate(m, images, space, evaluation) for m in train_runs([again], images, with_its_settings)]
    return Evaluated(images, space, tuple(found), evaluation, options.training.beta if opened else None)


def _opened(text: str, training: TrainingSettings, images: ImageArrays, seed: int) -> NamedVae:
    vae = load_vae(text, shape=images.shape, decoder=training.decoder, images=images.train, seed=seed)
    known = vae.info.get("pressure")  # what the KL cost when a checkpoint of the lab's was trained
    return NamedVae(_name(vae), vae, KLSchedule(**known) if isinstance(known, dict) else None)


def _name(vae: Vae) -> str:
    """What a checkpoint is called on the page."""
    given = str(vae.info.get("name") or vae.info.get("class") or "")
    return given or Path(vae.spec).name or vae.spec


def _told(e: Evaluated) -> Told:
    """Measure what each section tells, once, and tell it."""
    comparisons = Comparisons()
    explained = likelihood.measure(e.evaluations, e.images, e.options)
    coded = latent.measure(e.evaluations, e.images, comparisons, asked=e.beta, device=e.options.device)
    drawn = samples.measure(e.evaluations, e.space, e.images, shown=e.options.shown)
    trained = runs.measure([one.model for one in e.evaluations])

    sections, answer = [section(likelihood, explained)], likelihood.answer(explained, coded.rows[0].state)
    names = [one.name for one in e.evaluations]
    if len(names) > 1:
        compared = comparison.measure(e.evaluations, comparisons)
        sections, answer = [*sections, section(comparison, compared)], comparison.answer(compared)
    if e.swept:
        traded = sweep.measure(e.evaluations, explained, coded, comparisons)
        sections, answer, names = [section(sweep, traded), *sections], sweep.answer(traded), [traded.best_name]
    sections += [section(latent, coded), section(samples, drawn)]
    if trained.rows:
        sections.append(section(runs, trained))
    if e.images.quarantine:
        sections.append(section(set_aside, set_aside.measure(e.images)))
    return Told(tuple(sections), answer, tuple(names), runs.cut_short(trained))


def _title(e: Evaluated) -> str:
    names = [one.name for one in e.evaluations]
    return f"VAE on {e.images.name}: {' and '.join(names) if len(names) < 3 else f'{len(names)} settings'}"


def _headline(names: tuple[str, ...]) -> tuple[str, ...]:
    """Of one VAE how well it explains, codes and draws; of several the first and the last."""
    if len(names) == 1:
        wanted = ("negative-elbo", "log-likelihood", "active-dimensions", key_of(NORMAL, "frechet"))
        return tuple(key_of(names[0], what) for what in wanted)
    ends = (names[0], names[-1])
    pair = key_of(names[-1], "minus", names[0], "negative-elbo")
    return (*(key_of(n, what) for what in ("negative-elbo", "active-dimensions") for n in ends), pair)


def _provenance(checkpoint: str | None, imageset: ImageSet, e: Evaluated) -> dict[str, Any]:
    """Specs, fingerprints, sizes of the parts and where the VAEs are kept."""
    return {
        "images": imageset.name,
        "images fingerprint": imageset.fingerprint,
        "pictures": e.images.note,
        "training": len(e.images.train),
        "validation": len(e.images.validation),
        "test": len(e.images.test),
        "checkpoint": checkpoint,
        "training precision": {
            one.name: one.model.trained[0].plan.devices.precision for one in e.evaluations if one.model.trained
        },
        "models": {one.name: str(one.vae.info.get("folder", one.vae.spec)) for one in e.evaluations},
        "samples judged in": e.space.about,
        "device": e.options.device,
        "seed": e.options.seed,
    }
