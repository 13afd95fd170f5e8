"""`gtg-bench train`, and `accelerate launch -m gtg_bench.training`."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.cli.common import choice, err, key_values, out, reports_errors

HELP = "Train a latent diffusion model by a recipe. Rerun the same command to resume."


class Resume(StrEnum):
    """Use of existing checkpoints."""

    auto = "auto"
    never = "never"


class Precision(StrEnum):
    """Mixed precision."""

    no = "no"
    fp16 = "fp16"
    bf16 = "bf16"


@reports_errors
def train(
    variant: Annotated[str, typer.Option(help="Method to train: cxrbert-ldm, clip-ldm, clip-ldm-lora ...")],
    to: Annotated[
        Path, typer.Option("--out", help="Folder of the trained model; checkpoints and cache are in its work/.")
    ],
    recipe: Annotated[
        str, typer.Option(help="Recipe: paper, phantom, phantom-varied, -sides, -apart, -words, -quick or a YAML file.")
    ] = "phantom",
    config: Annotated[Path | None, typer.Option(help="YAML file whose fields replace the recipe's.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Training set: mimic-cxr, chestxray14 or phantom. (default: the recipe's)")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the training data.")] = None,
    data_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    start: Annotated[
        str | None, typer.Option(help="Weights to start from, as for `run`. (default: the recipe's)")
    ] = None,
    validate_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the validation data set, whose phrases are grounded during training."),
    ] = None,
    validate_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of encoded images and texts. (default: in work/)")] = None,
    resume: Annotated[
        Resume, typer.Option(help="never: ignore the checkpoints in --out and start again.")
    ] = Resume.auto,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Train for at most N steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed. (default: the recipe's first)")] = None,
    rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of clip-ldm-lora's adapter, 4 to 256 in the paper. (default: 64)")
    ] = None,
    device: Annotated[
        str, choice(["auto", "cpu"], "--device", help="Train on the GPU if there is one, or not.")
    ] = "auto",
    precision: Annotated[Precision | None, typer.Option(help="Mixed precision. (default: the recipe's)")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Number of data loading processes.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. (default: all cores)")] = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option(help="Accelerate's trackers such as wandb, or none; repeatable. (default: tensorboard)"),
    ] = None,
) -> None:
    """Train a variant."""
    from gtg_bench.training.recipe import load_recipe
    from gtg_bench.training.variants import variant_of

    variant_of(variant).of_rank(rank)
    chosen = load_recipe(recipe, config)
    if threads:
        import torch

        torch.set_num_threads(threads)
    from gtg_bench.training.ldm.train import TrainRequest
    from gtg_bench.training.ldm.train import train as run
    from gtg_bench.training.loop.signals import Stopped, StopRequest

    names = tracker or ["tensorboard"]
    request = TrainRequest(
        variant=variant,
        recipe=chosen,
        out=to,
        seed=seed,
        rank=rank,
        data=data,
        data_root=data_root,
        data_options=key_values(data_option),
        split=split,
        start=start,
        validate_root=validate_root,
        validate_options=key_values(validate_option),
        cache=cache,
        max_steps=max_steps,
        resume=resume is Resume.auto,
        device=device,
        precision=None if precision is None else str(precision),
        workers=workers,
        trackers=() if names == ["none"] else tuple(names),
    )
    try:
        with StopRequest() as stop:
            folder = run(request, stop)
    except Stopped as stopped:
        err.print(f"{stopped or 'stopped'}; rerun the same command to resume", soft_wrap=True)
        return
    from accelerate import PartialState

    if PartialState().is_main_process:
        command = shlex.join(["gtg-bench", "run", "--method", variant, "--weights", str(folder)])
        out.say(f"{variant}: {folder}; try: {command}")
