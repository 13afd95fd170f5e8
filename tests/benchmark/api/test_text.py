"""Text that users supply: nothing of it controls a terminal or runs in a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from gtg_bench.benchmark.api.text import csv_cell, csv_text, printable
from gtg_bench.benchmark.datasets.tables import read_rows


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("left 5 mm", "left 5 mm"),
        ("Épanchement à gauche — 左侧\u00a0µ\u200d\n", "Épanchement à gauche — 左侧\u00a0µ\u200d\n"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\u202eleft\u2066\ufeff", r"\u202eleft\u2066\ufeff"),
        ("a\x9bb\x7f\r\t", r"a\x9bb\x7f\r\t"),
        ("\ud800\u2028", r"\ud800\u2028"),
    ],
)
def test_control_and_format_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1 effusion", "'+1 effusion"),
        ("-effusion", "'-effusion"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("'=1", "''=1"),
        ("-0.25", "-0.25"),
        ("+1e-5", "+1e-5"),
        ("left's", "left's"),
        ("'quoted'", "'quoted'"),
    ],
)
def test_formulas_are_text_in_a_spreadsheet_and_read_back(tmp_path: Path, text: str, cell: str) -> None:
    assert csv_cell(text) == cell
    assert csv_text(cell) == text
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["phrase"], [cell]])
    assert read_rows(tmp_path / "a.csv", ["phrase"])[0].text("phrase") == text
