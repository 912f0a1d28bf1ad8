"""What holds for every section, whatever its measures are."""

from __future__ import annotations

from typing import Any

from visus.report.draw import draw
from visus.result import Result, Section
from visus.studies.common.section import section

MOST_WORDS = 35


def check(module: Any, m: Any, *, study: str = "study") -> Section:
    """The section that `module` makes of measures made by hand: short findings, names that are there, figures that can be drawn."""
    made = section(module, m)
    known = Result(study=study, title=made.title, sections=(made,))  # refuses a key that comes twice
    shown = {*known.tables, *known.figures}
    for finding in made.findings:
        assert len(finding.text.split()) <= MOST_WORDS, finding.text
        assert set(finding.shows) <= shown, finding
        assert set(finding.metrics) <= set(known.metrics), finding
    for metric in made.metrics:
        assert metric.unit != "share" or metric.value is None or 0 <= metric.value <= 1, metric
    for table in made.tables:
        assert str(table)
    for figure in made.figures:
        draw(figure)
    return made


def kinds(made: Section) -> dict[str, list[str]]:
    """The findings' texts by their kind."""
    found: dict[str, list[str]] = {"result": [], "undecided": [], "caution": []}
    for finding in made.findings:
        found[finding.kind].append(finding.text)
    return found
