"""What people pass as arguments, in the types in which they have it: read as the one thing that it can mean, or refused in one line."""

from __future__ import annotations

import enum
import importlib
import inspect
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visus
from visus.app import api
from visus.arguments import LARGEST_SEED, RANGES, read, settle
from visus.errors import DataError, SpecError, VisusError
from visus.features import Features, extract

DOORS = sorted(api.STUDIES)


class Name(str, enum.Enum):  # noqa: UP042 - whose str() is 'Name.LATE'
    LATE = "late"


def _settled(door: str, **given: Any) -> dict[str, Any]:
    needed = {"predict": {"images": ["a.png"]}, "train": {"kind": "vit"}}.get(door, {})
    return settle(door, inspect.signature(getattr(api, door)), (), needed | given, flags=True).arguments


@pytest.mark.parametrize(
    ("annotation", "name", "given", "expected"),
    [
        ("list[str] | None", "model", "visus:effnet-lite0", ["visus:effnet-lite0"]),
        ("list[str]", "classes", "cat", ["cat"]),
        ("list[str] | None", "taps", ("early", "late"), ["early", "late"]),
        ("list[str] | None", "taps", np.array(["early", "late"]), ["early", "late"]),
        ("list[str] | None", "taps", np.str_("late"), ["late"]),
        ("list[str] | None", "taps", Name.LATE, ["late"]),
        ("list[str] | None", "taps", {"late": 1}.keys(), ["late"]),
        ("list[str] | None", "regime", "head,full", ["head,full"]),  # which the study takes apart, as on the command line
        ("list[str]", "images", Path("a") / "b.png", [str(Path("a") / "b.png")]),
        ("list[str]", "images", [Path("a.png"), "b.png"], ["a.png", "b.png"]),
        ("list[str]", "images", (Path(n) for n in ("a.png", "b.png")), ["a.png", "b.png"]),
        ("list[str] | None", "model", None, None),
        ("str", "images", Path("photos"), "photos"),
        ("str", "device", torch.device("cuda", 1), "cuda:1"),
        ("str", "device", torch.device("cpu"), "cpu"),
        ("str", "budget", 600, "600.000000s"),
        ("str", "budget", 0.5, "0.500000s"),
        ("str", "budget", np.float32(90), "90.000000s"),
        ("str", "budget", timedelta(minutes=2), "120.000000s"),
        ("str | None", "lr", 1e-4, "0.0001"),
        ("str | None", "lr", np.float64(3e-3), "0.003"),
        ("str | None", "lr", [1e-4, 3e-4], "0.0001,0.0003"),
        ("str | None", "lr", np.array([1e-4, 3e-4]), "0.0001,0.0003"),
        ("str | None", "keep", (1, 0.5), "1,0.5"),
        ("str | None", "pairs", [50, 200], "50,200"),
        ("str | None", "size", 28, "28"),
        ("str | None", "size", (28, 20), "28x20"),
        ("int", "epochs", np.int64(3), 3),
        ("int", "epochs", np.uint8(3), 3),
        ("int", "epochs", 3.0, 3),
        ("int", "epochs", torch.tensor(3), 3),
        ("int", "epochs", np.array(3), 3),
        ("int | None", "limit", None, None),
        ("float", "lr", 1, 1.0),
        ("float", "lr", np.float16(0.5), 0.5),
        ("float", "beta", torch.tensor(2.0), 2.0),
        ("bool", "maps", np.bool_(False), False),
        ("bool", "maps", True, True),
        ("Path | None", "store", "x", Path("x")),
        ("int", "seed", 0, 0),
        ("int", "seed", LARGEST_SEED, LARGEST_SEED),
        ("int", "seed", np.uint32(LARGEST_SEED), LARGEST_SEED),
    ],
)  # fmt: skip
def test_what_can_mean_one_thing_is_read_as_it(annotation: str, name: str, given: Any, expected: Any) -> None:
    found = read(given, annotation, name)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "name", "given", "said"),
    [
        ("int", "limit", "100", "limit is the text '100'; give a whole number from 1 up"),
        ("int", "limit", 2.5, "limit is 2.5; give a whole number"),
        ("int", "limit", True, "limit is True; give a whole number"),
        ("int", "limit", np.zeros(3), "limit is an ndarray of shape [3]"),
        ("int", "limit", 0, "limit is 0; give a whole number from 1 up"),
        ("int", "seed", -1, "seed is -1; give a whole number from 0 to 4,294,967,292"),
        ("int", "seed", 2**32 - 3, "seed is 4294967293"),
        ("int", "seed", 10**30, "give a whole number from 0 to"),
        ("int", "size", 10_000, "size is 10000; give a whole number from 1 to 4,096"),
        ("float", "lr", float("nan"), "lr is nan; give a number above 0"),
        ("float", "lr", float("inf"), "lr is inf"),
        ("float", "lr", np.float32("nan"), "lr is nan"),
        ("float", "lr", -1e-3, "lr is -0.001; give a number above 0"),
        ("float", "lr", 0, "lr is 0.0; give a number above 0"),
        ("float", "drop", 0.95, "drop is 0.95; give a number from 0 to 0.9"),
        ("float", "lr", 1j, "lr is a complex"),
        ("bool", "maps", "no", "maps is the text 'no'; give True or False"),
        ("bool", "maps", 0, "maps is 0; give True or False"),
        ("str", "images", None, "images is None; give a spec or path of images"),
        ("str", "images", np.zeros((4, 8, 8, 3)), "images is an ndarray of shape [4, 8, 8, 3]; give a spec or path"),
        ("str", "images", ["a", "b"], "images is a list of 2, the first the text 'a'"),
        ("str", "images", b"photos", "images is a bytes"),
        ("str", "labels", 3, "labels is 3; give a file's path"),
        ("str", "budget", [1, 2], "budget is a list of 2, the first 1; give a text or numbers"),
        ("str", "budget", float("inf"), "budget is inf"),
        ("str", "lr", {"a": 1}, "lr is a dict of 1; give a text or numbers"),
        ("list[str] | None", "model", [], "model is empty; name one at least, or leave it out"),
        ("list[str] | None", "model", " ", "model is empty"),
        ("list[str] | None", "model", [1], "model is a list of 1, the first 1; give a model's spec or path"),
        ("list[str] | None", "model", torch.nn.Linear(2, 2), "model is a Linear; give a model's spec or path"),
        ("list[str] | None", "model", torch.nn.Sequential(torch.nn.ReLU()), "model is a Sequential"),
        ("list[str]", "images", {"a", "b"}, "images is a set of 2"),
        ("list[str]", "images", np.zeros((8, 8, 3)), "images is an ndarray of shape [8, 8, 3]"),
        ("ImageSet", "images", "folder:photos", "images is the text 'folder:photos'; give an ImageSet, as visus.load_images"),
    ],
)  # fmt: skip
def test_what_cannot_is_refused_in_one_line_that_names_it(annotation: str, name: str, given: Any, said: str) -> None:
    with pytest.raises(DataError) as told:
        read(given, annotation, name)
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("door", DOORS)
def test_no_door_takes_a_thing_of_another_kind(door: str) -> None:
    parameters = inspect.signature(getattr(api, door)).parameters
    assert {"seed", "limit", "out", "threads"} <= set(parameters)
    for name, parameter in parameters.items():
        option = name if parameter.default is inspect.Parameter.empty else "--" + name.replace("_", "-")
        for wrong in (object(), {"a": 1}, np.zeros((2, 2)), torch.nn.Identity(), lambda: 1, float("nan"), 1 + 1j, b"x"):
            with pytest.raises(DataError) as told:
                _settled(door, **{name: wrong})
            assert str(told.value).startswith(f"{option} is "), told.value
            assert "\n" not in str(told.value)


