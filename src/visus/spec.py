"""Spec strings: `scheme:name@revision?key=value&flag=value`, the one notation for models and for images."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from visus.errors import SpecError


@dataclass(frozen=True)
class Spec:
    """A parsed spec string.

    scheme: the part before the first colon, '' when there is none (a bare name or a path).
    name: what follows, without revision and options. revision: what follows '@', or None. options: what follows '?'.
    text: the string as the user typed it.
    """

    scheme: str
    name: str
    revision: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def __str__(self) -> str:
        return self.text


def parse_spec(text: str, schemes: Iterable[str], *, revisions: Iterable[str] = ()) -> Spec:
    """Parse `text`; only a prefix in `schemes` counts as a scheme, so that Windows paths and odd names pass through.

    schemes: the known schemes. revisions: the schemes whose names may end in '@revision' (elsewhere '@' is a
    character like any other: a folder may contain it). Raises SpecError on an empty spec or a malformed option.
    """
    schemes, revisions = set(schemes), set(revisions)
    if not text.strip():
        raise SpecError("an empty spec was given; write for example visus:effnet-lite0 or folder:photos")
    head, colon, tail = text.partition(":")
    scheme, rest = (head, tail) if colon and head in schemes else ("", text)
    name, mark, query = rest.partition("?")
    options: dict[str, str] = {}
    if mark:
        try:
            options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))
        except ValueError:
            raise SpecError(f"the options of {text!r} are malformed; write them as ?key=value&key=value") from None
    revision = None
    if scheme in revisions and "@" in name:
        name, _, revision = name.rpartition("@")
    if scheme and not name:
        raise SpecError(f"{text!r} names nothing after '{scheme}:'")
    return Spec(scheme, name, revision, options, text)


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> SpecError:
    """The error for a name that nobody knows: it lists the three nearest known names."""
    names = sorted(set(known))
    lowered = {n.lower(): n for n in names}
    near = [lowered[n] for n in difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.3)]
    guess = f"; nearest: {', '.join(near)}" if near else (f"; known: {', '.join(names[:6])}" if names else "")
    return SpecError(f"unknown {what} {name!r}{guess}" + (f" ({hint})" if hint else ""))


def check_options(spec: Spec, allowed: Iterable[str]) -> None:
    """Raise SpecError when the spec carries an option that its source does not know."""
    allowed = list(allowed)
    for key in spec.options:
        if key not in allowed:
            raise (
                unknown(f"option in {spec.text!r}:", key, allowed)
                if allowed
                else SpecError(f"{spec.text!r} takes no options, but has {key!r}")
            )
