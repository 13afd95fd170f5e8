"""A document for the terminal: as many columns side by side as fit, the rest below them."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from gtg_bench.benchmark.report.drawing import lines, parts
from gtg_bench.benchmark.report.model import Document


def show(document: Document, console: Console) -> None:
    """Print a document: its blocks, then its notes."""
    console.print(Text(document.title, style="bold"))
    for block in document.blocks:
        for part in parts(block, console.width):
            console.print()
            console.print(Text(part.title))
            for line in lines(part):
                console.print(line, soft_wrap=True)
    console.print()
    if document.marked:
        console.print(document.legend, highlight=False)
    for letter, note in document.notes:
        console.print(f"({letter}) {note}" if letter else f"- {note}", markup=False, highlight=False)
