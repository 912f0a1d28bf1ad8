"""Tables as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest

from visus.report.tables import best_cells, latex, numeric_columns, to_csv, to_latex
from visus.result import Column, Table


def table(rows: list[tuple[object, ...]], *columns: Column | str, **more: str) -> Table:
    made = [Column(c, c) if isinstance(c, str) else c for c in columns]
    return Table(key="t", title=more.pop("title", "T"), columns=made, rows=rows, **more)


def read(table: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(to_csv(table), newline="")))


def test_csv_keeps_every_digit_and_every_name_and_is_headed_by_keys() -> None:
    names = ["a,b", 'say "hi"', "two\nlines", "naïve 日本 😀", " padded "]
    values = [1 / 3, 1e-12, np.float32(0.1), float("nan"), None]
    cells = list(zip(names, values, range(5), [True, False] * 2 + [True], strict=True))
    rows = read(table(cells, "name", Column("value", "value in print", "share"), "n", "ok"))
    assert rows[0] == ["name", "value", "n", "ok"]
    assert [r[0] for r in rows[1:]] == names
    assert [float(r[1]) for r in rows[1:4]] == [1 / 3, 1e-12, float(np.float32(0.1))]
    assert [r[1] for r in rows[4:]] == ["", ""]
    assert [r[3] for r in rows[1:3]] == ["true", "false"]


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+cmd", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "＝1"])
def test_csv_runs_no_formula(cell: str) -> None:
    key = "".join(cell.lower().split())
    rows = read(table([(cell,)], Column(key, cell)))
    assert rows[1] == ["'" + cell]
    assert rows[0] == ["'" + key] or cell.startswith("\t")
    assert not rows[1][0].startswith(("=", "+", "-", "@", "\t", "＝"))


@pytest.mark.parametrize("cell", ["-3.2 %", "+5", "-0.1 (-0.3 – 0.1)", "–", "a=b"])
def test_csv_leaves_signed_numbers_alone(cell: str) -> None:
    assert read(table([(cell,)], "c"))[1] == [cell]


def test_bold_are_the_best_as_displayed() -> None:
    up, down = Column("up", "up", better="higher"), Column("down", "down", better="lower")
    one = table(
        [("a", 0.91234, 3, "x"), ("b", 0.91238, 1, "y"), ("c", float("nan"), 1, "z"), ("d", None, 2, "w")],
        "m", up, down, Column("text", "text", better="higher"),
    )  # fmt: skip
    assert best_cells(one) == {(0, 1), (1, 1), (1, 2), (2, 2)}
    assert numeric_columns(one) == [False, True, True, False]
    shares = table([(0.91234,), (0.9119,), (0.913,)], Column("a", "a", "share", better="higher"))
    assert best_cells(shares) == {(2, 0)}
    assert best_cells(table([(0.91234,), (0.9119,)], Column("a", "a", "share", better="higher"))) == {(0, 0), (1, 0)}


def test_latex_escapes_every_special() -> None:
    text = latex(r"\input{x} $a_1$ & 5% #1 ^ ~ <b> | [c] *d -- é 日本 λ")
    bare = re.sub(
        r"\\(?:textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar|lambda)\{\}", "", text
    )
    bare = bare.replace(r"\ensuremath{\lambda}", "")
    assert r"\input" not in text
    assert r"\textbackslash{}input\{x\}" in text
    assert not re.search(r"(?<!\\)[$&%#_]", bare)
    assert not re.search(r"[\^~<>|]", bare)
    assert "--" not in text


@pytest.mark.parametrize("rows", [0, 3, 60])
def test_latex_is_balanced_booktabs(rows: int) -> None:
    names = ["[x]", "*y", "a & b", r"\end{table}", "50 %", "{", "}"]
    body = tuple((names[i % len(names)], i, -0.5 if i else 0.9) for i in range(rows))
    columns = (Column("name", "name_1"), Column("n", "n"), Column("score", "score", better="higher"))
    text = to_latex(table(list(body), *columns, title="A & B", note="100 %"), label="acc")
    for environment in ("table", "tabular", "longtable"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}")
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert r"\label{tab:acc}" in text
    assert r"\toprule" in text
    assert (r"\begin{longtable}{lrr}" in text) == (rows == 60)
    lines = [x for x in text.splitlines() if x.endswith(r" \\") and not x.startswith(r"\caption")]
    assert all(len(re.findall(r"(?<!\\)&", x)) == 2 for x in lines)
    if rows:
        assert r"\textbf{0.900}" in text
        assert r"\ensuremath{-}0.500" in text


def test_latex_is_headed_by_labels_with_units_and_holds_percent() -> None:
    text = to_latex(
        table([(0.8312, -0.021)], Column("a", "accuracy", "share"), Column("d", "change", "points")), label="a"
    )
    assert r"accuracy, \% & change, points \\" in text
    assert r"83.1 & \ensuremath{-}2.1 \\" in text
