"""`gtg-bench ground`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gtg_bench.benchmark.api.settings import of_phantom
from gtg_bench.benchmark.cli.common import Device, Plugins, load_plugins, out, reports_errors
from gtg_bench.benchmark.cli.groups import takes_settings
from gtg_bench.benchmark.cli.pictures import (
    Cmap,
    Contour,
    Dpi,
    Interpolation,
    Pictures,
    check_pictures,
    look_of,
    write_pictures,
)

HELP = "Ground one phrase in one image and draw the map over it."


@reports_errors
@takes_settings
def ground(
    image: Annotated[Path, typer.Argument(help="Chest radiograph: PNG, JPEG or DICOM.")],
    phrase: Annotated[str, typer.Argument(help='Phrase to ground, e.g. "small left apical pneumothorax".')],
    settings: dict[str, Any],
    method: Annotated[
        str, typer.Option("--method", "-m", help="Method; see `gtg-bench list methods`.")
    ] = "cxrbert-ldm",
    device: Device = "auto",
    to: Pictures = None,
    save_map: Annotated[
        Path | None,
        typer.Option(help="Also save the map as .npy: float32 [H, W] in the image's pixels, NaN where not covered."),
    ] = None,
    cmap: Cmap = "heat",
    interpolation: Interpolation = "smooth",
    contour: Contour = None,
    dpi: Dpi = None,
    plugin: Plugins = None,
) -> None:
    """Ground one phrase."""
    import numpy as np

    from gtg_bench.benchmark.datasets.images import read_image
    from gtg_bench.benchmark.paths import atomic
    from gtg_bench.benchmark.python_api import load_method
    from gtg_bench.benchmark.report.pictures.overlay import overlay_figure

    paths, look = to or [Path("overlay.png")], look_of(cmap, interpolation, contour)
    check_pictures(paths)
    load_plugins(plugin)
    pixels = read_image(image)
    loaded = load_method(method, **settings, device=device)
    grounding = loaded.ground(pixels, phrase)
    weights = loaded.settings.weights
    note = f"{method}, weights {weights}." if weights else f"{method}."
    write_pictures(overlay_figure(pixels, grounding, phrase, note=note, look=look), paths, dpi, "overlay:")
    if save_map is not None:
        with atomic(save_map) as part, part.open("wb") as file:
            np.save(file, grounding.on_image())
        out.print(f"map: {save_map}", soft_wrap=True)
    if of_phantom(weights):
        out.print("Phantom weights were trained on generated images only: not a diagnostic tool.")
