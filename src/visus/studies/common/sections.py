"""Parts of a Result: what one question inside a study adds to it, merged in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from visus.studies.common.schema1 import Figure, Result, Table


@dataclass(frozen=True)
class Part:
    """Findings, tables, figures, arrays and warnings of one question, named so that they clash with no other part's."""

    findings: tuple[str, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def merged(first: Sequence[Part], result: Result, then: Sequence[Part]) -> Result:
    """The result with the parts `first` in front of what it holds, and `then` behind."""
    whole = [*first, Part(result.findings, result.tables, result.figures, result.arrays, result.warnings), *then]
    return replace(
        result,
        findings=tuple(f for part in whole for f in part.findings),
        tables={name: table for part in whole for name, table in part.tables.items()},
        figures=tuple(f for part in whole for f in part.figures),
        arrays={name: array for part in whole for name, array in part.arrays.items()},
        warnings=tuple(w for part in whole for w in part.warnings),
    )
