"""Notes and cautions: said once, kept where a run collects them, logged everywhere."""

from __future__ import annotations

from visus.progress import Silent, caution, collecting, note, reporting


class _Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def test_what_is_said_is_kept_once_and_logged_once() -> None:
    heard = _Heard()
    with reporting(heard), collecting() as remarks:
        note("labels: column `dx`")
        note("labels: column `dx`")
        caution("3 images stand in train and in test")
    assert remarks.notes == ["labels: column `dx`"]
    assert remarks.cautions == ["3 images stand in train and in test"]
    assert heard.lines == ["labels: column `dx`", "3 images stand in train and in test"]


def test_outside_a_run_it_is_only_logged() -> None:
    heard = _Heard()
    with collecting() as remarks:
        pass
    with reporting(heard):
        note("n")
    assert heard.lines == ["n"]
    assert remarks.notes == []
