"""VAEs in pairs: resampled once, told by their intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.studies.vae import planted

from visus.models.vae import Decoder
from visus.studies.vae import comparison, pairing
from visus.studies.vae.comparison import ComparisonMeasures
from visus.studies.vae.pairing import Comparisons, compare_vaes
from visus.training.vae import KLSchedule

CLEAR = planted.comparison("soft", "base", -2.0, 1.5)
OPEN = planted.comparison("free", "base", 0.2, -0.3)
OTHER = planted.comparison("round", "base", -9.0, 9.0, comparable=False)


def test_the_table_has_both_differences_with_their_intervals() -> None:
    (table,) = comparison.tables(ComparisonMeasures((CLEAR, OPEN)))
    soft = planted.by(table.records(), "a")["soft"]
    assert (soft["b"], soft["negative_elbo"], soft["negative_elbo_low"], soft["negative_elbo_high"]) == (
        "base", -2, -2.5, -1.5
    )  # fmt: skip
    assert (soft["log_likelihood"], soft["log_likelihood_low"], soft["log_likelihood_high"]) == (1.5, 1, 2)
    assert comparison.figures(ComparisonMeasures((CLEAR,))) == ()


def test_a_difference_is_told_with_what_it_means() -> None:
    found = comparison.findings(ComparisonMeasures((CLEAR, OPEN, OTHER)))
    assert planted.texts(found) == [
        "soft against base: negative ELBO -2.00 nats per image (-2.50 to -1.50): lower, better.",
        "soft against base: log-likelihood +1.50 nats per image (+1.00 to +2.00): better.",
        "free against base: negative ELBO +0.20 nats per image (-0.30 to +0.70): undecided.",
        "free against base: log-likelihood -0.30 nats per image (-0.80 to +0.20): undecided.",
        "round against base: their decoders differ, so their likelihoods are not compared.",
    ]
    assert [f.kind for f in found] == ["result", "result", "undecided", "undecided", "result"]
    worse = comparison.findings(ComparisonMeasures((planted.comparison("b", "a", 3.0, -3.0),)))
    assert [text.rpartition(": ")[2] for text in planted.texts(worse)] == ["higher, worse.", "worse."]
    assert comparison.findings(ComparisonMeasures((CLEAR,), swept=True)) == ()


def test_metrics_have_a_direction_only_where_likelihoods_compare() -> None:
    found = {m.key: m for m in comparison.metrics(ComparisonMeasures((CLEAR, OTHER)))}
    elbo = found["soft/minus/base/negative-elbo"]
    assert (elbo.value, elbo.low, elbo.high, elbo.n, elbo.better) == (-2, -2.5, -1.5, 200, "lower")
    assert found["soft/minus/base/log-likelihood"].better == "higher"
    assert found["round/minus/base/negative-elbo"].better is None


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (CLEAR, "soft explains unseen images better than base: its negative ELBO is 2.00 nats per image lower."),
        (
            planted.comparison("b", "a", 3.0, -3.0),
            "a explains unseen images better than b: its negative ELBO is 3.00 nats",
        ),
        (OPEN, "Whether free or base explains unseen images better is undecided."),
        (OTHER, "round and base have decoders of different likelihoods"),
    ],
)
def test_the_answer_is_of_the_last_pair(last: pairing.VaeComparison, said: str) -> None:
    answer = comparison.answer(ComparisonMeasures((CLEAR, last)))
    assert answer.startswith(said)
    assert len(answer.split()) <= 25


def test_the_better_of_two_is_named_by_its_paired_interval() -> None:
    a = planted.evaluation([1.0, 0.0], name="a")
    b = planted.named(planted.shifted(planted.evaluation([1.0, 1.0], name="b"), -3.0))
    assert compare_vaes(b, a).better
    assert not compare_vaes(a, b).better
    assert not compare_vaes(a, a).better
    assert compare_vaes(b, a).more_active == 1
    other = planted.named(b, vae=replace(b.vae, decoder=Decoder("learned-gaussian")))
    assert not compare_vaes(other, a).comparable
    assert not compare_vaes(other, a).better


def test_intervals_of_a_comparison_are_drawn_by_the_seed() -> None:
    e, other = planted.evaluation([1.0, 0.5, 0.3]), planted.evaluation([0.4, 1.5, 0.1])
    kl = np.random.default_rng(1).permutation(other.bounds.kl) + e.likelihood.per_image
    other = replace(other, bounds=replace(other.bounds, kl=kl))
    first, again, third = (compare_vaes(replace(e, seed=seed), other).negative_elbo for seed in (3, 3, 4))
    assert (first.low, first.high) == (again.low, again.high) != (third.low, third.high)
    assert first.difference == third.difference


def test_a_pair_is_resampled_once_whoever_tells_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str]] = []
    monkeypatch.setattr(pairing, "compare_vaes", lambda a, b: (made.append((a.name, b.name)), compare_vaes(a, b))[1])
    base = planted.evaluation([1.0], name="base")
    soft = planted.shifted(planted.evaluation([1.0], KLSchedule(warmup=3), name="soft"), -2.0)
    free = planted.shifted(planted.evaluation([1.0], KLSchedule(free_bits=0.1), name="free"), 1.0)
    known = Comparisons()
    found = comparison.measure([base, soft, free], known)
    assert [(c.a, c.b) for c in found.pairs] == [("soft", "base"), ("free", "base")]
    assert known.helping(base, [base, soft, free]) == "soft"
    assert known.helping(free, [base, soft, free]) == "soft"
    assert known.helping(soft, [base, soft, free]) == ""
    assert len(made) == len(set(made)) == 4


def test_nobody_is_helped_by_a_plain_run() -> None:
    worse, better = (
        planted.evaluation([1.0], name="worse"),
        planted.shifted(planted.evaluation([1.0], name="better"), -5.0),
    )
    assert Comparisons().of(better, worse).better
    assert Comparisons().helping(worse, [worse, better]) == ""
