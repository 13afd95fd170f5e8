"""A document as Markdown: GitHub's tables, with the few HTML tags that they allow."""

from __future__ import annotations

from gtg_bench.benchmark.report.model import Block, Cell, Document, Row, headings, sections

_MARKS = {"": "{}", "best": "**{}**", "second": "<ins>{}</ins>", "equal": "**{}**"}


def markdown(document: Document) -> str:
    """The document's blocks as tables below headings, then its notes; ends with a line break."""
    parts = [f"## {_escaped(document.title)}", *map(_block, document.blocks)]
    parts += [document.legend] if document.marked else []
    parts.append("\n".join(f"- {f'({letter}) ' if letter else ''}{_escaped(note)}" for letter, note in document.notes))
    return "\n\n".join(filter(None, parts)) + "\n"


def _block(block: Block) -> str:
    heads = [_noted("<br>".join(map(_escaped, headings(block, column))), column.note) for column in block.columns]
    lines = [_line(["", *heads]), _line([":--", *["--:"] * len(heads)])]
    for name, rows in sections(block.rows):
        if name:
            lines.append(_line([f"*{_escaped(name)}*", *[""] * len(heads)]))
        lines += map(_row, rows)
    return f"### {_escaped(block.title)}\n\n" + "\n".join(lines)


def _row(row: Row) -> str:
    return _line([_noted(_escaped(row.label), row.note), *map(_cell, row.cells)])


def _cell(cell: Cell) -> str:
    text = _noted(_MARKS[cell.mark].format(_escaped(cell.figure)), cell.note)
    return text + (f"<sub>{_escaped(cell.bounds)}</sub>" if cell.bounds else "")


def _noted(text: str, letter: str) -> str:
    return f"{text}<sup>{letter}</sup>" if letter else text


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Text whose signs mean nothing to Markdown; code in backticks stays code."""
    pieces = text.split("`")
    for i in range(0, len(pieces), 2):
        for sign in "\\*_<>|[]#":
            pieces[i] = pieces[i].replace(sign, f"\\{sign}")
    return "`".join(pieces)
