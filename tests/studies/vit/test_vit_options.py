"""What a ViT study is asked for, from the words of the command line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from visus.errors import DataError, SpecError
from visus.measures.masking import PATTERNS
from visus.studies.common.options import ImageOptions
from visus.studies.vit.options import (
    RATIOS,
    SECTIONS,
    Options,
    chosen_sections,
    keep_ratios,
    masking_options,
)

MASKING = masking_options(None, keep=None, fill="mean", images=10)
OPTIONS = Options((), ImageOptions("a"), (), 6, SECTIONS, False, None, MASKING, True, "cpu", 0, False)


@pytest.mark.parametrize(
    ("part", "expected"),
    [(None, SECTIONS), (["masking,attention"], ("masking", "attention")), (["pooling", "pooling"], ("pooling",))],
)
def test_sections_are_words_by_commas_or_repeated(part: list[str] | None, expected: tuple[str, ...]) -> None:
    assert chosen_sections(part) == expected


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(SpecError, match="--part"):
        chosen_sections(["maskin"])


def test_all_patterns_and_ratios_are_the_default() -> None:
    assert (MASKING.patterns, MASKING.ratios, MASKING.fill) == (PATTERNS, RATIOS, "mean")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.4,0.7", (1.0, 0.7, 0.4)), (" 1, 0.5 ,", (1.0, 0.5)), ("0.5,0.5", (1.0, 0.5)), (None, RATIOS)],
)
def test_ratios_fall_from_the_whole(text: str | None, expected: tuple[float, ...]) -> None:
    assert keep_ratios(text) == expected


@pytest.mark.parametrize(
    ("text", "said"), [("1", "below 1"), ("0", "above 0"), ("1.2", "above 0"), ("", "above 0"), ("x", "list of shares")]
)
def test_a_wrong_ratio_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        keep_ratios(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("pattern", "fill", "said"), [(["spiral"], "mean", "--pattern"), (None, "pink", "--fill")])
def test_an_unknown_pattern_or_fill_is_named(pattern: list[str] | None, fill: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        masking_options(pattern, keep=None, fill=fill, images=10)


def test_too_few_images_are_refused() -> None:
    for change in ({"shown": 0}, {"masking": replace(MASKING, images=1)}):
        with pytest.raises(DataError, match="at least 2 images"):
            replace(OPTIONS, **change)


def test_the_shipped_transformer_is_the_default_model() -> None:
    assert OPTIONS.specs == ("visus:emoji-vit",)
    assert replace(OPTIONS, models=("a", "b")).specs == ("a", "b")
