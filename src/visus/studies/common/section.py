"""A section: one question, measured once, told by pure functions of what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, TypeVar

from visus.result import AnyFigure, Finding, Metric, Section, Table

M = TypeVar("M", contravariant=True)
K = TypeVar("K", bound=Any)


class SectionModule(Protocol[M]):
    """A file (or package) that answers one question.

    It also has `measure`, which computes everything that it tells, once, into one frozen dataclass M. The four here compute nothing,
    open nothing and run no model: they only read M, so that each is tested with hand-made measures.
    """

    __name__: str
    KEY: str
    QUESTION: str

    def metrics(self, m: M, /) -> tuple[Metric, ...]: ...
    def tables(self, m: M, /) -> tuple[Table, ...]: ...
    def figures(self, m: M, /) -> tuple[AnyFigure, ...]: ...
    def findings(self, m: M, /) -> tuple[Finding, ...]: ...


def section(module: SectionModule[M], m: M) -> Section:
    """The section that `module` makes of its measures; its source is the module's own name."""
    return Section(
        key=module.KEY,
        title=module.QUESTION,
        source=module.__name__,
        findings=module.findings(m),
        tables=_distinct(module.tables(m)),
        figures=_distinct(module.figures(m)),
        metrics=_distinct(module.metrics(m)),
    )


def _distinct(items: tuple[K, ...]) -> tuple[K, ...]:
    """The same, a key that comes again numbered: keys are lower-case, and the user's classes and models may differ in case alone."""
    seen: set[str] = set()
    found = []
    for item in items:
        key, count = item.key, 1
        while key in seen:
            count += 1
            key = f"{item.key}-{count}"
        seen.add(key)
        found.append(item if key == item.key else replace(item, key=key))
    return tuple(found)