@pytest.mark.parametrize("door", DOORS)
def test_every_number_of_a_door_has_a_range_and_every_default_lies_in_it(door: str) -> None:
    signature = inspect.signature(getattr(api, door))
    for name, parameter in signature.parameters.items():
        kinds = {kind.strip() for kind in parameter.annotation.split("|")}
        assert kinds <= {"str", "int", "float", "bool", "None", "list[str]"}, (name, kinds)
        if kinds & {"int", "float"} and name != "channels":
            assert name in RANGES, name
            with pytest.raises(DataError, match=r"give a (whole )?number"):
                _settled(door, **{name: -1})
    defaults = {n: p.default for n, p in signature.parameters.items() if p.default is not inspect.Parameter.empty}
    assert _settled(door, **defaults).items() >= defaults.items()


def test_names_that_are_not_known_are_answered_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="unknown argument of transfer: 'imagez'; nearest: images"):
        visus.transfer(imagez="visus:emoji")
    with pytest.raises(SpecError, match="unknown argument of load_backbone: 'donwload'; nearest: download"):
        visus.load_backbone("visus:effnet-lite0", donwload=True)  # type: ignore[call-arg]
    with pytest.raises(DataError, match="predict: missing a required argument: 'images'"):
        visus.predict()
    with pytest.raises(DataError, match="transfer: too many positional arguments"):
        visus.transfer("visus:effnet-lite0", "visus:digits", "late")


