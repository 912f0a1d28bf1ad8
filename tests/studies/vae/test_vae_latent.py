"""The section on the latent space: verdicts, advice, cautions and walks, on planted posteriors and hand-made measures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.studies.vae import planted

from visus.measures.objective_scale import EffectiveBeta
from visus.studies.common.section import section
from visus.studies.vae import latent
from visus.studies.vae.latent import LatentMeasures, LatentRow, Walk
from visus.studies.vae.latent.findings import advice, cautions, collapse
from visus.studies.vae.pairing import Comparisons
from visus.training.vae import KLSchedule

PARTLY = planted.latent_row([2.0, 1.0, 0.05, 0.0], "mine")
WALK = Walk(
    "mine",
    (planted.row("dimension 0: 2.00 nats", 2, values=(-2.5, 2.5)),),
    (planted.row("cat to dog", 3, values=(0.0, 0.5, 1.0)),),
)


def measures(*rows: LatentRow, **more: Any) -> LatentMeasures:
    return LatentMeasures(rows=rows, threshold=0.01, **({"walks": (WALK,)} | more))


def measured(*kl: list[float], schedule: KLSchedule | None = None) -> LatentMeasures:
    evaluations = [planted.evaluation(values, schedule, name=f"vae {i}") for i, values in enumerate(kl)]
    return latent.measure(evaluations, planted.images(), Comparisons(), asked=None, device="cpu")


@pytest.mark.parametrize(
    ("kl", "said"),
    [
        ([0, 0, 0], "wholly collapsed"),
        ([1, 0, 0], "mostly collapsed"),
        ([1, 1, 0], "partly collapsed"),
        ([1, 1, 0.02], "not collapsed"),
    ],
)
def test_the_verdict_follows_the_share_of_dead_dimensions(kl: list[float], said: str) -> None:
    (row,) = measured(kl).rows
    assert row.verdict == said
    assert row.state == f"has {said}"
    assert (row.active, row.dead) == (sum(v > 0.01 for v in kl), sum(v <= 0.01 for v in kl))


def test_dimensions_that_only_fill_their_free_bits_are_counted_apart() -> None:
    (row,) = measured([1.0, 0.05, 0.052, 0.2], schedule=KLSchedule(free_bits=0.05)).rows
    assert (row.at_floor, row.verdict, row.asked) == (2, "not collapsed", 1.0)
    assert row.floor == pytest.approx(0.102, rel=1e-6)
    assert collapse(row)[-1] == "vae 0: 2 of its active dimensions only fill the free bits (0.1 nats together)."


def test_dimensions_that_all_sit_at_the_floor_are_no_recovery() -> None:
    (row,) = measured([0.05, 0.055, 0.05], schedule=KLSchedule(free_bits=0.05)).rows
    assert row.verdict == "held up by free bits alone"
    assert collapse(row)[0].startswith("vae 0 is held up by free bits alone: 3 of 3")


def test_what_is_carried_heard_and_shared_is_measured_once() -> None:
    first, second = measured([1.0, 0.5, 0.0], [2.0, 1.0, 0.5]).rows
    assert first.carried == pytest.approx(1.5)
    assert first.sensitivity_active == pytest.approx(0.751)
    assert first.sensitivity_dead == pytest.approx(0.001)
    assert first.relative_sensitivity == pytest.approx(0.001 / 0.751)
    assert (second.sensitivity_dead, second.relative_sensitivity, second.all_used) == (None, None, True)
    assert [d.dimension for d in first.dimensions] == [0, 1, 2]
    assert [d.kl for d in first.dimensions] == pytest.approx([1.0, 0.5, 0.0])
    assert first.dimensions[0].spread == pytest.approx(2.0, rel=0.05)
    assert first.information_bound == pytest.approx(np.log(200))


def test_walks_go_along_active_dimensions_and_between_images() -> None:
    m = measured([0.5, 1.0, 0.0])
    (walk,) = m.walks
    assert [r.name for r in walk.dimensions] == ["dimension 1: 1.00 nats", "dimension 0: 0.50 nats"]
    assert walk.dimensions[0].images.shape == (9, 8, 8, 1)
    assert walk.dimensions[0].values[::4] == (-2.5, 0.0, 2.5)
    assert [r.name for r in walk.between] == ["cat to dog", "cat to dog", "cat to dog"]
    assert walk.between[0].values[::4] == (0.0, 0.5, 1.0)
    assert len(measured([0.0, 0.0]).walks[0].dimensions) == 1  # of what is dead, one is shown
    assert len(measured(*[[1.0]] * 6).walks) == 4
    unlabelled = latent.measure(
        [planted.evaluation([1.0])], planted.images(labels=None), Comparisons(), asked=None, device="cpu"
    )
    assert unlabelled.walks[0].between[0].name == "test/0 to test/1"


def test_who_is_helped_is_known_but_not_in_a_sweep() -> None:
    base = planted.evaluation([1.0, 0.0], name="base")
    soft = planted.shifted(planted.evaluation([1.0, 1.0], KLSchedule(warmup=2), name="soft"), -5.0)
    m = latent.measure([base, soft], planted.images(), Comparisons(), asked=None, device="cpu")
    assert [(r.helped, r.eased) for r in m.rows] == [("soft", True), ("", True)]
    swept = [planted.named(e, setting=1.0) for e in (base, soft)]
    m = latent.measure(swept, planted.images(), Comparisons(), asked=None, device="cpu")
    assert m.swept
    assert [r.helped for r in m.rows] == ["", ""]


def test_the_asked_beta_of_anothers_module_is_expected_and_not_listed() -> None:
    m = latent.measure([planted.evaluation([1.0])], planted.images(), Comparisons(), asked=4.0, device="cpu")
    assert (m.rows[0].asked, m.rows[0].expected) == (None, 4.0)


def test_collapse_is_told_in_short_sentences() -> None:
    row = replace(PARTLY, at_floor=1, floor=0.05)
    found = latent.findings(measures(row))
    assert planted.texts(found)[:4] == [
        "mine has partly collapsed: 3 of 4 latent dimensions carry 3.0 nats.",
        "mine: the other 1 keep to the prior (mean KL at most 0.01 nats), and the decoder is 25.0 % as sensitive to them as to the rest.",
        "mine: 1 of its active dimensions only fill the free bits (0.05 nats together).",
        "mine: image and code share 2.5 ± 0.1 nats, of 5.3 that these images can show.",
    ]
    dead = planted.latent_row([0.0, 0.0])
    assert collapse(dead) == [
        "mine has wholly collapsed: all 2 posteriors are the prior, whatever the image, and the decoder draws one picture."
    ]


def test_the_effective_beta_is_told_where_it_can_be() -> None:
    known = replace(PARTLY, beta=EffectiveBeta(1.0, 1.0, 1.0, 0.0))
    said = "mine: effective beta 1, by the gradient of its loss."
    assert said in planted.texts(latent.findings(measures(known)))
    unknown = replace(PARTLY, beta=EffectiveBeta(1.0, float("nan"), float("nan"), 0.0, "flat"))
    assert unknown.effective_beta is None
    assert said not in planted.texts(latent.findings(measures(unknown)))


def test_dimensions_gained_are_told_against_the_first() -> None:
    more = planted.latent_row([2.0, 1.0, 0.5, 0.5], "more", at_floor=2)
    fewer = planted.latent_row([2.0, 0.0, 0.0, 0.0], "fewer")
    same = planted.latent_row([2.0, 1.0, 0.05, 0.0], "same")
    said = planted.texts(latent.findings(measures(PARTLY, more, fewer, same)))
    assert said[-3:] == [
        "more against mine: 1 more active dimensions (2 of its 4 sit at the floor of the free bits).",
        "fewer against mine: 2 fewer active dimensions.",
        "same against mine: as many active dimensions.",
    ]


def test_advice_starts_with_what_is_wrong() -> None:
    heavy = planted.latent_row([1.0, 0.0, 0.0], beta=EffectiveBeta(1.0, 6.0, 6.0, 0.0))
    first, second, third = advice(heavy)
    assert first == "less weight on the KL, which counts 6 times"
    assert second.startswith("warm-up and free bits (--fix")
    assert third.startswith("or nothing at all: a VAE that needs 1 dimensions")
    assert "--latent 1 may do as well" in third
    helped = planted.latent_row([1.0, 0.0, 0.0], eased=True, helped="mitigated")
    assert advice(helped) == ["warm-up and free bits, which pay off in mitigated"]
    assert advice(planted.latent_row([1.0, 1.0])) == [
        "every dimension is in use, so a larger --latent may help (--sweep latent)"
    ]
    assert advice(planted.latent_row([1.0, 0.05])) == []
    young = planted.latent_row([0.0, 0.0], eased=True, steps=1200)
    assert advice(young) == ["more --epochs, as 1,200 optimizer steps may not have sufficed to begin using the code"]
    told = planted.texts(latent.findings(measures(heavy)))
    assert "To try with mine: less weight on the KL, which counts 6 times." in told


def test_a_beta_that_is_not_the_one_asked_for_is_a_caution() -> None:
    right = replace(PARTLY, beta=EffectiveBeta(1.0, 1.001, 1.001, 0.0))
    assert cautions(right) == []
    wrong = replace(PARTLY, beta=EffectiveBeta(1 / 784, 1 / 128, 6.125, 0.2))
    scale, counts, unexplained, ask = planted.texts(cautions(wrong), "caution")
    assert "weighs the KL 6.12 times on the ELBO's scale, not 1 times as asked" in scale
    assert counts == "mine: its loss counts reconstruction x 0.00128 and KL x 0.00781."
    assert "20.0 % of its loss's gradient" in unexplained
    assert "--decoder, --variance" in ask
    assert cautions(replace(wrong, expected=None)) == []  # nobody asked for any
    blind = replace(PARTLY, beta=EffectiveBeta(1.0, float("nan"), float("nan"), 0.0, "the two are parallel"))
    assert planted.texts(cautions(blind)) == [
        "mine: the effective beta of its loss cannot be told (the two are parallel)."
    ]


def test_information_near_what_the_images_can_show_is_a_caution() -> None:
    (near,) = cautions(replace(PARTLY, information=5.0))
    assert near.text == "mine: the mutual information is near the most that 200 images can show; it may be larger."
    assert near.kind == "caution"


def test_a_sweep_keeps_only_cautions() -> None:
    found = latent.findings(measures(replace(PARTLY, information=5.0), swept=True))
    assert [f.kind for f in found] == ["caution"]


def test_tables_hold_each_vae_and_each_dimension() -> None:
    other = planted.latent_row([1.0, 0.0], "other", beta=EffectiveBeta(1.0, 2.0, 2.0, 0.0), asked=None)
    collapsed, dimensions = latent.tables(measures(PARTLY, other))
    mine, theirs = collapsed.records()
    assert (mine["posterior"], mine["active_by_kl"], mine["latent"], mine["kl"]) == ("partly collapsed", 3, 4, 3.05)
    assert (mine["sensitivity_active"], mine["sensitivity_dead"], mine["beta_asked"]) == (2.0, 0.5, 1.0)
    assert (mine["beta_of_gradient"], theirs["beta_of_gradient"], theirs["beta_asked"]) == (None, 2.0, None)
    assert "ln n = 5.3" in collapsed.note
    rows = dimensions.records()
    assert [(r["vae"], r["dimension"], r["kl"]) for r in rows[:2]] == [("mine", 0, 2.0), ("mine", 1, 1.0)]
    assert len(rows) == 6
    assert (rows[0]["mean_part"], rows[0]["variance_part"], rows[0]["variance_of_mean"]) == (1.5, 0.5, 4.0)
    assert [r["active_by_kl"] for r in rows[:4]] == [True, True, True, False]


def test_the_curve_of_dimensions_ends_above_nothing() -> None:
    curve, along, between = latent.figures(measures(PARTLY))
    assert curve.series[0].y == (2.0, 1.0, 0.05, 1e-5)
    assert curve.series[0].x == (1, 2, 3, 4)
    assert (curve.series[-1].name, curve.series[-1].y) == ("threshold", (0.01, 0.01))
    assert (along.key, along.captions, along.groups) == (
        "traversals-0",
        ("-2.5", "+2.5"),
        ("dimension 0: 2.00 nats",) * 2,
    )
    assert (between.key, between.captions) == ("interpolations-0", ("0%", "50%", "100%"))


def test_the_section_holds_together() -> None:
    made = section(latent, measures(PARTLY))
    assert (made.key, made.source, made.file) == ("latent", "visus.studies.vae.latent", "studies/vae/latent")
    metrics = {m.key: m for m in made.metrics}
    assert {k for f in made.findings for k in f.metrics} <= set(metrics)
    assert metrics["mine/active-dimensions"].value == 3
    assert "mine/effective-beta" not in metrics
    told = latent.metrics(measures(replace(PARTLY, beta=EffectiveBeta(1.0, 2.0, 2.0, 0.0))))
    assert planted.by([{"key": m.key, "value": m.value} for m in told], "key")["mine/effective-beta"]["value"] == 2.0
