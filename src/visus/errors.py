"""The errors that a user can cause. Each carries one line: what is wrong, and what to do about it."""

from __future__ import annotations


class VisusError(Exception):
    """Base of every error a user can cause; the command line prints its message on one line and exits with 2."""


class SpecError(VisusError):
    """A spec string is malformed, or names something that does not exist (the message lists the nearest names)."""


class DataError(VisusError):
    """Images, labels or arrays cannot be used as they are."""


class OfflineError(VisusError):
    """Something must be fetched and cannot be: the message says what, and where to put it by hand."""


class StoreError(VisusError):
    """A result or a feature store cannot be written or read (disk full, no permission, damaged files)."""


class MissingExtraError(VisusError):
    """An optional dependency is needed; the message names the extra to install."""


class ReadError(VisusError):
    """The disk, the network or memory failed while an image was read. It says nothing about the image, which is never set aside for it."""
