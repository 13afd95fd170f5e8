"""Documents in the terminal, and as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.text import csv_cell, printable
from gtg_bench.benchmark.paths import write_text
from gtg_bench.benchmark.report.tables.document import HEADINGS, Block, Cell, Column, Document, Row, headings, sections

# Terminal

_STYLES = {"": "", "best": "bold", "equal": "bold"}


def show(document: Document, console: Console) -> None:
    """Print a document: its blocks, then its notes. Wide blocks are cut into parts that fit the console."""
    console.print(Text(document.title, style="bold"))
    for block in document.blocks:
        for part in parts(block, console.width):
            console.print()
            console.print(Text(part.title))
            wide = part.compact and table_width(drawn(part)) > console.width
            console.print(drawn(part, intervals=not wide))
    console.print()
    if document.marked:
        console.print(document.legend, highlight=False)
    for letter, note in document.notes:
        console.print(f"({letter}) {note}" if letter else f"- {note}", markup=False, highlight=False)


def drawn(block: Block, intervals: bool = True) -> Table:
    """A block for the terminal. Each group of columns is one column of the rich table, so its heading spans them.

    Args:
        block: what to draw.
        intervals: show 95 % CIs.
    """
    texts = [[_lines(block, cell, intervals) for cell in row.cells] for row in block.rows]
    lower = [_lower(block, i) for i in range(len(block.columns))]
    widths = [max(map(cell_len, [*names, *(t for row in texts for t in row[i])])) for i, names in enumerate(lower)]

    def side_by_side(cells: Sequence[Sequence[str]], group: Sequence[int], row: Row | None = None) -> Text:
        """Headings, or cells of a row, of a group's columns, right-aligned."""
        text = Text()
        for level in range(max(len(cells[i]) for i in group)):
            text.append("\n" if level else "")
            for i in group:
                line = cells[i][level] if level < len(cells[i]) else ""
                text.append(" " * (widths[i] - cell_len(line) + (2 if i != group[0] else 0)))
                text.append(line, style="" if row is None else "dim" if level else _STYLES[row.cells[i].mark])
        return text

    padding = 0 if block.compact and intervals else (0, 1, 0, 0)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    levels = max(map(len, lower), default=1) + any(column.group for column in block.columns)
    corner = "\n" * (levels - 1) + block.corner if block.corner else ""
    table.add_column(Text(corner), overflow="fold", min_width=18 if block.compact else None)
    groups = list(_groups(block.columns))
    for group in groups:
        name = _group(block.columns[group[0]])
        width = sum(widths[i] + 2 for i in group) - 2
        widths[group[-1]] += max(0, cell_len(name) - width)  # the last column takes what the heading needs in addition
        above = f"{name.center(max(width, cell_len(name)))}\n" if any(c.group for c in block.columns) else ""
        table.add_column(Text(above) + side_by_side(lower, group), no_wrap=True)
    section = ""
    for row, cells in zip(block.rows, texts, strict=True):
        if row.section != section:
            section = row.section
            table.add_row(Text(section, style="italic"))
        label = f"{'  ' if section else ''}{row.label}" + (f" ({row.note})" if row.note else "")
        columns = (side_by_side(cells, group, row) for group in groups)
        table.add_row(Text(label), *columns, style="bold" if row.bold else None)
    return table


def parts(block: Block, width: int) -> list[Block]:
    """The block cut between groups of columns, or within a group if need be, into blocks of at most `width` cells."""

    def fits(places: Sequence[int]) -> bool:
        cut = _cut(block, places)
        if block.compact:  # labels can be wrapped, and intervals left out
            cut = replace(cut, rows=tuple(replace(row, label="") for row in cut.rows))
        return table_width(drawn(cut, intervals=not block.compact)) <= width

    found: list[list[int]] = []
    for group in _groups(block.columns):
        for piece in [group] if fits(group) else _pieces(block, group):
            if found and fits([*found[-1], *piece]):
                found[-1] += piece
            else:
                found.append([*piece])
    if len(found) == 1:
        return [block]
    cuts = [_cut(block, places) for places in found]
    return [replace(cut, title=f"{block.title} (part {i} of {len(cuts)})") for i, cut in enumerate(cuts, 1)]


def table_width(table: Table) -> int:
    """The width that a table needs to show everything without wrapping."""
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum


def _groups(columns: Sequence[Column]) -> Iterator[list[int]]:
    """Indices of neighbouring columns under one heading."""
    for _, places in groupby(range(len(columns)), key=lambda i: columns[i].group or i):
        yield list(places)


def _pieces(block: Block, group: Sequence[int]) -> list[list[int]]:
    """The columns of a group one by one; a measured column stays with its published one."""
    pieces: list[list[int]] = []
    for i in group:
        if pieces and block.paired and block.columns[i].origin == "measured":
            pieces[-1].append(i)
        else:
            pieces.append([i])
    return pieces


def _cut(block: Block, places: Sequence[int]) -> Block:
    rows = tuple(replace(row, cells=tuple(row.cells[i] for i in places)) for row in block.rows)
    return replace(block, columns=tuple(block.columns[i] for i in places), rows=rows)


