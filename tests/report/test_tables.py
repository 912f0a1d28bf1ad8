"""Tables as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest

from visus.report.tables import best_cells, latex, numeric_columns, to_csv, to_latex
from visus.studies.common.schema1 import Table


def read(table: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(to_csv(table), newline="")))


def test_csv_keeps_every_digit_and_every_name() -> None:
    names = ["a,b", 'say "hi"', "two\nlines", "naïve 日本 😀", " padded "]
    values = [1 / 3, 1e-12, np.float32(0.1), float("nan"), None]
    rows = read(
        Table(
            ("name", "value", "n", "ok"), tuple(zip(names, values, range(5), [True, False] * 2 + [True], strict=True))
        )
    )
    assert rows[0] == ["name", "value", "n", "ok"]
    assert [r[0] for r in rows[1:]] == names
    assert [float(r[1]) for r in rows[1:4]] == [1 / 3, 1e-12, float(np.float32(0.1))]
    assert [r[1] for r in rows[4:]] == ["", ""]
    assert [r[3] for r in rows[1:3]] == ["true", "false"]


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+cmd", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "＝1"])
def test_csv_runs_no_formula(cell: str) -> None:
    rows = read(Table((cell,), ((cell,),)))
    assert rows[1] == ["'" + cell]
    assert rows[0][0].startswith("'")
    assert not rows[1][0].startswith(("=", "+", "-", "@", "\t", "＝"))


@pytest.mark.parametrize("cell", ["-3.2 %", "+5", "-0.1 (-0.3 – 0.1)", "–", "a=b"])
def test_csv_leaves_signed_numbers_alone(cell: str) -> None:
    assert read(Table(("c",), ((cell,),)))[1] == [cell]


def test_bold_are_the_best_as_displayed() -> None:
    table = Table(
        ("m", "up", "down", "text"),
        (("a", 0.91234, 3, "x"), ("b", 0.91238, 1, "y"), ("c", float("nan"), 1, "z"), ("d", None, 2, "w")),
        bold={"up": "max", "down": "min", "text": "max", "absent": "max"},
    )
    assert best_cells(table) == {(0, 1), (1, 1), (1, 2), (2, 2)}
    assert numeric_columns(table) == [False, True, True, False]


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
    text = to_latex(
        Table(("name_1", "n", "score"), body, title="A & B", note="100 %", bold={"score": "max"}), label="acc"
    )
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


def test_ragged_rows_lose_nothing() -> None:
    assert read(Table(("a", "b"), ((1,), (1, 2, 3)))) == [["a", "b", ""], ["1", "", ""], ["1", "2", "3"]]
