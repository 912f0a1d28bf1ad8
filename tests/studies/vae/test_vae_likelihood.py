"""The section on likelihood: from evaluations to measures, and from measures to what is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.studies.vae import planted

from visus.measures import importance_bound
from visus.models.vae import Decoder
from visus.studies.common.section import section
from visus.studies.vae import likelihood
from visus.studies.vae.likelihood import Bits, LikelihoodMeasures, WithoutRepeats

TWO = (planted.likelihood_row("base"), planted.likelihood_row("soft", kl=10.0, negative_elbo=planted.mean(40.0)))


def measures(*rows: Any, **more: Any) -> LikelihoodMeasures:
    made = [planted.row(r.name, 2, values=(29.5, 31.25)) for r in rows]
    fields: dict[str, Any] = {"repeated": 0, "without": (), "names": ("cat", "dog")}
    return LikelihoodMeasures(
        rows=rows, originals=planted.row("test images", 2), reconstructions=tuple(made), **(fields | more)
    )


def test_a_row_a_vae_states_both_sides_of_the_bound() -> None:
    (table,) = likelihood.tables(measures(*TWO))
    base, soft = table.records()
    assert (base["reconstruction"], base["kl"], base["negative_elbo"], base["low"], base["high"]) == (
        30,
        12,
        42,
        41,
        43,
    )
    assert (base["active"], base["latent"], base["parameters"], base["minutes"]) == (7, 10, 1234, 1.5)
    assert (soft["vae"], soft["negative_elbo"], soft["log_likelihood"], soft["standard_error"]) == (
        "soft",
        40,
        -40,
        0.5,
    )
    assert "n = 200" in table.note
    assert "K = 64" in table.note
    assert "squared error summed over pixels, of one sample" in table.note


@pytest.mark.parametrize(
    ("decoder", "said"),
    [
        (Decoder("gaussian", 0.05), "squared error summed over pixels / 0.1"),
        (Decoder("learned-gaussian"), "negative log-likelihood of the decoder, summed over pixels"),
        (Decoder("bernoulli"), "are no density's"),
    ],
)
def test_the_note_says_what_the_reconstruction_term_is(decoder: Decoder, said: str) -> None:
    assert said in likelihood.tables(measures(planted.likelihood_row(decoder=decoder)))[0].note


def test_metrics_carry_intervals_and_directions() -> None:
    found = {m.key: m for m in likelihood.metrics(measures(*TWO))}
    elbo, bound = found["soft/negative-elbo"], found["base/log-likelihood"]
    assert (elbo.value, elbo.low, elbo.high, elbo.n, elbo.unit, elbo.better) == (40, 39, 41, 200, "nats", "lower")
    assert (bound.value, bound.better) == (-40, "higher")
    assert len(found) == 10


def test_each_vae_is_told_in_two_sentences() -> None:
    found = likelihood.findings(measures(*TWO))
    assert planted.texts(found)[:2] == [
        "base: reconstruction 30.0 + KL 12.0 = 42.0 nats per test image.",
        "base: log-likelihood -40.0 ± 0.5 nats (importance-weighted bound), 3.00 bits per dimension.",
    ]
    assert found[0].metrics == ("base/reconstruction", "base/kl", "base/negative-elbo")
    bernoulli = planted.likelihood_row(decoder=Decoder("bernoulli"))
    assert "bits" not in planted.texts(likelihood.findings(measures(bernoulli)))[1]


def test_a_sweep_is_told_elsewhere_but_its_cautions_stay() -> None:
    loose = planted.likelihood_row(effective_samples=1.4)
    found = likelihood.findings(measures(loose, swept=True))
    assert planted.texts(found) == planted.texts(found, "caution")
    assert planted.texts(found) == [
        "mine: of 64 importance samples 1.4 count, so its log-likelihood is a loose bound; give a larger --importance."
    ]


def test_reconstructions_stand_under_their_originals() -> None:
    (figure,) = likelihood.figures(measures(*TWO))
    assert figure.images.shape == (6, 8, 8, 3)
    assert figure.captions == ("cat", "dog", "29.5 nats", "31.2 nats", "29.5 nats", "31.2 nats")
    assert figure.groups == ("test images",) * 2 + ("base",) * 2 + ("soft",) * 2
    assert figure.columns == 2
    unlabelled = likelihood.figures(measures(*TWO, names=()))[0]
    assert unlabelled.captions[:2] == ("", "")


def test_what_repeats_flatter_stands_beside() -> None:
    without = (
        WithoutRepeats("mine", "negative ELBO", planted.mean(42.0, n=8), planted.mean(45.0, n=6)),
        WithoutRepeats("mine", "log-likelihood", planted.mean(-40.0, n=8), replace(planted.mean(0.0, n=0), value=None)),
    )
    _, table = likelihood.tables(measures(planted.likelihood_row(), repeated=2, without=without))
    assert table.title == "Without the 2 test images that are training images too"
    elbo, bound = table.records()
    assert (elbo["all"], elbo["n"], elbo["without"], elbo["low_without"], elbo["n_without"]) == (42, 8, 45, 44, 6)
    assert (bound["figure"], bound["without"], bound["n_without"]) == ("log-likelihood", None, 0)


def test_without_means_without() -> None:
    e = planted.evaluation([1.0, 0.2], n=8)
    e = replace(e, likelihood=replace(e.likelihood, per_image=e.likelihood.per_image[:5]))
    again = np.array([True, False, True, False, False, True, False, False])
    rows = likelihood.without_repeats(again, [e])
    assert [(r.what, r.whole.n, r.without.n) for r in rows] == [("negative ELBO", 8, 5), ("log-likelihood", 5, 3)]
    for r, values in zip(rows, (e.bounds.reconstruction + e.bounds.kl, e.likelihood.per_image), strict=True):
        left = values[~again[: len(values)]]
        assert r.whole.value == values.mean()
        assert r.without.value == left.mean()
        assert r.without.low is not None
        assert r.without.value - r.without.low == pytest.approx(1.96 * left.std(ddof=1) / np.sqrt(len(left)))
    none_left = likelihood.without_repeats(np.ones(8, bool), [e])[0].without
    assert (none_left.value, none_left.low, none_left.high, none_left.n) == (None, None, None, 0)


def test_means_and_reconstructions_are_those_of_the_evaluation() -> None:
    e = planted.evaluation([1.0, 0.0, 0.0], n=6)
    m = likelihood.measure([e], planted.images(), planted.OPTIONS)
    (r,) = m.rows
    assert (r.reconstruction, r.at_mean, r.active, r.latent) == (10.0, 9.0, 1, 3)
    assert r.kl == pytest.approx(1.0)
    assert r.negative_elbo.value == pytest.approx(11.0)
    assert r.log_likelihood.value == e.likelihood.nats
    assert (r.minutes, m.without, m.names, m.swept) == (None, (), ("cat", "dog", "cat"), False)
    assert m.reconstructions[0].images.shape == (3, 8, 8, 1)
    assert m.reconstructions[0].values == (9.0, 9.0, 9.0)
    known = np.array([True, *[False] * 5])
    assert likelihood.measure([e], planted.images(repeated=known), planted.OPTIONS).repeated == 1
    run = planted.trained("run", planted.fit([5.0]), planted.fit([6.0]))
    assert (
        likelihood.measure([replace(e, model=replace(run, vae=e.vae))], planted.images(), planted.OPTIONS)
        .rows[0]
        .minutes
        == 1.0
    )


@pytest.mark.parametrize(
    ("error", "variance", "kl", "said", "unsaid"),
    [
        (0.004, 0.5, 6.0, "the fixed variance 0.5 is wider than the errors (mean square 0.004)", "further"),
        (0.01, 0.001, 6.0, "the fixed variance 0.001 is narrower than the errors", "further"),
        (0.3, 0.5, 6.0, "further from the images (mean squared error 0.3) than the mean picture is (0.07)", "variance"),
        (0.05, 0.05, 6.0, "", ""),
        (0.02, 0.02, 90.0, "the code alone takes 2.0 bits per dimension (KL 90 nats)", "wider"),
        (0.05, 0.07, 90.0, "the code alone takes", "wider"),
        (0.069, 0.5, 6.0, "mean squared error 0.069 (of the mean picture 0.07), variance 0.5", "wider than the errors"),
    ],
)
def test_many_bits_are_explained_only_where_the_numbers_leave_one_reason(
    error: float, variance: float, kl: float, said: str, unsaid: str
) -> None:
    """A decoder of logits that is read as pictures was once told that its variance is too wide."""
    pixels = 64
    decoder = Decoder("gaussian", variance)
    reconstruction = np.full(200, error * pixels / (2 * variance))
    nats = -(reconstruction + decoder.constant(pixels) + kl)
    e = planted.evaluation([1.0, 1.0])
    e = replace(e, bounds=replace(e.bounds, reconstruction=reconstruction, kl=np.full(200, kl)))
    e = planted.named(e, vae=replace(e.vae, decoder=decoder))
    found = importance_bound(nats[:, None], dims=pixels)
    r = planted.likelihood_row(
        kl=kl, decoder=decoder, bits_per_dimension=found.bits_per_dimension, bits=likelihood.bits_of(e, 0.07)
    )
    line = " ".join(likelihood.costly(r))
    assert said in line
    assert bool(line) == (r.bits_per_dimension > 8)
    assert not unsaid or unsaid not in line
    cautions = planted.texts(likelihood.findings(measures(r)), "caution")
    assert " ".join(cautions) == line


def test_bits_are_only_explained_of_a_fixed_gaussian() -> None:
    assert likelihood.costly(planted.likelihood_row(bits_per_dimension=9.0)) == ()
    assert likelihood.costly(planted.likelihood_row(bits=Bits(0.01, 0.07, 7.0, 0.1), bits_per_dimension=7.5)) == ()


def test_the_section_holds_together_and_answers() -> None:
    m = measures(*TWO)
    made = section(likelihood, m)
    assert (made.key, made.source, made.file) == (
        "likelihood",
        "visus.studies.vae.likelihood",
        "studies/vae/likelihood",
    )
    assert {k for f in made.findings for k in f.metrics} <= {x.key for x in made.metrics}
    said = likelihood.answer(m, "has partly collapsed")
    assert said == "base has partly collapsed; it explains a test image with 42.0 nats, 30.0 of them reconstruction."
