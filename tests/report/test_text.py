"""Names from outside: cleaned, shortened, embedded, made into file names."""

from __future__ import annotations

import json
from xml.etree.ElementTree import fromstring

from hypothesis import given
from hypothesis import strategies as st

from visus.report.text import clean, file_names, line, script_json, shorten


@given(st.text(alphabet=st.characters(), max_size=60))
def test_clean_text_can_be_stored_anywhere(text: str) -> None:
    result = clean(text + "\udcff\x00\x1b")
    result.encode("utf-8")
    fromstring("<a>" + result.replace("&", "&amp;").replace("<", "&lt;") + "</a>")


@given(st.text(max_size=200), st.integers(8, 60))
def test_shortened_text_fits_on_one_line(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= limit
    assert "\n" not in short
    if len(line(text)) <= limit:
        assert short == line(text)


def test_script_json_cannot_leave_its_script_and_reads_back() -> None:
    value = {"</script><script>alert(1)</script>": ["<!--", "a\u2028b\u2029c", "&lt;", "'\""]}
    text = script_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_file_names_are_safe_and_distinct() -> None:
    wild = [
        "../../etc/passwd",
        "a/b",
        "a\\b",
        "A-b",
        "con",
        "nul.txt",
        "",
        "...",
        "é",
        "e",
        "日本",
        "x" * 300,
        "x" * 301,
        "a\nb",
    ]
    names = file_names(wild, "figure")
    assert len({n.lower() for n in names}) == len(wild)
    for name in names:
        assert name.isascii()
        assert not set(name) & set('/\\:*?"<>|\n')
        assert not name.startswith(".")
        assert len(name) < 90
        assert name.split(".")[0].lower() not in {"con", "nul"}
