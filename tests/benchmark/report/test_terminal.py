"""Long work shows how far it has come: a bar on a terminal, lines every so often elsewhere."""

from __future__ import annotations

import io

import pytest

from gtg_bench.benchmark.report import terminal
from gtg_bench.benchmark.report.terminal import Terminal, counting


def written(monkeypatch: pytest.MonkeyPatch, is_terminal: bool, silent: bool = False) -> str:
    """What is printed about 9 items that take 10 seconds each."""
    now, file = iter(range(0, 1000, 10)), io.StringIO()
    monkeypatch.setattr(terminal.time, "monotonic", lambda: float(next(now)))
    console = Terminal(file=file, force_terminal=is_terminal, width=80)
    with counting(console, "[b]odd\x1b[31m", silent=silent) as count:
        for done in range(1, 10):
            count(done, 9)
    return file.getvalue()


def test_elsewhere_a_line_every_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, False).splitlines() == [
        r"[b]odd\x1b[31m: 3 of 9, 30 s",
        r"[b]odd\x1b[31m: 6 of 9, 60 s",
    ]


def test_on_a_terminal_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "9/9" in written(monkeypatch, True)
    assert written(monkeypatch, True, silent=True) == written(monkeypatch, False, silent=True) == ""
