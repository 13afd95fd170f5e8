"""A sheet of generated images: each phrase above its images, beside the real image where there is one."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.report.pictures.drawing import reduced, save
from gtg_bench.benchmark.report.pictures.overlay import LONGEST, Strip, Tile, strips_figure
from gtg_bench.benchmark.runs.generated import GeneratedImage
from gtg_bench.training.generation.plan import Plan

SHEET = "sheet.png"
_ROWS, _COPIES = 12, 6
"""Most phrases, and most images of a phrase, that a sheet shows."""


def draw_sheet(folder: Path, planned: Plan) -> None:
    """Write sheet.png of the first phrases. A real image that cannot be read is left out.

    Raises:
        DataError: a generated image cannot be read.
        PlaceError: the sheet cannot be written.
    """
    rows = [list(copies) for _, copies in groupby(planned.images, key=lambda one: one.file.rpartition("-")[0])][:_ROWS]
    real = [_real(planned, row[0]) for row in rows]
    shown = any(tile is not None for tile in real)
    strips = [
        Strip(
            [*([tile] if shown else []), *(Tile(read_png(folder / one.file), "") for one in row[:_COPIES])],
            row[0].phrase,
        )
        for tile, row in zip(real, rows, strict=True)
    ]
    copies = min(_COPIES, len(rows[0]))
    heads = [*(["real image"] if shown else []), "generated", *[""] * (copies - 1)]
    facts = planned.manifest
    note = (
        f"{facts['method']}, weights {facts['weights']}, {facts['steps']} DDIM steps, guidance {facts['guidance']:g}. "
        "Generated images are not radiographs of patients."
    )
    save(strips_figure(strips, heads, note=note), folder / SHEET, dpi=150)


def read_png(path: Path) -> FloatArray:
    """A generated image, float32 [H, W] in [0, 1]. Raises DataError if it cannot be read."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"), np.float32) / 255
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); remove it and rerun the same `gtg-bench generate`"
        ) from error


def _real(planned: Plan, image: GeneratedImage) -> Tile | None:
    """The image of the sample that a phrase is from, with its region."""
    sample = planned.samples.get(image.file)
    if planned.data is None or sample is None:
        return None
    try:
        pixels = reduced(planned.data.image(sample), LONGEST)
    except DataError:
        return None
    return Tile(pixels, "", sample.boxes, None, sample.mask, sample.image_size)
