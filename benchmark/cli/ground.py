"""`gtg-bench ground`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.settings import of_phantom
from gtg_bench.benchmark.cli.common import Device, Plugins, load_plugins, out, reports_errors, takes_settings

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
    to: Annotated[Path, typer.Option("--out", help="Picture to write (.png, .jpg, .pdf, .svg).")] = Path("overlay.png"),
    save_map: Annotated[
        Path | None,
        typer.Option(help="Also save the map as .npy: float32 [H, W] in the image's pixels, NaN where not covered."),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Ground one phrase."""
    import numpy as np

    from gtg_bench.benchmark.datasets.images import read_image
    from gtg_bench.benchmark.paths import atomic
    from gtg_bench.benchmark.python_api import load_method
    from gtg_bench.benchmark.report.overlay import draw_overlay

    if to.suffix.lower() not in (".png", ".pdf", ".svg", ".jpg", ".jpeg"):
        raise UsageError(f"--out {to}: the name must end in .png, .jpg, .pdf or .svg")
    load_plugins(plugin)
    pixels = read_image(image)
    loaded = load_method(method, **settings, device=device)
    grounding = loaded.ground(pixels, phrase)
    weights = loaded.settings.weights
    draw_overlay(pixels, grounding, phrase, to, note=f"{method}, weights {weights}." if weights else f"{method}.")
    out.print(f"overlay: {to}", soft_wrap=True)
    if save_map is not None:
        with atomic(save_map) as part, part.open("wb") as file:
            np.save(file, grounding.on_image())
        out.print(f"map: {save_map}", soft_wrap=True)
    if of_phantom(weights):
        out.print("Phantom weights were trained on generated images only: not a diagnostic tool.")