def _group(column: Column) -> str:
    return column.group + (f" ({column.note})" if column.group and column.note else "")


def _lower(block: Block, i: int) -> tuple[str, ...]:
    """A column's headings below that of its group, shortened in compact tables."""
    names = headings(block, block.columns[i])[bool(block.columns[i].group) :]
    return tuple(HEADINGS.get(name, name) for name in names) if block.compact else names


def _lines(block: Block, cell: Cell, intervals: bool) -> list[str]:
    """A cell's value with its footnote, and its interval on a second line or behind the value."""
    note = f" ({cell.note})" if cell.note else ""
    bounded = intervals and cell.interval
    if not block.compact:
        return [cell.figure + note, *([cell.interval.replace(" ", "")] if bounded else [])]
    half = f"±{(float(cell.high) - float(cell.low)) / 2:.3f}" if bounded else ""
    value = cell.figure.replace("0.", ".", 1) if cell.figure.startswith(("0.", "-0.")) else cell.figure
    return [value + half.replace("±0.000", "±0").replace("±0.", "±.") + note]


# CSV

CSV_COLUMNS = (
    *("table", "origin", "data", "section", "row", "column", "metric", "unit"),
    *("value", "spread", "low", "high", "n", "run_key", "mark", "source", "note"),
)


def to_csv(document: Document) -> str:
    """One line per cell in reading order, missing values empty; `note` is the text of the cell's footnotes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    notes = dict(document.notes)
    for block in document.blocks:
        for row in block.rows:
            for column, cell in zip(block.columns, row.cells, strict=True):
                letters = [letter for letter in (cell.note, row.note, column.note) if letter]
                note = " ".join(f"({letter}) {notes[letter]}" for letter in letters)
                origin = "measured" if cell.run_key else column.origin  # an added row is measured, the others are not
                where = (document.name, origin, column.data, row.section, row.label, column.group, column.name)
                figure = (cell.exact, cell.spread, cell.low, cell.high, cell.n, cell.run_key, cell.mark, cell.source)
                cells = (*where, column.unit, *figure, note)
                writer.writerow(csv_cell(printable(one) if isinstance(one, str) else one) for one in cells)
    return text.getvalue()


# Markdown

_MARKDOWN = {"": "{}", "best": "**{}**", "equal": "**{}**"}


def to_markdown(document: Document) -> str:
    """GitHub's tables below headings, then the notes."""
    found = [f"## {md_escaped(document.title)}"]
    for block in document.blocks:
        heads = [
            _md_noted("<br>".join(map(md_escaped, headings(block, column))), column.note) for column in block.columns
        ]
        lines = [[md_escaped(block.corner), *heads], [":--", *["--:"] * len(heads)]]
        for name, rows in sections(block.rows):
            lines += [[f"*{md_escaped(name)}*", *[""] * len(heads)]] if name else []
            lines += [[_md_noted(md_escaped(row.label), row.note), *map(_md_cell, row.cells)] for row in rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        found.append(f"### {md_escaped(block.title)}\n\n{table}")
    found += [document.legend] if document.marked else []
    found.append(
        "\n".join(f"- {f'({letter}) ' if letter else ''}{md_escaped(note)}" for letter, note in document.notes)
    )
    return "\n\n".join(filter(None, found)) + "\n"


def _md_cell(cell: Cell) -> str:
    text = _md_noted(_MARKDOWN[cell.mark].format(md_escaped(cell.figure)), cell.note)
    return text + (f"<sub>{md_escaped(cell.interval)}</sub>" if cell.interval else "")


def _md_noted(text: str, letter: str) -> str:
    return f"{text}<sup>{letter}</sup>" if letter else text


def md_escaped(text: str) -> str:
    """Escape text for Markdown; code in backticks stays code."""
    text = " ".join(printable(text).splitlines())
    pieces = text.split("`") if text.count("`") % 2 == 0 else [text]
    for i in range(len(pieces)):
        for sign in "|" if i % 2 else "\\*_<>|[]#&`":
            pieces[i] = pieces[i].replace(sign, f"\\{sign}")
    return "`".join(pieces)


# LaTeX

_LATEX = {"": "{}", "best": r"\textbf{{{}}}", "equal": r"\textbf{{{}}}"}
_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "†": r"\dag{}",
    '"': r"\textquotedbl{}",
}
_LEGIBLE = 110
"""Characters per line that stay legible when a table is shrunk to the width of a page."""

_FLOAT_END = r"\end{table}"
_LATEX_HEAD = "% \\usepackage[T1]{fontenc} \\usepackage{booktabs} \\usepackage{graphicx}"


