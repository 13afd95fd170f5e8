"""Options that the commands which draw maps share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import choice, out
from gtg_bench.benchmark.paths import check_writable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gtg_bench.benchmark.report.pictures.drawing import Look

_PANEL = "Picture"
Pictures = Annotated[
    list[Path] | None,
    typer.Option("--out", help="Picture to write: .png, .jpg, .pdf or .svg; repeatable.", rich_help_panel=_PANEL),
]
Cmap = Annotated[
    str,
    typer.Option(
        "--cmap",
        help="Colour map: heat (perceptually even), jet (as in the paper), or any other of matplotlib.",
        rich_help_panel=_PANEL,
    ),
]
Interpolation = Annotated[
    str,
    choice(
        ("smooth", "bilinear", "nearest"),
        "--interpolation",
        help="Even out coarse cells, show the values that are scored, or the cells themselves.",
        panel=_PANEL,
    ),
]
Contour = Annotated[
    list[float] | None,
    typer.Option(
        "--contour",
        metavar="LEVEL",
        help="Draw a line where the map reaches LEVEL (0 lowest, 1 highest); repeatable.",
        rich_help_panel=_PANEL,
    ),
]
Dpi = Annotated[
    int | None,
    typer.Option(
        min=20, max=1200, help="Pixels per inch. (default: 300, less for a very large sheet)", rich_help_panel=_PANEL
    ),
]


def look_of(cmap: str, interpolation: str, contour: Sequence[float] | None) -> Look:
    """How maps are drawn. Raises UsageError for an unknown colour map or a contour outside (0, 1)."""
    from gtg_bench.benchmark.report.pictures.drawing import Look

    return Look(cmap, interpolation, tuple(contour or ()))


def check_pictures(paths: Sequence[Path]) -> None:
    """Raise before any work is done: UsageError for a format that cannot be written, PlaceError for a place."""
    from gtg_bench.benchmark.report.pictures.drawing import FORMATS

    for path in paths:
        if path.suffix.lower() not in FORMATS:
            raise UsageError(f"--out {path}: the name must end in .png, .jpg, .pdf or .svg")
        check_writable(path)


def write_pictures(figure: Figure, paths: Sequence[Path], dpi: int | None, what: str) -> None:
    """Write a figure to every path and print each."""
    from gtg_bench.benchmark.report.pictures.drawing import save

    save(figure, *paths, dpi=dpi)
    for path in paths:
        out.say(f"{what} {path}")
