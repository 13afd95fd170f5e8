"""Documents in the terminal, as LaTeX, and as files; the paper's tables in every format are in test_paper_tables."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from gtg_bench.benchmark.api import UsageError
from gtg_bench.benchmark.report.tables.document import Block, Cell, Column, Row
from gtg_bench.benchmark.report.tables.paper_tables import averages
from gtg_bench.benchmark.report.tables.render import drawn, latex_escaped, parts, to_markdown, write


def test_headings_span_their_columns_and_wide_tables_are_cut_between_groups() -> None:
    columns = tuple(Column("Group", name, name, "", "measured", "d", note="a") for name in ("m", "n"))
    cells = (Cell("1", "1"), Cell("22", "22", note="b"))
    block = Block("t", columns, (Row("label", cells), Row("x", (Cell("123", "123"), Cell("4", "4")))))
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    console.print(drawn(block))
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [  # type: ignore[attr-defined]
        "        Group (a)",
        "         m       n",
        "──────────────────",
        "label    1  22 (b)",
        "x      123       4",
    ]
    wide = Block("t", (*columns, Column("Other", "m", "m", "", "measured", "d")), (Row("label", (*cells, cells[0])),))
    assert [[column.group for column in part.columns] for part in parts(wide, 20)] == [["Group"] * 2, ["Other"]]
    assert parts(wide, 80) == [wide]


def test_latex_escapes() -> None:
    assert latex_escaped("50 % & a_b #1 {x} ~ ^ \\ `--out x_y`") == (
        r"50 \% \& a\_b \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \texttt{-{}-out x\_y}"
    )


def test_files_are_written_by_format_or_suffix(tmp_path: Path) -> None:
    document = averages()
    assert [path.name for path in write(document, tmp_path / "new")] == ["averages.csv", "averages.md", "averages.tex"]
    assert write(document, tmp_path / "one", ["latex"]) == [tmp_path / "one" / "averages.tex"]
    (path,) = write(document, tmp_path / "table.md")
    assert path.read_text(encoding="utf-8") == to_markdown(document)
    with pytest.raises(UsageError, match="markdown"):
        write(document, path, ["csv"])
    with pytest.raises(UsageError, match="cannot be written"):
        write(document, path / "folder")
