"""Does a VAE generate: its samples against test images in a named feature space, and whether they are copies (P11, P13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visus.figures import AnyFigure
from visus.formats import percent
from visus.measures.priors import AGGREGATE, NORMAL
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.common.proportion import Proportion, proportion
from visus.studies.vae.evaluation import VaeEvaluation
from visus.studies.vae.feature_space import FeatureSpace, Scores
from visus.studies.vae.gallery import ImageRow, gallery
from visus.studies.vae.inputs import ImageArrays
from visus.studies.vae.sampling import searched

KEY, QUESTION = "samples", "Does it generate, and are its samples new?"
REAL = "training images"
FEATURES_NEED = 4  # times as many images as features, for a Fréchet distance to be trusted
COPIED = 0.05  # of the samples nearer to training images than 99 % of unseen ones are


@dataclass(frozen=True)
class SampleRow:
    """Images against the test images: a VAE's from one prior, or training images (prior ''). precision, recall: with Wilson intervals. ratio: the
    median sample's distance to its nearest training image over that of unseen images; closer: share of samples nearer than 99 % of those."""

    name: str
    prior: str
    frechet: float
    precision: Proportion
    recall: Proportion
    density: float
    coverage: float
    ratio: float | None = None
    closer: float | None = None

    def key(self, what: str) -> str:
        """Of a metric of it."""
        return key_of(self.name, self.prior, what)


@dataclass(frozen=True)
class Nearest:
    """Samples of one VAE, and their nearest training images, whose values are distances in those of unseen images."""

    name: str
    samples: ImageRow
    training: ImageRow


@dataclass(frozen=True)
class SampleMeasures:
    """floor: training images against test images, which no sample should beat. rows: by VAE and prior. drawn: images of the smaller side of a
    Fréchet distance, in `width` features of `space`; about: a sentence on it; n_test: test images; among: training images searched."""

    space: str
    about: str
    width: int
    drawn: int
    n_test: int
    among: int
    floor: SampleRow
    rows: tuple[SampleRow, ...]
    drawings: tuple[ImageRow, ...]
    nearest: tuple[Nearest, ...]
    swept: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r.name for r in self.rows))

    def row(self, name: str, prior: str) -> SampleRow:
        return next(r for r in self.rows if (r.name, r.prior) == (name, prior))


def measure(
    evaluations: Sequence[VaeEvaluation], space: FeatureSpace, images: ImageArrays, *, shown: int
) -> SampleMeasures:
    """From the samples of every VAE and prior to what is told of them."""
    rows, drawings = [], []
    for e in evaluations:
        for prior, s in e.samples.items():
            rows.append(_row(e.name, prior, s.scores, s.copies.ratio, s.copies.share_closer))
            drawings.append(ImageRow(f"{e.name}: {prior}", s.images[:shown]))
    return SampleMeasures(
        space=space.name,
        about=space.about,
        width=space.real.shape[1],
        drawn=min(space.floor.frechet.n_x, space.floor.frechet.n_y),
        n_test=len(space.real),
        among=searched(images),
        floor=_row(REAL, "", space.floor),
        rows=tuple(rows),
        drawings=tuple(drawings),
        nearest=tuple(_nearest(e, images, shown) for e in evaluations),
        swept=evaluations[0].model.setting is not None,
    )


def _row(name: str, prior: str, s: Scores, ratio: float | None = None, closer: float | None = None) -> SampleRow:
    inside = (proportion(s.sharing.in_real), proportion(s.sharing.in_fake))
    return SampleRow(name, prior, s.frechet.distance, *inside, s.sharing.density, s.sharing.coverage, ratio, closer)


def _nearest(e: VaeEvaluation, images: ImageArrays, shown: int) -> Nearest:
    s = e.samples[NORMAL]
    drawn = s.images[:shown]
    unit = max(s.copies.held_median, 1e-12)
    away = tuple(float(d / unit) for d in s.copies.distances[: len(drawn)])
    return Nearest(
        e.name,
        ImageRow(f"{e.name}: samples from {NORMAL}", drawn),
        ImageRow(f"{e.name}: nearest training images", images.train[s.copies.indices[: len(drawn)]], away),
    )


