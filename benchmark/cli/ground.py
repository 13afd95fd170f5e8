"""`gtg-bench ground`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.api.choices import of_phantom
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import (
    Bbm,
    Device,
    LastSteps,
    Layers,
    Plugins,
    Sampling,
    Steps,
    Tokens,
    Weights,
    load_plugins,
    out,
    reports_errors,
    resolve_device,
)

HELP = "Ground one phrase in one image (PNG, JPEG or DICOM), and draw the map over it."


@reports_errors
def ground(
    image: Annotated[Path, typer.Argument(help="A chest radiograph.")],
    phrase: Annotated[str, typer.Argument(help='For instance "small left apical pneumothorax".')],
    method: Annotated[str, typer.Option("--method", "-m", help="See `list methods`.")] = "cxrbert-ldm",
    sampling: Annotated[Sampling, typer.Option(help="Sampling mode of latent diffusion models.")] = Sampling("gt-cfg"),
    steps: Steps = None,
    last_steps: LastSteps = None,
    layers: Layers = None,
    tokens: Tokens = None,
    bbm: Bbm = None,
    weights: Weights = None,
    seed: Annotated[int, typer.Option(help="Of all noise.")] = 4200,
    device: Device = "auto",
    to: Annotated[Path, typer.Option("--out", help="The picture to write.")] = Path("overlay.png"),
    save_map: Annotated[
        Path | None,
        typer.Option(help="Also write the map: float32 [H, W] in the image's own pixels, NaN where not covered."),
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
    from gtg_bench.benchmark.runs.sources import ground_all

    if not phrase.strip():
        raise UsageError('the phrase is empty; name a finding, for instance "left pleural effusion"')
    if to.suffix.lower() not in (".png", ".pdf", ".svg", ".jpg", ".jpeg"):
        raise UsageError(f"--out {to}: the name must end in .png, .jpg, .pdf or .svg")
    load_plugins(plugin)
    entry = METHODS.get(method)
    pixels = read_image(image)
    wanted = MethodSettings(
        method=method,
        weights=weights,
        sampling=str(sampling),
        steps=steps,
        last_steps=last_steps,
        layers=layers,
        tokens=tokens,
        bbm=bbm,
        seed=seed,
        dataset="phantom",
        device=resolve_device(device, entry),
    )
    settings = entry.completed(wanted)
    grounding = ground_all(entry.built(settings), [Query(pixels, phrase, seed_for(seed, phrase))])[0]
    note = f"{method}, weights {settings.weights}." if settings.weights else f"{method}."
    draw_overlay(pixels, grounding, phrase, to, note=note)
    out.print(f"overlay: {to}", soft_wrap=True)
    if save_map is not None:
        with atomic(save_map) as part, part.open("wb") as file:
            np.save(file, map_on_image(grounding))
        out.print(f"map: {save_map}", soft_wrap=True)
    if of_phantom(settings.weights):
        out.print("Weights `phantom` were trained on generated pictures alone: not a diagnostic tool.")
