"""What is told of controls and of repeated images, on measures made by hand."""

from __future__ import annotations

from typing import Any

from tests.studies.told import check, kinds

from visus.studies.common.proportion import Proportion
from visus.studies.common.repeated_images import AccuracyWithout, RepeatedImages
from visus.studies.transfer import trust
from visus.studies.transfer.trust import ControlRow, TrustMeasures

N = 200
BARE = ControlRow("a", "late", 0.8, None, None, None, None)
FULL = ControlRow("a", "late (blocks.3)", 0.8, 0.31, 0.11, 0.14, 1 / 21)


def repeated(count: int = 0, *, without: Proportion | None = None, **more: Any) -> RepeatedImages:
    answers = tuple(
        AccuracyWithout(("a", "late", method), Proportion(0.8, 0.74, 0.85, N), without)
        for method in (("linear probe", "kNN") if count else ())
    )
    pairs = tuple((f"t{i}.png", "cat", f"u{i}.png", "dog") for i in range(min(count, 2)))
    fields: dict[str, Any] = {
        "count": count,
        "n_test": N,
        "against": 0,
        "within": 0,
        "validation": 0,
        "n_validation": 80,
        "pairs": pairs,
        "named": tuple(f"{a} = {b}" for a, _, b, _ in pairs),
        "accuracies": answers,
    }
    return RepeatedImages(**(fields | more))


def measures(row: ControlRow = FULL, of: RepeatedImages | None = None, cautions: tuple[str, ...] = ()) -> TrustMeasures:
    controls = row.shuffled is not None
    return TrustMeasures((row,), 0, 0.1, controls, of or repeated(), 0, cautions)


def test_controls_stand_beside_the_probe() -> None:
    made = check(trust, measures())
    (table,) = made.tables
    assert table.rows == (("a", "late (blocks.3)", 0.8, 0.31, 0.11, 0.14, 1 / 21, 0.1),)
    assert "80.0" in str(table)
    assert "0.048" in str(table)
    assert "20 permutations" in table.note
    assert {m.key: m.value for m in made.metrics} == {"a/late/random/accuracy": 0.31, "a/late/shuffled/accuracy": 0.11}


def test_controls_are_said_in_percent() -> None:
    assert kinds(check(trust, measures()))["result"] == [
        "Against the probe's 80.0 % stand 10.0 % for always answering the most frequent class and 31.0 % for the same network with "
        "random weights.",
        "On shuffled labels the same probe reaches 11.0 %, its 95 % point 14.0 %.",
    ]


def test_without_controls_only_the_most_frequent_class_is_left() -> None:
    made = check(trust, measures(BARE))
    assert made.tables == ()
    assert made.metrics == ()
    assert made.figures == ()
    (said,) = made.findings
    assert said.text == "Against the probe's 80.0 % stand 10.0 % for always answering the most frequent class."
    assert said.shows == ()


def test_repeated_images_are_counted_named_and_left_out() -> None:
    made = check(trust, measures(of=repeated(30, without=Proportion(0.7, 0.62, 0.77, 170), against=4)))
    by_key = {t.key: t for t in made.tables}
    first = by_key["accuracy-without-repeats"].records()[0]
    assert (first["method"], first["accuracy"], first["accuracy_without"], first["n_without"]) == (
        "linear probe",
        0.8,
        0.7,
        170,
    )
    assert by_key["repeated-images"].rows[0] == ("t0.png", "cat", "u0.png", "dog")
    assert made.metrics[-1].key == "repeated-images"
    assert made.metrics[-1].value == 30
    said = kinds(made)
    assert said["result"][-1].endswith(
        "the probe is right on 70.0 % of 170 (95 % interval 62.0 to 77.0 %) instead of 80.0 %."
    )
    assert (
        "30 of 200 test images (t0.png = u0.png, t1.png = u1.png ...); 4 of them bear another class"
        in said["caution"][0]
    )


def test_where_every_test_image_is_repeated_no_accuracy_is_left() -> None:
    made = check(trust, measures(of=repeated(N)))
    record = made.tables[1].records()[0]
    assert (record["accuracy_without"], record["n_without"]) == (None, 0)
    assert kinds(made)["caution"][0].startswith("All 200 test images are")


def test_what_else_was_found_is_a_caution() -> None:
    said = kinds(check(trust, measures(of=repeated(within=3, validation=5), cautions=("a, late: look for a leak.",))))
    texts = said["caution"]
    assert texts[0].startswith("5 of 80 validation images")
    assert texts[1].startswith("3 of 200 test images repeat")
    assert texts[2] == "a, late: look for a leak."
