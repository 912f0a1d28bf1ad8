"""Tables for the page, for a spreadsheet and for a paper."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import numpy as np

from visus.report.text import clean, line
from visus.studies.common.schema1 import Table, format_cell

_LONG = 45  # rows that a page of LaTeX holds
# Characters with which a spreadsheet begins a formula, full-width ones included.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_SIGNED_NUMBER = re.compile(r"[+-][\d\s.,%()–-]*")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "`": r"{\textasciigrave}", "[": "{[}", "]": "{]}", "*": "{*}", "-": "{-}",
    "–": "--", "—": "---", "…": r"\ldots{}", "×": r"\ensuremath{\times}", "±": r"\ensuremath{\pm}",
    "·": r"\ensuremath{\cdot}", "°": r"\ensuremath{^\circ}", "−": r"\ensuremath{-}", "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}", "≈": r"\ensuremath{\approx}", "→": r"\ensuremath{\rightarrow}",
    "λ": r"\ensuremath{\lambda}", "α": r"\ensuremath{\alpha}", "β": r"\ensuremath{\beta}", "μ": r"\ensuremath{\mu}",
    "σ": r"\ensuremath{\sigma}", "Δ": r"\ensuremath{\Delta}", "κ": r"\ensuremath{\kappa}", "²": r"\ensuremath{^2}",
    "\u00a0": "~", "\u202f": r"\,", "\u2009": r"\,", "“": "``", "”": "''", "‘": "`", "’": "'", "\ufffd": "?",
}  # fmt: skip


def is_number(cell: Any) -> bool:
    """Whether a cell is a number that sorts and lines up as one (a yes or no is not)."""
    return isinstance(cell, int | float | np.integer | np.floating) and not isinstance(cell, bool)


def full_rows(table: Table) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows of one length: short rows end with None, cells beyond the last column get unnamed ones."""
    width = max([len(table.columns), *map(len, table.rows)])
    columns = [line(c) for c in table.columns] + [""] * (width - len(table.columns))
    return columns, [[*row, *[None] * (width - len(row))] for row in table.rows]


def numeric_columns(table: Table) -> list[bool]:
    """For each column, whether it holds numbers and nothing else (beside empty cells)."""
    columns, rows = full_rows(table)
    found = []
    for j in range(len(columns)):
        cells = [row[j] for row in rows if row[j] is not None]
        found.append(bool(cells) and all(is_number(c) for c in cells))
    return found


def best_cells(table: Table) -> set[tuple[int, int]]:
    """(row, column) of every cell to set in bold: those that read the same as the best of their column, so ties all are."""
    _, rows = full_rows(table)
    best: set[tuple[int, int]] = set()
    for j, column in enumerate(table.columns):
        wanted = table.bold.get(column)
        if wanted not in ("max", "min"):
            continue
        cells = {i: row[j] for i, row in enumerate(rows) if is_number(row[j]) and row[j] == row[j]}
        if not cells:
            continue
        top = format_cell((max if wanted == "max" else min)(cells.values()), table.digits)
        best |= {(i, j) for i, cell in cells.items() if format_cell(cell, table.digits) == top}
    return best


def to_csv(table: Table) -> str:
    """RFC 4180 text, UTF-8: numbers in full precision, nothing for None and NaN, true and false.

    A text that a spreadsheet would run as a formula is given a leading apostrophe.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    columns, rows = full_rows(table)
    writer.writerow([_csv_cell(c) for c in columns])
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def _csv_cell(cell: Any) -> str:
    if cell is None or (is_number(cell) and cell != cell):
        return ""
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if is_number(cell):
        return repr(int(cell)) if isinstance(cell, int | np.integer) else repr(float(cell))
    text = clean(cell)
    risky = text.startswith(_FORMULA) and not _SIGNED_NUMBER.fullmatch(text)
    return "'" + text if risky else text


def latex(text: object) -> str:
    """One line of text in which LaTeX finds no command; dashes, signs and Greek letters of ours are spelled out."""
    return "".join(_LATEX.get(character, character) for character in line(text))


def to_latex(table: Table, *, label: str) -> str:
    r"""A booktabs table: a float with caption and label, or a longtable above 45 rows; the best values in \textbf.

    label: what stands in \label, letters, digits, dash and dot only. Needs \usepackage{booktabs} (and longtable).
    """
    columns, rows = full_rows(table)
    best, numeric = best_cells(table), numeric_columns(table)
    spec = "".join("r" if right else "l" for right in numeric) or "l"
    head = " & ".join(latex(c) for c in columns) + r" \\"
    body = []
    for i, row in enumerate(rows):
        cells = [_latex_cell(cell, table.digits) for cell in row]
        body.append(" & ".join(rf"\textbf{{{c}}}" if (i, j) in best else c for j, c in enumerate(cells)) + r" \\")
    caption = rf"\caption{{{' '.join(filter(None, (latex(table.title), latex(table.note))))}}}"
    tag = rf"\label{{tab:{label}}}"
    if len(rows) > _LONG:
        lines = [
            r"% needs \usepackage{booktabs,longtable}",
            rf"\begin{{longtable}}{{{spec}}}",
            rf"{caption}{tag} \\",
            *(r"\toprule", head, r"\midrule", r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead"),
            *(r"\bottomrule", r"\endlastfoot", *body, r"\end{longtable}"),
        ]
    else:
        lines = [
            r"% needs \usepackage{booktabs}",
            *(r"\begin{table}[tbp]", r"\centering", caption, tag, rf"\begin{{tabular}}{{{spec}}}", r"\toprule", head),
            *(r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}"),
        ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: Any, digits: int) -> str:
    text = latex(format_cell(cell, digits))
    # A number's sign is a minus, not a hyphen.
    return r"\ensuremath{-}" + text[3:] if is_number(cell) and text.startswith("{-}") else text
