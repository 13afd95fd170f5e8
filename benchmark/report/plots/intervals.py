"""Values with confidence intervals, as points or bars: in rows, or in one panel per group where there are many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gtg_bench.benchmark.report.plots import style

MANY = 5
"""Largest number of series that share the rows of a group; more get panels."""

_ROW, _LINE = 0.17, 0.115
"""Inches of a row, and of each line of its label."""

_SIZE = 6.5
"""Font size of row labels in points."""


@dataclass(frozen=True)
class Interval:
    """One value with its confidence limits.

    Attributes:
        value, low, high: None where undefined.
        n: number of samples.
        filled: False draws a hollow marker.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    filled: bool = True


@dataclass(frozen=True)
class Series:
    """What the values of one run look like.

    Attributes:
        name: unique.
        colour, marker, dash: for matplotlib; dash is a line style.
        shown: what a row is called; "" shows the name.
    """

    name: str
    colour: str
    marker: str = "o"
    shown: str = ""
    dash: Any = "-"

    @property
    def title(self) -> str:
        """What is printed."""
        return self.shown or self.name


@dataclass(frozen=True)
class Layout:
    """What surrounds the values of a plot.

    Attributes:
        label: label of the value axis.
        caption: below the figure.
        width: a key of style.WIDTHS.
        bars: draw bars from 0 instead of points, if there is one value per row.
        line: position of a reference line; None draws none.
    """

    label: str
    caption: str
    width: str = "column"
    bars: bool = False
    line: float | None = None

    @property
    def inches(self) -> float:
        """Width of the figure."""
        return style.WIDTHS[self.width]

    @property
    def around(self) -> float:
        """Inches above and below the rows."""
        return 0.3 + 0.125 * (self.label.count("\n") + 1)


Cells = Mapping[tuple[str, str], Interval]
"""(group, name of series) -> value; missing ones are left out."""


def series_of(names: Sequence[str], grey: Sequence[bool]) -> list[Series]:
    """A colour and a marker for each run; greys for reference runs."""
    found, colour = [], 0
    for number, (name, is_grey) in enumerate(zip(names, grey, strict=True)):
        shade = (style.GREY, style.FAINT)[sum(grey[:number]) % 2] if is_grey else style.COLOURS[colour % 7]
        found.append(Series(name, shade, style.MARKERS[number % 7], dash=style.DASHES[number % 7]))
        colour += not is_grey
    return found


def intervals(groups: Sequence[str], series: Sequence[Series], cells: Cells, layout: Layout) -> Figure:
    """Values by group and series.

    One series: a row per group. Up to MANY: the series share a group's rows, distinguished by colour and marker, with a
    legend. More: a panel per group, with a row per series.
    """
    if len(series) > MANY and len(groups) > 1:
        return _panels(groups, series, cells, layout)
    shown = [one.title for one in series]
    legend = style.legend_height(shown, layout.width)
    room = 0.42 * layout.inches
    titles = [_counted(group, cells) for group in groups]
    row = max(_ROW, _height(titles, room), 0.09 * len(series) + 0.05)
    figure = style.new_figure(layout.width, layout.around + row * len(groups) + legend, layout.caption)
    axes = figure.add_subplot()
    for number, one in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * 0.8 / len(series)
        found = {y + shift: cells[g, one.name] for y, g in enumerate(groups) if (g, one.name) in cells}
        _draw(axes, found, one, layout.bars and len(series) == 1)
    _finish(axes, titles, layout, room)
    if legend:
        for y in range(1, len(groups)):
            axes.axhline(y - 0.5, color="#e4e4e4", linewidth=0.5, zorder=0.5)
        style.legend(figure, axes, shown, layout.width)
    return figure


def rows_of_runs(series: Sequence[Series], cells: Mapping[str, Interval], layout: Layout) -> Figure:
    """One row per run in the run's own colour; cells by the run's name."""
    room = 0.42 * layout.inches
    titles = [one.title for one in series]
    row = max(_ROW, _height(titles, room))
    figure = style.new_figure(layout.width, layout.around + row * len(series), layout.caption)
    axes = figure.add_subplot()
    _draw_runs(axes, series, cells, layout.bars)
    _finish(axes, titles, layout, room)
    return figure


