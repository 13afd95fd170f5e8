"""The forms in which a document is written, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.paths import atomic
from gtg_bench.benchmark.report.latex import latex
from gtg_bench.benchmark.report.markdown import markdown
from gtg_bench.benchmark.report.model import Document
from gtg_bench.benchmark.report.tidy import tidy

WRITERS: dict[str, Callable[[Document], str]] = {"csv": tidy, "markdown": markdown, "latex": latex}
SUFFIXES = {"csv": ".csv", "markdown": ".md", "latex": ".tex"}


def write(document: Document, to: Path, formats: Sequence[str] = ()) -> list[Path]:
    """Write a document into a folder as `<name><suffix>`, or into one file; return the paths.

    Args:
        document: what to write.
        to: a folder, or a file whose ending says which form.
        formats: of WRITERS; none takes all, or what the file's ending says.

    Raises:
        UsageError: a file for several forms, an ending that contradicts the form, or a place that cannot be written.
    """
    if to.suffix in SUFFIXES.values():
        name = next(name for name, suffix in SUFFIXES.items() if suffix == to.suffix)
        if set(formats) - {name}:
            raise UsageError(f"--out {to} holds {name}, not {' and '.join(formats)}: name a folder instead")
        paths = {name: to}
    else:
        paths = {name: to / f"{document.name}{SUFFIXES[name]}" for name in formats or WRITERS}
    for name, path in paths.items():
        try:
            with atomic(path) as part:
                part.write_text(WRITERS[name](document), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--out {error}") from error
    return list(paths.values())
