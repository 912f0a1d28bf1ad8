"""What studies share: layers by name, labels, cautions of the null, the network with random weights, files set aside."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from visus.errors import DataError, SpecError
from visus.images import Quarantined
from visus.result import Section
from visus.studies.common import taps
from visus.studies.common.labels import labels_of
from visus.studies.common.null_cautions import null_cautions
from visus.studies.common.options import check_choice
from visus.studies.common.proportion import of_counts, of_value
from visus.studies.common.quarantine import quarantine_table
from visus.studies.common.section import section


class Network:
    """Three points, as a backbone has them."""

    taps = tuple(SimpleNamespace(name=n) for n in ("stem", "body", "head"))
    aliases = {"early": "stem", "late": "head"}  # noqa: RUF012

    def resolve(self, names: list[str]) -> list[Any]:
        return [t for t in self.taps if t.name in {self.aliases.get(n, n) for n in names}]


NET: Any = Network()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, ["stem", "head"]),
        (["all"], ["stem", "body", "head"]),
        (["late,stem"], ["stem", "head"]),
        (["body"], ["body"]),
    ],
)
def test_layers_are_asked_for_by_name_alias_or_all(asked: list[str] | None, found: list[str]) -> None:
    assert taps.chosen_taps(NET, asked) == found


@pytest.mark.parametrize(("name", "label"), [("stem", "early (stem)"), ("body", "body")])
def test_a_layer_is_called_by_its_alias_where_it_has_one(name: str, label: str) -> None:
    assert taps.tap_label(NET, name) == label


@pytest.mark.parametrize(
    ("spec", "random"), [("timm:a", "timm:a?weights=none"), ("hf:o/n?size=64", "hf:o/n?size=64&weights=none")]
)
def test_the_network_with_random_weights_is_the_same_spec_without_weights(
    spec: str, random: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps, "load_backbone", lambda spec, seed: (spec, seed))
    assert taps.random_control(spec, seed=4) == (random, 4)


def test_rows_are_read_in_the_order_of_the_images() -> None:
    class Vectors(dict[str, np.ndarray]):
        rows = np.array([1, 3, 5])
        pixels = np.array(["b", "d", "f"])

        def __len__(self) -> int:
            return 3

    features: Any = Vectors(late=np.array([[1.0], [3.0], [5.0]]))
    assert taps.rows_of(features, "late", np.array([5, 1])).ravel().tolist() == [5.0, 1.0]
    assert taps.rows_of(features, "late", np.array([1, 3, 5])) is features["late"]
    assert taps.pixels_of(features, np.array([3, 1])).tolist() == ["d", "b"]


def test_a_set_without_labels_says_what_to_do() -> None:
    bare: Any = SimpleNamespace(labels=None, name="folder:x")
    with pytest.raises(DataError, match=r"--labels file\.csv"):
        labels_of(bare)
    assert labels_of(SimpleNamespace(labels=np.array([1]))).tolist() == [1]  # type: ignore[arg-type]


def null(*values: float) -> Any:
    found = np.array(values)
    return SimpleNamespace(accuracy=found, point=found.max(), exceeded_by=lambda a: bool(a > found.max()))


@pytest.mark.parametrize(
    ("probes", "says"),
    [
        ([("a", null(0.2, 0.4), 0.9)], []),
        ([("a", None, 0.1)], []),
        ([("a", null(0.2, 0.4), 0.3)], ["a: the probe's 30.0 % do not exceed"]),
        ([("a", null(0.2, 0.4), 0.3), ("b", null(0.1, 0.5), 0.4)], ["a and 1 more of 2 probes: the probe's 30.0 %"]),
        (
            [("a", null(0.6, 0.7), 0.9)],
            ["a: every probe on shuffled labels is better than chance, the worst with 60.0 %"],
        ),
    ],
)
def test_the_null_speaks_where_it_must(probes: Any, says: list[str]) -> None:
    found = null_cautions(probes, 0.5)
    assert len(found) == len(says)
    for text, part in zip(found, says, strict=True):
        assert text.startswith(part)
        assert len(text.split()) <= 35


def test_files_set_aside_are_listed_with_the_reason() -> None:
    table = quarantine_table([Quarantined("a.png", "truncated"), Quarantined("b.png", "no image")])
    assert table.title == "Set aside: 2 pictures that could not be used"
    assert table.rows == (("a.png", "truncated"), ("b.png", "no image"))


def test_a_share_of_nothing_is_unknown() -> None:
    found = of_value(float("nan"), 0)
    assert (found.low, found.high, found.n) == (0.0, 1.0, 0)
    assert of_counts(3, 4).value == 0.75


def test_a_word_that_is_unknown_names_the_known() -> None:
    check_choice("pool", "mean", ("mean", "cls"))
    with pytest.raises(SpecError, match="mean"):
        check_choice("pool", "maen", ("mean", "cls"))


def test_a_section_is_made_of_four_pure_functions_and_names_its_source() -> None:
    module: Any = SimpleNamespace(
        __name__="visus.studies.some.part", KEY="part", QUESTION="Is it?", metrics=lambda m: (), tables=lambda m: (),
        figures=lambda m: (), findings=lambda m: (),
    )  # fmt: skip
    found = section(module, object())
    assert isinstance(found, Section)
    assert (found.key, found.title, found.file) == ("part", "Is it?", "studies/some/part")
