"""`gtg-bench generate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.settings import PRECISIONS, of_phantom
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.cli.common import (
    DataRoot,
    DatasetOption,
    Device,
    Plugins,
    ShardOption,
    choice,
    err,
    key_values,
    load_plugins,
    out,
    reports_errors,
)

HELP = "Generate images from phrases with a latent diffusion method. Rerun the same command to resume."


@reports_errors
def generate(
    method: Annotated[
        str, typer.Option("--method", "-m", help="Latent diffusion method; see `gtg-bench list methods`.")
    ],
    to: Annotated[Path, typer.Option("--out", help="Folder of the images, index.csv, generation.json and sheet.png.")],
    weights: Annotated[
        str | None, typer.Option(help="Weights: phantom (packaged), paper (published), a folder or a YAML file.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set of the phrases. (default: phantom)")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the data set. (default: test)")] = None,
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
    phrases: Annotated[
        Path | None,
        typer.Option(help="File of phrases instead: one a line, or a CSV file with a column `phrase`."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N samples or phrases.")] = None,
    per_phrase: Annotated[int, typer.Option(min=1, max=100, help="Images of each sample or phrase.")] = 4,
    steps: Annotated[int, typer.Option(help="Number of DDIM steps.")] = 50,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale; 1: none.")] = 4.0,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 4200,
    precision: Annotated[str, choice(PRECISIONS, "--precision", help="Floating-point type of the U-Net.")] = PRECISIONS[
        0
    ],
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch; changes rounding only.")] = 8,
    shard: ShardOption = None,
    device: Device = "auto",
    plugin: Plugins = None,
) -> None:
    """Generate images."""
    from gtg_bench.benchmark.report.terminal import counting
    from gtg_bench.benchmark.runs.writers import shard_of
    from gtg_bench.training.generation.generate import generate as run
    from gtg_bench.training.generation.plan import GenerationRequest, plan

    if not math.isfinite(guidance):
        raise UsageError(f"--guidance must be a finite number, not {guidance}")
    of_data = {"--dataset": dataset, "--split": split, "--data-root": data_root, "--dataset-option": dataset_option}
    if phrases is not None and (given := [name for name, value in of_data.items() if value]):
        raise UsageError(
            f"--phrases cannot be combined with {given[0]}: a file of phrases takes the place of a data set"
        )
    load_plugins(plugin)
    request = GenerationRequest(
        method=method,
        out=to,
        weights=weights,
        precision=precision,
        steps=steps,
        guidance=guidance,
        seed=seed,
        dataset=dataset,
        data_root=data_root,
        dataset_options=key_values(dataset_option),
        split=split or "test",
        phrases=phrases,
        limit=limit,
        per_phrase=per_phrase,
        batch_size=batch_size,
        device=device,
        shard=None if shard is None else shard_of(shard),
    )
    planned = plan(request)
    if planned.repeated:
        err.say(f"{phrases}: {number_of(planned.repeated, 'repeated phrase')} left out")
    with counting(err, "Generating images") as progress:
        done = run(request, planned, progress, lambda: err.print("another process makes these images; waiting for it"))
    number = len(planned.images)
    speed = f", {done.seconds / done.made:.2f} s each" if done.made else ""
    out.say(f"{number_of(done.made, 'image')} made{speed}; {to} holds {number - done.missing} of {number}")
    if not done.missing:
        out.say(f"look at {to / 'sheet.png'}")
        if of_phantom(planned.settings.weights):
            out.print("Phantom weights know the phantom only: not radiographs of patients.")
