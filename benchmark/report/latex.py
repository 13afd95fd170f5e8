"""A document as LaTeX: booktabs tables, one float a block or part of a wide one, notes below the last."""

from __future__ import annotations

from itertools import groupby

from gtg_bench.benchmark.report.drawing import parts
from gtg_bench.benchmark.report.model import Block, Cell, Column, Document, Row, headings, sections

_MARKS = {"": "{}", "best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "equal": r"\textbf{{{}}}"}
_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    '"': r"\textquotedbl{}",
}
_WIDTH = 110
"""Characters that stay legible when a table is shrunk to the width of a page."""

_HEAD = "% \\usepackage[T1]{fontenc} \\usepackage{booktabs} \\usepackage{graphicx}"


def latex(document: Document) -> str:
    """Floats for a document with the packages booktabs and graphicx, and T1 fonts; ends with a line break."""
    notes = "\n\n".join(f"{_superscript(letter)}{escaped(note)}" for letter, note in document.notes)
    blocks = [part for block in document.blocks for part in parts(block, _WIDTH)]
    floats = [_float(document, i, block) for i, block in enumerate(blocks, 1)]
    legend = f"{escaped(document.legend)}\n\n" if document.marked else ""
    below = f"{{\\footnotesize\\noindent {legend}{notes}\\par}}"
    return "\n\n".join([_HEAD, f"% {document.title}", *floats, below]) + "\n"


def escaped(text: str) -> str:
    """Text whose signs mean nothing to LaTeX; code in backticks becomes typewriter."""
    pieces = ["".join(_SIGNS.get(sign, sign) for sign in piece).replace("--", "-{}-") for piece in text.split("`")]
    return "".join(f"\\texttt{{{piece}}}" if i % 2 else piece for i, piece in enumerate(pieces))


def _float(document: Document, number: int, block: Block) -> str:
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escaped(f'{document.title}. {block.title}')}}}",
        rf"\label{{tab:{document.name}-{number}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * len(block.columns)}}}",
        r"\toprule",
        *_heads(block),
        r"\midrule",
        *_body(block),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _heads(block: Block) -> list[str]:
    """One line a level of headings, groups over a rule of their own."""
    lines = []
    if any(column.group for column in block.columns):
        spans = [(name, len(list(columns))) for name, columns in groupby(block.columns, key=_group)]
        cells = [rf"\multicolumn{{{width}}}{{c}}{{{name}}}" if name else "&" * (width - 1) for name, width in spans]
        lines = [_line(["", *cells]), "".join(_rules(spans))]
    lower = [headings(block, column)[bool(column.group) :] for column in block.columns]
    for level in range(max(map(len, lower), default=0)):
        lines.append(_line(["", *(escaped(names[level]) if level < len(names) else "" for names in lower)]))
    return lines


def _group(column: Column) -> str:
    return escaped(column.group) + _superscript(column.note) if column.group else ""


def _rules(spans: list[tuple[str, int]]) -> list[str]:
    rules, start = [], 2
    for name, width in spans:
        rules += [rf"\cmidrule(lr){{{start}-{start + width - 1}}}"] if name else []
        start += width
    return rules


def _body(block: Block) -> list[str]:
    lines: list[str] = []
    for name, rows in sections(block.rows):
        if name:
            lines += [r"\midrule"] if lines else []
            lines.append(rf"\multicolumn{{{len(block.columns) + 1}}}{{l}}{{\textit{{{escaped(name)}}}}} \\")
        lines += map(_row, rows)
    return lines


def _row(row: Row) -> str:
    return _line([escaped(row.label) + _superscript(row.note), *map(_cell, row.cells)])


def _cell(cell: Cell) -> str:
    shown = escaped(cell.figure) if cell.exact else "--"
    shown = f"$-${shown[1:]}" if shown.startswith("-") and cell.exact else shown
    text = _MARKS[cell.mark].format(shown) + _superscript(cell.note)
    return text + (f"$_{{{cell.bounds}}}$" if cell.bounds else "")


def _superscript(letter: str) -> str:
    return rf"\textsuperscript{{{letter}}}" if letter else ""


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