def to_latex(document: Document) -> str:
    """One float per block or part of a wide one, notes below the last; needs booktabs, graphicx and T1 fonts."""
    notes = "\n\n".join(f"{_superscript(letter)}{latex_escaped(note)}" for letter, note in document.notes)
    blocks = [part for block in document.blocks for part in parts(block, _LEGIBLE)]
    floats = [_float(document, i, block) for i, block in enumerate(blocks, 1)]
    legend = f"{latex_escaped(document.legend)}\n\n" if document.marked else ""
    if len(floats) == 1:  # the notes stay with the table, wherever it floats
        below = rf"\par\medskip\begin{{minipage}}{{\linewidth}}\scriptsize {legend}{notes}\end{{minipage}}"
        floats = [floats[0].replace(_FLOAT_END, f"{below}\n{_FLOAT_END}")]
    else:
        floats.append(f"{{\\footnotesize\\noindent {legend}{notes}\\par}}")
    return "\n\n".join([_LATEX_HEAD, f"% {' '.join(printable(document.title).split())}", *floats]) + "\n"


def latex_escaped(text: str) -> str:
    """Escape text for LaTeX; code in backticks becomes typewriter."""
    text = " ".join(printable(text).splitlines())
    pieces = ["".join(_SIGNS.get(sign, sign) for sign in piece).replace("--", "-{}-") for piece in text.split("`")]
    return "".join(f"\\texttt{{{piece}}}" if i % 2 else piece for i, piece in enumerate(pieces))


def _float(document: Document, number: int, block: Block) -> str:
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{latex_escaped(f'{document.title}. {block.title}')}}}",
        r"\smallskip",
        rf"\label{{tab:{document.name}-{number}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * len(block.columns)}}}",
        r"\toprule",
        *_latex_heads(block),
        r"\midrule",
    ]
    for i, (name, rows) in enumerate(sections(block.rows)):
        if name:
            lines += [r"\midrule"] if i else []
            lines.append(rf"\multicolumn{{{len(block.columns) + 1}}}{{l}}{{\textit{{{latex_escaped(name)}}}}} \\")
        for row in rows:
            lines.append(_latex_line([latex_escaped(row.label) + _superscript(row.note), *map(_latex_cell, row.cells)]))
            if any(cell.interval for cell in row.cells):
                lines.append(_latex_line(["", *map(_latex_interval, row.cells)]) + "[2pt]")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", _FLOAT_END])


def _latex_heads(block: Block) -> list[str]:
    """One line per level of headings; group headings have a rule below."""
    lines = []
    if any(column.group for column in block.columns):
        cells, rules, start = [""], "", 2
        for group in _groups(block.columns):
            column, width = block.columns[group[0]], len(group)
            name = latex_escaped(column.group) + (_superscript(column.note) if column.group else "")
            cells.append(rf"\multicolumn{{{width}}}{{c}}{{{name}}}" if name else "&" * (width - 1))
            rules += rf"\cmidrule(lr){{{start}-{start + width - 1}}}" if name else ""
            start += width
        lines = [_latex_line(cells), rules]
    lower = [_lower(block, i) for i in range(len(block.columns))]
    levels = max(map(len, lower), default=0)
    for level in range(levels):
        corner = latex_escaped(block.corner) if level == levels - 1 else ""
        lines.append(_latex_line([corner, *(latex_escaped(n[level]) if level < len(n) else "" for n in lower)]))
    return lines


def _latex_cell(cell: Cell) -> str:
    shown = latex_escaped(cell.figure) if cell.exact else "--"
    shown = f"$-${shown[1:]}" if shown.startswith("-") and cell.exact else shown
    return _LATEX[cell.mark].format(shown) + _superscript(cell.note)


def _latex_interval(cell: Cell) -> str:
    """The 95 % CI, for the line below the value."""
    return rf"{{\scriptsize ${cell.interval}$}}" if cell.interval else ""


def _superscript(letter: str) -> str:
    return rf"\textsuperscript{{{letter}}}" if letter else ""


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


# Files

WRITERS: dict[str, Callable[[Document], str]] = {"csv": to_csv, "markdown": to_markdown, "latex": to_latex}
SUFFIXES = {"csv": ".csv", "markdown": ".md", "latex": ".tex"}


def write(document: Document, to: Path, formats: Sequence[str] = ()) -> list[Path]:
    """Write a document into a folder as `<name><suffix>`, or into one file; return the paths.

    Args:
        document: what to write.
        to: a folder, or a file whose suffix gives the format.
        formats: names in WRITERS; empty for all, or for the one of the file's suffix.

    Raises:
        UsageError: one file for several formats, a suffix of another format, or a path that cannot be written.
    """
    if to.suffix in SUFFIXES.values():
        name = next(name for name, suffix in SUFFIXES.items() if suffix == to.suffix)
        if set(formats) - {name}:
            raise UsageError(f"--out {to} is a {name} file, not {' and '.join(formats)}; name a folder instead")
        paths = {name: to}
    else:
        paths = {name: to / f"{document.name}{SUFFIXES[name]}" for name in formats or WRITERS}
    for name, path in paths.items():
        try:
            write_text(path, WRITERS[name](document))
        except OSError as error:
            raise UsageError(f"--out {path} cannot be written: {error.strerror}") from error
    return list(paths.values())
