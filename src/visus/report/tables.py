"""Tables for the page, for a spreadsheet and for a paper."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from visus.report.text import clean, line
from visus.result import Column, Table

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
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def numeric_columns(table: Table) -> list[bool]:
    """For each column, whether it holds numbers and nothing else (beside empty cells)."""
    filled = [[cell for cell in table.column(column.key) if cell is not None] for column in table.columns]
    return [bool(cells) and all(map(is_number, cells)) for cells in filled]


def best_cells(table: Table) -> set[tuple[int, int]]:
    """(row, column) of every cell to set in bold: those that read the same as the best of their column, so ties all are."""
    best: set[tuple[int, int]] = set()
    for j, column in enumerate(table.columns):
        cells = {i: cell for i, cell in enumerate(table.column(column.key)) if is_number(cell)}
        if column.better is None or not cells:
            continue
        top = column.text((max if column.better == "higher" else min)(cells.values()))
        best |= {(i, j) for i, cell in cells.items() if column.text(cell) == top}
    return best


def to_csv(table: Table) -> str:
    """RFC 4180 text, UTF-8, headed by the columns' keys: numbers as in the data (shares are fractions), nothing for None, true and false.

    A text that a spreadsheet would run as a formula is given a leading apostrophe.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([_csv_cell(column.key) for column in table.columns])
    writer.writerows([_csv_cell(cell) for cell in row] for row in table.rows)
    return buffer.getvalue()


def _csv_cell(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if is_number(cell):
        return repr(cell)
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
    best, numeric = best_cells(table), numeric_columns(table)
    spec = "".join("r" if right else "l" for right in numeric) or "l"
    head = " & ".join(latex(column.heading) for column in table.columns) + r" \\"
    body = []
    for i, row in enumerate(table.rows):
        cells = [_latex_cell(cell, column) for cell, column in zip(row, table.columns, strict=True)]
        body.append(" & ".join(rf"\textbf{{{c}}}" if (i, j) in best else c for j, c in enumerate(cells)) + r" \\")
    caption = rf"\caption{{{' '.join(filter(None, (latex(table.title), latex(table.note))))}}}"
    tag = rf"\label{{tab:{label}}}"
    if len(table.rows) > _LONG:
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


def _latex_cell(cell: Any, column: Column) -> str:
    text = latex(column.text(cell))
    # A number's sign is a minus, not a hyphen.
    return r"\ensuremath{-}" + text[3:] if is_number(cell) and text.startswith("{-}") else text
