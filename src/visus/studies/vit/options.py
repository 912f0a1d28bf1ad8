"""What a ViT study is asked for, checked: from the words of the command line to options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visus.errors import DataError
from visus.measures.masking import PATTERNS
from visus.studies.common.options import ImageOptions, check_choice, split_commas

SECTIONS = ("predictions", "attention", "masking", "pooling")
RATIOS = tuple(round(1 - k / 10, 1) for k in range(10))
FILLS = ("mean", "black", "blur")
DEFAULT_MODEL = "visus:emoji-vit"


@dataclass(frozen=True)
class MaskingOptions:
    """patterns: how patches go. ratios: shares of them that are kept, 1 first, falling. fill: what hides pixels. images: at most so many."""

    patterns: tuple[str, ...]
    ratios: tuple[float, ...]
    fill: str
    images: int


@dataclass(frozen=True)
class Options:
    """models: specs. chosen: files, folders or specs of images to look at; shown: how many of the set where there are none. sections: what
    is done; named: whether the user named them. meanings: the file that says what outputs mean."""

    models: tuple[str, ...]
    images: ImageOptions
    chosen: tuple[str, ...]
    shown: int
    sections: tuple[str, ...]
    named: bool
    meanings: Path | None
    masking: MaskingOptions
    controls: bool
    device: str
    seed: int
    download: bool

    @property
    def specs(self) -> tuple[str, ...]:
        """The models, or the one that ships."""
        return self.models or (DEFAULT_MODEL,)

    def __post_init__(self) -> None:
        if self.masking.images < 2 or self.shown < 1:
            raise DataError("--masked needs at least 2 images and --shown at least 1")


def chosen_sections(part: Sequence[str] | None) -> tuple[str, ...]:
    """The sections that are asked for, in the user's order; all by default. Raises SpecError for an unknown one."""
    return _chosen("part", part, SECTIONS)


def masking_options(pattern: Sequence[str] | None, *, keep: str | None, fill: str, images: int) -> MaskingOptions:
    """Checked words of the command line. Raises SpecError for an unknown pattern or fill, DataError for a wrong share."""
    patterns = _chosen("pattern", pattern, PATTERNS)
    check_choice("fill", fill, FILLS)
    return MaskingOptions(patterns, keep_ratios(keep), fill, images)


def _chosen(name: str, given: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(split_commas(given or known)))
    for word in words:
        check_choice(name, word, known)
    return words


def keep_ratios(text: str | None) -> tuple[float, ...]:
    """'1,0.7,0.4' -> keep ratios, 1 in front, falling. Raises DataError for one outside (0, 1]."""
    if text is None:
        return RATIOS
    try:
        found = {float(part) for part in split_commas(text)}
    except ValueError:
        raise DataError(f"--keep {text!r} is no list of shares; write it as 1,0.7,0.4") from None
    wrong = [r for r in found if not 0 < r <= 1]
    if wrong or not found:
        raise DataError(
            f"--keep {text!r}: a keep ratio must be above 0 and at most 1, since a picture without patches shows nothing"
        )
    if found == {1.0}:
        raise DataError(f"--keep {text!r}: a curve needs a share below 1 too; write it as 1,0.7,0.4")
    return tuple(sorted(found | {1.0}, reverse=True))
