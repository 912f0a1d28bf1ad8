"""The section on trainings, and the files that were set aside."""

from __future__ import annotations

import pytest
from tests.studies.vae import planted

from visus.images import Quarantined
from visus.studies.common.section import section
from visus.studies.vae import runs, set_aside

ONE = runs.measure([planted.trained("one", planted.fit([9.0, 7.0, 8.0]), tmp="/kept/one")])
TWO = runs.measure(
    [planted.trained("two", planted.fit([9.0, 8.0]), planted.fit([7.0, 6.0])), planted.evaluation([1.0]).model]
)


def test_only_what_was_trained_has_a_row() -> None:
    assert [r.name for r in TWO.rows] == ["two"]
    assert runs.measure([planted.evaluation([1.0]).model]).rows == ()


def test_every_epoch_has_both_sides_and_the_kept_one_is_marked() -> None:
    epochs, models = runs.tables(ONE)
    rows = epochs.records()
    assert [r["choice"] for r in rows] == ["", "kept", ""]
    first = rows[0]
    assert (first["epoch"], first["beta"], first["seconds"]) == (1, 0.0, 0.5)
    assert (first["reconstruction"], first["kl"], first["sum"]) == (6, 2, 8)
    assert (first["validation_reconstruction"], first["validation_kl"], first["validation_sum"]) == (7, 2, 9)
    assert models.records() == [{"vae": "one", "checkpoint": "/kept/one"}]


def test_seeds_have_a_mean_and_a_deviation() -> None:
    seeds = runs.tables(TWO)[0]
    (row,) = seeds.records()
    assert (row["seeds"], row["negative_elbo"], row["reconstruction"], row["kl"]) == (2, 7, 5, 2)
    assert row["negative_elbo_sd"] == pytest.approx(2**0.5)
    assert row["kl_sd"] == 0
    assert ONE.rows[0].deviation is None
    both = runs.tables(runs.RunMeasures((*ONE.rows, *TWO.rows)))[0].records()
    assert [r["negative_elbo_sd"] is None for r in both] == [True, False]


def test_curves_have_a_panel_a_term_and_a_ring_at_the_kept_epoch() -> None:
    (figure,) = runs.figures(runs.RunMeasures((*ONE.rows, *TWO.rows)))
    assert [p.title for p in figure.panels] == ["reconstruction", "KL", "negative ELBO"]
    elbo = figure.panels[2]
    assert [s.name for s in elbo.series] == ["one, training", "one, validation", "two, training", "two, validation"]
    assert (elbo.series[0].y, elbo.series[1].y) == ((8, 6, 7), (9, 7, 8))
    assert [(mark.x, mark.y) for mark in elbo.marks] == [(2, 7), (2, 8)]
    assert figure.own_y
    assert figure.y_log


def test_a_training_that_was_cut_short_or_still_improved_is_a_caution() -> None:
    assert runs.findings(ONE) == ()
    assert planted.texts(runs.findings(TWO), "caution") == [
        "two: the last epoch was the best, so longer training may bring more."
    ]
    cut = runs.measure([planted.trained("cut", planted.fit([9.0, 7.0], stopped="budget"))])
    said = ["cut: the time given was used up after epoch 2."]
    assert planted.texts(runs.findings(cut), "caution") == said == list(runs.cut_short(cut))
    short = runs.measure([planted.trained("short", planted.fit([9.0]))])
    assert runs.findings(short) == ()  # of one epoch nothing follows


def test_metrics_are_of_validation_images() -> None:
    (metric,) = runs.metrics(TWO)
    assert (metric.key, metric.value, metric.split) == ("two/validation/negative-elbo", 7.0, "validation")


def test_the_sections_hold_together() -> None:
    made = section(runs, TWO)
    assert {k for f in made.findings for k in f.shows} <= {
        *(t.key for t in made.tables),
        *(f.key for f in made.figures),
    }
    files = (Quarantined("torn.png", "no picture"),)
    aside = section(set_aside, set_aside.measure(planted.images(quarantine=files)))
    assert aside.tables[0].records() == [{"file": "torn.png", "reason": "no picture"}]
    assert planted.texts(aside.findings, "caution") == ["1 pictures could not be decoded and are left out."]
    assert (aside.figures, aside.metrics) == ((), ())
