"""A section: one question, measured once, told by pure functions of what was measured."""

from __future__ import annotations

from typing import Protocol, TypeVar

from visus.result import AnyFigure, Finding, Metric, Section, Table

M = TypeVar("M", contravariant=True)


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
        tables=module.tables(m),
        figures=module.figures(m),
        metrics=module.metrics(m),
    )
