"""Spec strings: `scheme:name@revision?key=value&flag=value`, the one notation for models and for images."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from visus.errors import SpecError

# Two letters and more: 'C://x' is a path of Windows. 's3://', 'data:image/png;base64,' are addresses.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|(data):\w+/", re.ASCII)
_HUB = re.compile(
    r"(https?://(?:www\.)?huggingface\.co/(?:datasets/)?|hf://(?:datasets/|models/)?)([\w.-]+/[\w.-]+)(?:/(?:tree|resolve)/main)?/?",
    re.ASCII,
)
_STREAM = re.compile(r"/dev/std|/dev/fd/|/proc/(?:self|\d+)/fd/")


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


def check_address(text: str) -> None:
    """Raise SpecError, with what to do, for what names neither a file nor a folder: an address on the web, a pipe, a device.

    Nothing is fetched from addresses; and what can be read once only can be neither split, cached nor looked at again.
    """
    if found := _ADDRESS.match(text):
        if hub := _HUB.fullmatch(text):
            raise SpecError(f"{text!r} is an address; write hf:{hub[2]}")
        if (found[1] or "").lower() == "file":
            raise SpecError(f"{text!r} is an address; write the path alone: {unquote(urlsplit(text).path) or '/PATH'}")
        raise SpecError(
            f"{_shown(text)} is an address, and visus fetches nothing from it; save it, unpack it if need be, and give its path"
        )
    if text == "-" or _STREAM.match(text):
        raise SpecError(
            f"{text!r} is a stream, which can be read once only; save what it gives to a file, and give its path"
        )
    try:
        mode = os.stat(os.path.expanduser(text)).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SpecError(f"{text!r} is a pipe or a device, no file; save what it gives to a file, and give its path")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:60]}...{text[-20:]}")


def parse_spec(text: str, schemes: Iterable[str], *, revisions: Iterable[str] = ()) -> Spec:
    """Parse `text`; only a prefix in `schemes` counts as a scheme, so that Windows paths and odd names pass through.

    schemes: the known schemes. revisions: the schemes whose names may end in '@revision' (elsewhere '@' is a
    character like any other: a folder may contain it). Raises SpecError on an empty spec, a malformed option, an address or a stream.
    """
    schemes, revisions = set(schemes), set(revisions)
    if not text.strip():
        raise SpecError("an empty spec was given; write for example visus:effnet-lite0 or folder:photos")
    check_address(text)
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
    for part in (name, *options.values()):
        check_address(part)
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
