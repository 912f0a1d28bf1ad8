"""The answer: a Result as one page to send on, figures for a paper, tables for a spreadsheet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visus.report.page import render_page
    from visus.report.write import write_report

_HOMES = {"render_page": "visus.report.page", "write_report": "visus.report.write"}
__all__ = ["render_page", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'visus.report' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