def metrics(m: SampleMeasures) -> tuple[Metric, ...]:
    found = []
    for r in (m.floor, *m.rows):
        of = ", ".join(part for part in (r.name, r.prior) if part)
        found += [
            Metric(r.key("frechet"), r.frechet, n=m.drawn, better="lower", label=f"Fréchet distance, {of}"),
            r.precision.metric(r.key("precision"), label=f"precision, {of}"),
            r.recall.metric(r.key("recall"), label=f"recall, {of}"),
        ]
        if r.closer is not None:
            label = f"closer to training images than unseen ones, {of}"
            found.append(Metric(r.key("closer-than-unseen"), r.closer, unit="share", better="lower", label=label))
    return tuple(found)


def tables(m: SampleMeasures) -> tuple[Table, ...]:
    rows = []
    for r in (m.floor, *m.rows):
        spans = [v for p in (r.precision, r.recall) for v in (p.value, p.low, p.high)]
        rows.append((r.name, r.prior, r.frechet, *spans, r.density, r.coverage, r.ratio, r.closer))
    return (
        Table(
            key="samples",
            title="Samples against test images",
            columns=(
                Column("images", "images"),
                Column("prior", "drawn from"),
                Column("frechet", "Fréchet distance", digits=2),
                Column("precision", "precision", "share"),
                Column("precision_low", "low", "share"),
                Column("precision_high", "high", "share"),
                Column("recall", "recall", "share"),
                Column("recall_low", "low", "share"),
                Column("recall_high", "high", "share"),
                Column("density", "density", digits=2),
                Column("coverage", "coverage", digits=2),
                Column("distance_to_training", "distance to training", digits=2),
                Column("closer_than_unseen", "closer than unseen", "share"),
            ),
            rows=rows,
            note=f"In {m.about}; {m.n_test:,} test images. Fréchet distance: lower is better, and as many training images give the "
            "first row. Precision: samples among real images; recall: real images among samples (Kynkäänniemi et al. 2019, k = 3; 95 % Wilson "
            "intervals). Distance to training: the median sample's distance to its nearest training image over the same for unseen test "
            f"images, in pixels, among {m.among:,} training images; closer than unseen: samples nearer to one than 99 % of test "
            "images are (1 % for new images).",
        ),
    )


def figures(m: SampleMeasures) -> tuple[AnyFigure, ...]:
    drawn = gallery(
        "samples",
        "Samples",
        "Decoded from latents drawn from each prior, not chosen. The aggregate posterior: a Gaussian mixture fitted to the codes of training images.",
        [(row, ()) for row in m.drawings],
    )
    pairs: list[tuple[ImageRow, Sequence[str]]] = []
    for near in m.nearest:
        pairs += [(near.samples, ()), (near.training, [f"{v:.2f} x" for v in near.training.values])]
    caption = "Samples above their nearest training images, by distance in pixels, in units of the median distance of unseen test images to theirs."
    return drawn, gallery("nearest", "Memorised or new?", caption, pairs)


def findings(m: SampleMeasures) -> tuple[Finding, ...]:
    said: list[Finding] = []
    for name in () if m.swept else m.names:
        said += _generation(m, m.row(name, NORMAL), m.row(name, AGGREGATE))
    if m.drawn < FEATURES_NEED * m.width:
        text = (
            f"Fréchet distances are of {m.drawn:,} pictures in {m.width} dimensions, too few to be compared with those of other studies; "
            "within this page all have the same number."
        )
        said.append(Finding(text, (m.floor.key("frechet"),), ("samples",), "caution"))
    return tuple(said)


def _generation(m: SampleMeasures, normal: SampleRow, aggregate: SampleRow) -> list[Finding]:
    keys = tuple(r.key("frechet") for r in (normal, aggregate, m.floor))
    name, closer = normal.name, normal.closer or 0.0
    text = (
        f"{name}, generating: Fréchet distance {normal.frechet:.3g} from {NORMAL} and {aggregate.frechet:.3g} from the aggregate posterior, "
        f"against {m.floor.frechet:.3g} of real training images (in the {m.space} features)."
    )
    said = [Finding(text, keys, ("samples",))]
    text = f"{name}: samples from {NORMAL} have precision {percent(normal.precision.value)} and recall {percent(normal.recall.value)}."
    said.append(Finding(text, (normal.key("precision"), normal.key("recall")), ("samples",)))
    if closer > COPIED:
        text = f"{name}: {percent(closer)} of the samples are nearer to a training image than 99 % of unseen images are: look at them."
    else:
        text = f"{name}: its samples are new: the median lies {normal.ratio:.2f} times as far from training images as unseen images do."
    return [*said, Finding(text, (normal.key("closer-than-unseen"),), ("samples", "nearest"))]
