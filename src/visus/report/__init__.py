"""The answer: a Result as one page to send on, figures for a paper, tables for a spreadsheet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from visus.report.page import render_page as render_page
    from visus.report.write import write_report as write_report

# Drawing brings matplotlib, which takes a second: a name is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"page": ["render_page"], "write": ["write_report"]}
)