def _panels(groups: Sequence[str], series: Sequence[Series], cells: Cells, layout: Layout) -> Figure:
    """One panel per group, all with the same axes."""
    columns = min(len(groups), 3 if layout.width == "column" else 4)
    rows = -(-len(groups) // columns)
    room = layout.inches * (0.3 if layout.width == "column" else 0.24)
    panel = (layout.inches - room - 0.2) / columns
    shown = [one.title for one in series]
    titles = {
        g: [*style.wrapped(g, panel - 0.05, 6), _numbers([c for (o, _), c in cells.items() if o == g])] for g in groups
    }
    head = 0.11 * max(len(lines) for lines in titles.values()) + 0.06
    row = max(0.13, _height(shown, room) - 0.04)
    figure = style.new_figure(layout.width, layout.around + rows * (head + row * len(series)), layout.caption)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(groups):
            axes.remove()
            continue
        group = groups[place]
        _draw_runs(axes, series, {one.name: cells[group, one.name] for one in series if (group, one.name) in cells})
        _finish(axes, shown, layout, room)
        axes.locator_params(axis="x", nbins=3)
        axes.tick_params(labelbottom=place + columns >= len(groups))
        axes.set_xlabel("")
        axes.set_title("\n".join(titles[group]), pad=3, fontsize=6)
    grid[-1, 0].set_xlabel(layout.label, loc="left")
    return figure


def _draw_runs(axes: Axes, series: Sequence[Series], cells: Mapping[str, Interval], bars: bool = False) -> None:
    for number, one in enumerate(series):
        if one.name in cells:
            _draw(axes, {number: cells[one.name]}, one, bars)


def _draw(axes: Axes, found: Mapping[float, Interval], one: Series, bars: bool) -> None:
    """Draw the values of a series at their vertical positions."""
    known = {y: cell for y, cell in found.items() if cell.value is not None}
    if bars:
        axes.barh(list(known), style.numbers(cell.value for cell in known.values()), 0.64, color=one.colour)
    spans = {y: cell for y, cell in known.items() if cell.low is not None}
    low, high = (style.numbers(getattr(cell, end) for cell in spans.values()) for end in ("low", "high"))
    axes.hlines(list(spans), low, high, "black" if bars else one.colour, linewidth=0.9).set_gid("ci")
    for y, cell in {} if bars else known.items():
        fill = one.colour if cell.filled else "white"
        axes.plot([cell.value or 0.0], [y], one.marker, color=one.colour, markerfacecolor=fill, markeredgewidth=0.8)
    axes.plot([], [], one.marker, color=one.colour, label=one.title)


def _finish(axes: Axes, titles: Sequence[str], layout: Layout, room: float) -> None:
    """Ticks, labels, grid and reference line; the first row is at the top."""
    lines = ["\n".join(style.label_lines(title, room, _SIZE)) for title in titles]
    axes.set_yticks(range(len(titles)), lines)
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.set_xlabel(layout.label)
    axes.locator_params(axis="x", nbins=5)
    style.grid(axes)
    if layout.line is not None:
        axes.axvline(layout.line, color=style.GREY, linewidth=0.7, zorder=0.9, gid="reference")


def _height(titles: Sequence[str], room: float) -> float:
    """Inches of the highest label."""
    return max(len(style.label_lines(title, room, _SIZE)) for title in titles) * _LINE + 0.05


def _counted(group: str, cells: Cells) -> str:
    """A group's name with its number of samples, where groups differ in it."""
    if len({key[0] for key in cells}) < 2 or len({cell.n for cell in cells.values()}) < 2:
        return group
    return f"{group} ({_numbers([cell for key, cell in cells.items() if key[0] == group])})"


def _numbers(found: Sequence[Interval]) -> str:
    """ "n = 18", or "n = 16 to 18"."""
    numbers = sorted({cell.n for cell in found}) or [0]
    return f"n = {numbers[0]}" if len(numbers) == 1 else f"n = {numbers[0]} to {numbers[-1]}"
