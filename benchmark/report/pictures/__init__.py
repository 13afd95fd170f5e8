"""Pictures for papers and talks: maps over images, chosen samples, runs side by side. Figures first, files second.

Example:
    >>> from gtg_bench.benchmark.report import pictures
    >>> sheet = pictures.runs_sheet(["cxrbert-ldm", "class-prior"], choice=pictures.Choice(4, order="worst"))
    >>> pictures.save(sheet.figure, "worst.pdf", "worst.png")
"""

from gtg_bench.benchmark.report.pictures.drawing import Look, save
from gtg_bench.benchmark.report.pictures.examples import Choice, Sheet, dataset_sheet
from gtg_bench.benchmark.report.pictures.overlay import Strip, Tile, overlay_figure, sheet_figure, strips_figure
from gtg_bench.benchmark.report.pictures.run_sheet import runs_sheet

__all__ = [
    "Choice",
    "Look",
    "Sheet",
    "Strip",
    "Tile",
    "dataset_sheet",
    "overlay_figure",
    "runs_sheet",
    "save",
    "sheet_figure",
    "strips_figure",
]
