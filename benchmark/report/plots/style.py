"""The look of every plot: sizes, colours, axis labels and captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.report.pictures import drawing

P = ParamSpec("P")

WIDTHS = {"column": 3.4, "page": 7.0}
"""Inches: one column and the whole page of a two-column paper."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, distinguishable with any colour vision, without its yellow."""
MARKERS = "osD^vPX"
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
GREY, FAINT = "#7a7a7a", "#b3b3b3"
BETTER, WORSE = COLOURS[0], COLOURS[1]

_TEXT, _SMALL = 7.0, 6.0
_RC: dict[str, Any] = {
    "font.size": _TEXT,
    "axes.titlesize": _TEXT,
    "axes.labelsize": _TEXT,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
}

NAMES = {
    "miou": "Mean of foreground and background IoU (mIoU)",
    "iou": "Intersection over union (IoU)",
    "cnr": "Contrast-to-noise ratio (CNR)",
    "top1": "Pointing-game accuracy (top-1)",
    "auroc": "Area under the ROC curve (AUROC)",
    "ap": "Average precision (AP)",
    "phrase_discrimination": "Phrase discrimination",
    "dice": "Dice coefficient",
    "miou_thresholds": "IoU averaged over thresholds 0.1 to 0.5",
    "miou_thresholds_minmax": "IoU averaged over thresholds 0.1 to 0.5, min-max normalised map",
    "iou_sweep": "IoU averaged over thresholds 0.1 to 0.5 on [-1, 1]",
    "dice_sweep": "Dice averaged over thresholds 0.1 to 0.5 on [-1, 1]",
    "cnr_abs": "Absolute contrast-to-noise ratio (|CNR|)",
    "gcnr": "Generalized contrast-to-noise ratio (gCNR)",
    "top1_tolerance": "Pointing-game accuracy, tolerance 15 pixels",
    "box_iou": "IoU of the mask's bounding box (released code)",
    "box_miou": "Mean IoU of the mask's bounding box and background (released code)",
    "box_iou_full": "IoU of the mask's bounding box",
    "box_precision": "Box precision at IoU 0.5",
    "box_recall": "Box recall at IoU 0.5",
    "matched_iou": "IoU of matched boxes",
    "box_ap10": "Average precision of boxes at IoU 0.1",
    "box_ap30": "Average precision of boxes at IoU 0.3",
    "box_ap50": "Average precision of boxes at IoU 0.5",
    "box_top1": "Centre of the best box in the region",
    "distance": "Distance between box centres (pixels)",
    "coverage": "Share of the region in the field of view",
}
"""Metric -> full name with unit."""

CHANCE = {"auroc": 0.5, "phrase_discrimination": 0.5, "cnr": 0.0}
"""Metric -> what an uninformative map scores."""

NOT_FROM_ZERO = ("miou", "auroc", "phrase_discrimination", "box_miou")
"""Metrics for which 0 is not the lower end of what methods score, so that a bar's length would mislead."""


def styled(plot: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw a figure in this style, whatever the user's own settings are."""

    @wraps(plot)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with applied():
            figure = plot(*args, **kwargs)
            figure.draw_without_rendering()  # tick labels are made in this style
        return figure

    return wrapped


@contextmanager
def applied() -> Iterator[None]:
    """This style, on top of that of pictures and matplotlib's defaults."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        with drawing.style():
            matplotlib.rcParams.update(_RC)
            yield


def new_figure(width: str, height: float, caption: str = "") -> Figure:
    """An empty figure with a caption below.

    Args:
        width: a key of WIDTHS.
        height: inches, without the caption.
        caption: plain text; "" leaves it out.

    Raises:
        UsageError: an unknown width.
    """
    if width not in WIDTHS:
        raise UsageError(f"unknown width {width!r}; choose from {', '.join(WIDTHS)}")
    lines = wrapped(caption, WIDTHS[width] - 0.1, _SMALL) if caption else []
    size = (WIDTHS[width], height + len(lines) * _SMALL * 1.25 / 72)
    figure = Figure(figsize=size, dpi=300, layout="constrained")
    if lines:
        text = figure.supxlabel("\n".join(lines), x=0.05 / size[0], ha="left", fontsize=_SMALL, color="#444444")
        text.set_linespacing(1.2)
        text.set_gid("caption")
    return figure


def wrapped(text: str, width: float, size: float = _TEXT) -> list[str]:
    """Lines of a text that are at most `width` inches wide at a font size in points; at least one."""
    return drawing.wrapped(text, width, size) or [""]


def label_lines(label: str, width: float, size: float = _TEXT) -> list[str]:
    """Lines of a label whose parts, between commas, are kept whole where they fit."""
    lines: list[str] = []
    *others, last = label.split(", ")
    for part in (*(f"{other}," for other in others), last):
        if lines and drawing.text_width(f"{lines[-1]} {part}", size) <= width:
            lines[-1] += f" {part}"
        else:
            lines += wrapped(part, width, size)
    return lines


def numbers(values: Iterable[float | None]) -> list[float]:
    """Values that are known to be defined."""
    return [value for value in values if value is not None]


def axis_label(metric: str, width: float = 10.0, start: str = "") -> str:
    """A metric's full name, with its unit and direction, in lines of at most `width` inches."""
    direction = "higher is better" if METRICS[metric].higher_is_better else "lower is better"
    text = f"{start}{NAMES.get(metric, metric)}"
    one = f"{text}, {direction}"
    lines = [one] if drawing.text_width(one, _TEXT) <= width else [*wrapped(text, width), direction]
    return "\n".join(lines)


def legend_height(names: Sequence[str], width: str) -> float:
    """Inches of a legend; 0 for a single name, which needs none."""
    if len(names) < 2:
        return 0.0
    room, columns = _legend(names, width)
    lines = [len(label_lines(name, room, 6.5)) for name in names]
    rows = -(-len(names) // columns)
    return 0.03 + sum(max(lines[row::rows]) * 0.105 + 0.045 for row in range(rows))


def legend(figure: Figure, axes: Axes, names: Sequence[str], width: str) -> None:
    """A legend above the panels for the labelled artists of `axes`, in the order of the names; none for one name."""
    if len(names) > 1:
        room, columns = _legend(names, width)
        shown = ["\n".join(label_lines(name, room, 6.5)) for name in names]
        handles = axes.get_legend_handles_labels()[0]
        figure.legend(handles, shown, loc="outside upper left", ncols=columns, borderpad=0.1)


def _legend(names: Sequence[str], width: str) -> tuple[float, int]:
    """Inches of a name and number of columns."""
    whole = WIDTHS[width] - 0.1
    columns = max(1, int(whole // (max(drawing.text_width(name, 6.5) for name in names) + 0.4)))
    return whole / columns - 0.4, columns


def grid(axes: Axes, axis: Literal["x", "y"] = "x") -> None:
    """Thin grid lines behind the data."""
    axes.grid(axis=axis)
    axes.tick_params(axis="y" if axis == "x" else "x", length=0)


def reference_line(axes: Axes, metric: str, vertical: bool = True) -> None:
    """A line at what an uninformative map scores."""
    if metric in CHANCE:
        draw = axes.axvline if vertical else axes.axhline
        draw(CHANCE[metric], color=FAINT, linewidth=0.8, zorder=0.9, gid="chance")
