"""What the CLIP study is asked, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visus.errors import DataError
from visus.studies.common.options import ImageOptions, check_choice, split_commas

PARTS = ("zero-shot", "gap", "alignment")
PROMPTS = ("plain", "short", "variants")


@dataclass(frozen=True)
class ClipOptions:
    """The arguments of `clip`. parts, prompts: as asked for, () where nothing was. fit_sizes: how many pairs alignments are fitted on."""

    model: str
    images: ImageOptions
    embeddings: str | None
    parts: tuple[str, ...]
    prompts: tuple[str, ...]
    synonyms: str | None
    queries: tuple[str, ...]
    shown: int
    fit_sizes: tuple[int, ...] | None
    control: bool
    device: str
    seed: int
    download: bool

    def __post_init__(self) -> None:
        for name in self.parts:
            check_choice("part", name, PARTS)
        if self.shown < 1:
            raise DataError("--shown needs at least 1 image")
        if self.embeddings:
            self._check_embeddings()

    def _check_embeddings(self) -> None:
        """A file of embeddings has neither images nor a model that could read more."""
        if self.queries:
            raise DataError(
                "--search needs a model that reads queries, which --embeddings brings not; give --model and --images"
            )
        if self.prompts or self.synonyms:
            raise DataError(
                f"{'--prompts' if self.prompts else '--synonyms'} needs a model that reads texts, which --embeddings brings not; save class_texts"
            )
        if self.images.limit is not None or self.images.labels:
            raise DataError(
                f"{'--labels' if self.images.labels else '--limit'} is of images, which --embeddings has not; change the file instead "
                "(labels are an array in it)"
            )

    @property
    def prompt_sets(self) -> tuple[str, ...]:
        """Names or files of the prompt sets; the first is the one that is told of."""
        return self.prompts or PROMPTS

    def asks_for(self, part: str) -> bool:
        """Whether a section is wanted: all are where none was named."""
        return part in (self.parts or PARTS)


def words_of(given: Sequence[str] | None, option: str, *, example: str) -> tuple[str, ...]:
    """The words of a repeatable argument, each once; () where it was not given. Raises DataError where it was given and is empty."""
    words = tuple(dict.fromkeys(split_commas(given)))
    if given and not words:
        raise DataError(f"--{option} is empty; name one at least, as {example}")
    return words


def sizes_of(text: str | None) -> tuple[int, ...] | None:
    """'50,200,800' -> (50, 200, 800). Raises DataError for anything but whole numbers from 2 up."""
    if text is None:
        return None
    try:
        sizes = tuple(sorted({int(word) for word in text.split(",")}))  # an empty word is a slip of the pen here
    except ValueError as error:
        raise DataError(f"--pairs is {text!r}; give whole numbers, as 50,200,800") from error
    if sizes[0] < 2:
        raise DataError(f"--pairs has {sizes[0]}; an alignment needs at least 2 pairs")
    return sizes
