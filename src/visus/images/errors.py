"""What goes wrong with one picture."""

from __future__ import annotations

from visus.errors import DataError


class DecodeError(DataError):
    """A picture cannot be decoded; the message is the reason in a few words, without the picture's name."""


class GoneError(DecodeError):
    """A picture's file was there when the images were listed, and cannot be read any more: true today, and nothing to remember."""
