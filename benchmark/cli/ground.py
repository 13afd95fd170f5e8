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

    from gtg_bench.benchmark.api.registry import METHODS
    from gtg_bench.benchmark.api.types import MethodSettings, Query, seed_for
    from gtg_bench.benchmark.datasets.images import read_image
    from gtg_bench.benchmark.paths import atomic
    from gtg_bench.benchmark.report.overlay import draw_overlay, map_on_image
    from gtg_bench.benchmark.runs.sources import ground_all, resolve_device

    if not phrase.strip():
        raise UsageError('the phrase is empty; name a finding, e.g. "left pleural effusion"')
    if to.suffix.lower() not in (".png", ".pdf", ".svg", ".jpg", ".jpeg"):
        raise UsageError(f"--out {to}: the name must end in .png, .jpg, .pdf or .svg")
    load_plugins(plugin)
    entry = METHODS.get(method)
    pixels = read_image(image)
    wanted = MethodSettings(method, **settings, dataset="phantom", device=resolve_device(device, entry))
    complete = entry.completed(wanted)
    grounding = ground_all(entry.built(complete), [Query(pixels, phrase, seed_for(complete.seed, phrase))])[0]
    note = f"{method}, weights {complete.weights}." if complete.weights else f"{method}."
    draw_overlay(pixels, grounding, phrase, to, note=note)
    out.print(f"overlay: {to}", soft_wrap=True)
    if save_map is not None:
        with atomic(save_map) as part, part.open("wb") as file:
            np.save(file, map_on_image(grounding))
        out.print(f"map: {save_map}", soft_wrap=True)
    if of_phantom(complete.weights):
        out.print("Phantom weights were trained on generated images only: not a diagnostic tool.")
