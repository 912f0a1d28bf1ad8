"""Which outputs mean which classes: names, WordNet's map checked by hand, a user's file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from visus.errors import DataError
from visus.models.labels import imagenet_labels
from visus.models.meanings import class_targets, described_by, means_label, positions_of_ids

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
LABELS = imagenet_labels(1000) or ()


def meant(classes: tuple[str, ...], name: str) -> str | None:
    targets = class_targets(classes, LABELS)
    assert targets is not None
    at = next(i for i, label in enumerate(LABELS) if label.split(",")[0] == name)
    return next((c for c, t in zip(classes, targets, strict=True) if at in t), None)


@pytest.mark.parametrize(
    ("label", "cifar", "stl"),
    [
        ("tabby", "cat", "cat"), ("Egyptian cat", "cat", "cat"), ("cougar", None, None), ("sorrel", "horse", "horse"), ("zebra", None, None),
        ("moving van", "truck", "truck"), ("convertible", "automobile", "car"), ("minivan", None, None), ("airliner", "airplane", "airplane"),
        ("goldfish", None, None), ("ostrich", "bird", "bird"), ("robin", "bird", "bird"), ("tree frog", "frog", None),
        ("beagle", "dog", "dog"), ("timber wolf", None, None), ("container ship", "ship", "ship"), ("squirrel monkey", None, "monkey"),
        ("hartebeest", None, None), ("chimpanzee", None, None),
    ],
)  # fmt: skip
def test_the_shipped_map_says_what_a_person_would(label: str, cifar: str | None, stl: str | None) -> None:
    assert meant(CIFAR, label) == cifar
    assert meant(STL, label) == stl


def test_no_output_means_two_classes_and_a_class_without_outputs_is_empty() -> None:
    targets = class_targets(CIFAR, LABELS)
    assert targets is not None
    every = np.concatenate(targets)
    assert len(every) == len(set(every.tolist()))
    assert not len(targets[CIFAR.index("deer")])
    assert 110 < len(targets[CIFAR.index("dog")]) < 125
    assert 55 < len(targets[CIFAR.index("bird")]) < 62


def test_equal_names_need_no_map() -> None:
    targets = class_targets(("sea animal", "fruit"), ("Fruit", "dog", "sea_animal, fish"))
    assert targets is not None
    assert [t.tolist() for t in targets] == [[2], [0]]
    assert class_targets(("one", "two"), ("three", "four")) is None
    assert class_targets(("tench", "nothing such"), LABELS) is None


def test_an_answer_is_right_if_it_is_among_those_that_mean_the_class() -> None:
    targets = (np.array([0, 3]), np.array([], np.int64), np.array([1]))
    assert means_label(np.array([3, 3, 1, 2]), np.array([0, 1, 2, 2]), targets).tolist() == [True, False, True, False]


def test_a_users_file_names_labels_positions_or_wordnet_ids(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"fish": ["tench", 1, "n01484850"], "dog": "beagle"}))
    targets = class_targets(("dog", "fish", "cat"), LABELS, path=path)
    assert targets is not None
    assert [len(t) for t in targets] == [1, 3, 0]
    assert targets[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"cow": ["ox"]}', "no class"), ('{"dog": ["xyzzy"]}', "no output"), ("[1]", "no map"), ("{", "cannot be read"),
        ('{"dog": ["tench"], "fish": [0]}', "both dog and fish"),
    ],
)  # fmt: skip
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, body: str, said: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(body)
    with pytest.raises(DataError, match=said):
        class_targets(("dog", "fish"), LABELS, path=path)


def test_wordnet_ids_of_the_classes_say_which_outputs_mean_them() -> None:
    ids = ("n03126707", "n02012849", "", "n00004475")
    expected = [[517], [134], [], []]
    for labels, shift in ((LABELS, 0), (("background", *LABELS), 1), (tuple(x.split(",")[0] for x in LABELS), 0)):
        found = class_targets(("a", "b", "c", "d"), labels, ids=ids)
        assert found is not None
        assert [t.tolist() for t in found] == [[i + shift for i in at] for at in expected]
    large = imagenet_labels(21841) or ()
    assert len(positions_of_ids(large)) == 21841
    found = class_targets(("a", "b", "c", "d"), large, ids=ids)
    assert found is not None
    assert all("crane" in large[int(t[0])] for t in found[:2])
    assert len(found[3]) == 1
    assert positions_of_ids(LABELS[::-1]) == {}
    assert class_targets(("a", "b"), ("x", "y"), ids=("n03126707", "n02012849")) is None


def test_the_shipped_maps_serve_a_head_with_a_background_in_front() -> None:
    plain, shifted = class_targets(CIFAR, LABELS), class_targets(CIFAR, ("background", *LABELS))
    assert plain is not None
    assert shifted is not None
    assert all(((a + 1) == b).all() for a, b in zip(plain, shifted, strict=True))


def test_a_file_touches_only_the_models_whose_outputs_it_describes(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    outputs = {"imagenet": LABELS, "ours": ("wolf", "pike", "dog"), "theirs": ("dog", "fish")}
    path.write_text(json.dumps({"fish": ["pike"], "dog": ["wolf", "dog"]}))
    found = described_by(path, ("dog", "fish"), outputs)
    assert list(found) == ["ours"]
    assert [t.tolist() for t in found["ours"]] == [[0, 2], [1]]
    path.write_text(json.dumps({"ours": {"fish": ["pike"]}, "theirs": {"fish": [1], "dog": [0]}}))
    found = described_by(path, ("dog", "fish"), outputs)
    assert {m: [x.tolist() for x in t] for m, t in found.items()} == {"ours": [[], [1]], "theirs": [[0], [1]]}
    path.write_text(json.dumps({"fish": [1], "dog": [0]}))
    with pytest.raises(DataError, match="by position"):
        described_by(path, ("dog", "fish"), outputs)
    assert list(described_by(path, ("dog", "fish"), {"a": ("x", "y"), "b": ("x", "y")})) == ["a", "b"]
    path.write_text(json.dumps({"fish": ["carp"]}))
    with pytest.raises(DataError, match="no output of the model"):
        described_by(path, ("dog", "fish"), {"ours": outputs["ours"]})
    path.write_text(json.dumps({"nobody": {"fish": [1]}}))
    with pytest.raises(DataError, match="none of the models"):
        described_by(path, ("dog", "fish"), outputs)
    path.write_text(json.dumps({"n01440764": ["pike"]}))
    assert [t.tolist() for t in described_by(path, ("tench",), outputs, ids=("n01440764",))["ours"]] == [[1]]