def test_seeds_that_follow_one_another_stay_below_the_largest() -> None:
    assert _settled("transfer", seed=LARGEST_SEED - 2, seeds=3)["seeds"] == 3
    with pytest.raises(DataError, match="leaves no room for 3 seeds"):
        _settled("transfer", seed=LARGEST_SEED - 1, seeds=3)


def test_the_loaders_take_paths_and_refuse_what_is_no_spec(tmp_path: Path) -> None:
    for load, what in ((visus.load_images, "spec"), (visus.load_backbone, "spec"), (visus.load_dual, "spec")):
        with pytest.raises(VisusError, match=str(tmp_path.name)):  # a folder with nothing in it
            load(tmp_path / "nothing")  # type: ignore[arg-type]
        for wrong in (None, 3, np.zeros((2, 2)), torch.nn.Identity(), ["visus:digits"]):
            with pytest.raises(DataError, match=f"^{what} is .*; give a spec or path") as told:
                load(wrong)  # type: ignore[arg-type]
            assert "\n" not in str(told.value)
    with pytest.raises(DataError, match=r"^seed is -1; give a whole number from 0"):
        visus.load_backbone("visus:effnet-lite0", seed=-1)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Features:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUS_HOME", str(tmp_path_factory.mktemp("home")))
        images = visus.load_images("visus:digits").limit(12, seed=0)
        return extract(images, visus.load_backbone("visus:emoji-vit"), "late", engine="torch")  # type: ignore[arg-type]


def test_features_answer_to_public_names_and_to_the_networks_own(features: Features) -> None:
    (own,) = features.taps
    np.testing.assert_array_equal(features["late"], features[own])
    assert features["late"].shape[0] == 12
    np.testing.assert_array_equal(np.concatenate(list(features.blocks("late", rows=5))), features[own])
    for unknown in ("latest", "early", 3):
        with pytest.raises(SpecError, match=f"no tap {unknown!r} among these features; they hold late, ") as told:
            features[unknown]  # type: ignore[index]
        assert own in str(told.value)


def test_extract_says_what_it_takes() -> None:
    images, backbone = visus.load_images("visus:digits"), visus.load_backbone("visus:emoji-vit")
    for given, said in (
        (
            {"images": "visus:digits"},
            "images is the text 'visus:digits'; give an ImageSet, as visus.load_images makes it",
        ),
        (
            {"backbone": torch.nn.Identity()},
            "backbone is an Identity; give a Backbone, as visus.load_backbone makes it",
        ),
        ({"batch": 0}, "batch is 0; give a whole number from 1 up"),
        ({"batch": "8"}, "batch is the text '8'"),
        ({"taps": 3}, "taps is 3; give a text or a list of them"),
        ({"device": 0}, "device is 0; give auto, cpu, cuda or cuda:N"),
    ):
        with pytest.raises(DataError) as told:
            extract(**({"images": images, "backbone": backbone} | given))  # type: ignore[arg-type]
        assert said in str(told.value)


@pytest.mark.parametrize(
    "room", ["visus", "visus.images", "visus.models", "visus.features", "visus.measures", "visus.app.api"]
)
def test_every_public_name_is_there_by_star_and_by_dir(room: str) -> None:
    module = importlib.import_module(room)
    names = getattr(module, "__all__", None) or sorted(module.STUDIES)
    if hasattr(module, "__all__"):
        space: dict[str, Any] = {}
        exec(f"from {room} import *", space)
        assert set(names) <= set(space)
    for name in names:
        assert not inspect.ismodule(getattr(module, name)), name
    assert set(names) <= set(dir(module))
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


def test_extract_is_the_function_whichever_is_imported_first() -> None:
    code = "import visus.features.extraction\nfrom visus.features import extract\nassert callable(extract)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "1e-3,-2", "-1e-4", "1e-3,nan"])
def test_rates_in_a_text_lie_above_nothing_as_numbers_do(text: str) -> None:
    from visus.studies.transfer.regime_options import chosen_rates

    with pytest.raises(SpecError, match="a learning rate is a number above 0"):
        chosen_rates(text)
    assert chosen_rates("3e-4, 1e-4") == (1e-4, 3e-4)
