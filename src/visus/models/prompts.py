"""Prompt sets: the templates that turn a class name into texts, and other wordings of the classes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from visus.errors import DataError
from visus.paths import expanded

PLAIN = ("{}",)
SHORT = ("a photo of a {}",)
VARIANTS = (
    "a photo of a {}",
    "a picture of a {}",
    "an image of a {}",
    "a photo of the {}",
    "a close-up photo of a {}",
    "a photo of one {}",
    "this is a {}",
    "{}",
)
CIFAR = tuple(
    f"a {kind}photo of {article} {size}{{}}."
    for article in ("a", "the")
    for kind, size in (
        *(
            (kind, "")
            for kind in ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")
        ),
        ("", "small "),
        ("", "big "),
    )
)
EMOJI = (
    "{}",
    "{} emoji",
    "a small drawing, {}",
    "a picture of a {}",
    "a picture of the kind {}",
    "a drawing of a {}",
)
OWN = {
    "cifar10": CIFAR,
    "cifar100": CIFAR,
    "stl10": ("a photo of a {}.", "a photo of the {}."),
    "mnist": ('a photo of the number: "{}".',),
    "visus:digits": ('a photo of the number: "{}".',),
    "visus:emoji": EMOJI,
}
"""A data set's own templates: of CIFAR, STL-10 and MNIST those of Radford et al. 2021 (their prompts notebook), of the emoji
the wordings that its captions have."""
SETS = ("plain", "short", "variants", "openai-80", "simple-7", "own")
_TEMPLATE = re.compile(r"[^{}]*\{\}[^{}]*")


def template_set(name_or_path: str | Path, *, dataset: str | None = None) -> tuple[str, ...]:
    """Templates, each with {} once where the class name goes.

    name_or_path: 'plain' ('{}'), 'short' ('a photo of a {}'), 'variants' (eight wordings), 'openai-80' and 'simple-7' (Radford et al.
    2021, for ImageNet, as open_clip has them), or a text file of one template a line; blank lines and those with '#' first are
    skipped; 'own': of the set `dataset` (cifar10, cifar100, stl10, mnist, visus:digits, visus:emoji; its name as loaded).
    Raises DataError for an unknown name, a file that cannot be read, holds no template, or has a line without {} or with more.
    """
    known = {"plain": PLAIN, "short": SHORT, "variants": VARIANTS}
    name = str(name_or_path)
    if name in known:
        return known[name]
    if name == "own":
        plain = (dataset or "").partition("?")[0]
        if plain not in OWN:
            raise DataError(
                f"{dataset or 'this set'} has no templates of its own; the sets that have are {', '.join(OWN)}"
            )
        return OWN[plain]
    if name in SETS:
        # Seconds, and the other sets need none of it.
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

        made = OPENAI_IMAGENET_TEMPLATES if name == "openai-80" else SIMPLE_IMAGENET_TEMPLATES
        return tuple(str(template("{}")) for template in made)
    path = expanded(name)
    if not path.is_file():
        where = f" for {dataset}" if dataset else ""
        raise DataError(
            f"unknown prompt set {name!r}{where}; choose {', '.join(SETS)}, or a text file of templates with {{}}"
        )
    lines = [(i, line.strip()) for i, line in enumerate(_text(path).splitlines(), 1)]
    lines = [(i, line) for i, line in lines if line and not line.startswith("#")]
    if not lines:
        raise DataError(f"{path} holds no template; write one a line, with {{}} where the class name goes")
    for i, line in lines:
        if not _TEMPLATE.fullmatch(line):
            raise DataError(f"line {i} of {path} is no template: {line!r}; write {{}} once, where the class name goes")
    return tuple(line for _, line in lines)


def class_wordings(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Wordings by class, from a JSON file {class: [wording, ...]}. Raises DataError for a file that is not of this form."""
    path = expanded(path)
    try:
        body = json.loads(_text(path))
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from error
    form = 'write {"class": ["wording", ...]}'
    if not isinstance(body, dict) or not body:
        raise DataError(f"{path} holds no wordings by class; {form}")
    for name, words in body.items():
        if not isinstance(words, list) or not words or not all(isinstance(w, str) and w.strip() for w in words):
            raise DataError(f"the wordings of {name!r} in {path} are no list of texts; {form}")
    return {name: tuple(words) for name, words in body.items()}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
