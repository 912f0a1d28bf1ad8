"""Spec strings."""

from __future__ import annotations

import pytest

from visus.errors import SpecError
from visus.spec import check_options, parse_spec, unknown

SCHEMES = ("timm", "folder", "torchvision", "visus")


def test_scheme_name_revision_and_options_are_taken_apart() -> None:
    spec = parse_spec("torchvision:resnet152@IMAGENET1K_V2?weights=none&a=b", SCHEMES, revisions=("torchvision",))
    assert (spec.scheme, spec.name, spec.revision, dict(spec.options)) == (
        "torchvision",
        "resnet152",
        "IMAGENET1K_V2",
        {"weights": "none", "a": "b"},
    )


@pytest.mark.parametrize("text", ["C:/photos", "photos/a:b", "./x", "my@folder"])
def test_paths_pass_through_whole(text: str) -> None:
    spec = parse_spec(text, SCHEMES, revisions=("torchvision",))
    assert (spec.scheme, spec.name, spec.revision) == ("", text, None)


def test_an_at_sign_in_a_folder_is_no_revision() -> None:
    assert parse_spec("folder:a@b", SCHEMES, revisions=("torchvision",)).name == "a@b"


@pytest.mark.parametrize("text", ["", "  ", "timm:", "timm:x?weights"])
def test_malformed_specs_are_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_spec(text, SCHEMES)


def test_an_unknown_name_is_answered_with_the_three_nearest() -> None:
    message = str(unknown("images", "cifar1", ["cifar10", "cifar100", "stl10", "mnist"]))
    assert "cifar10, cifar100" in message


def test_an_unknown_option_is_refused() -> None:
    spec = parse_spec("visus:emoji?splt=concept", SCHEMES)
    with pytest.raises(SpecError, match="split"):
        check_options(spec, ["split", "task"])
    with pytest.raises(SpecError, match="no options"):
        check_options(spec, [])
