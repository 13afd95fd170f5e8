"""`gtg-bench train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.cli.common import out, reports_errors

HELP = "Train latent diffusion models, and what they stand on, by a recipe; a rerun goes on where it stopped."


@reports_errors
def train(
    to: Annotated[Path, typer.Option("--out", help="Folder for weights and unfinished work.")],
    variant: Annotated[
        list[str] | None, typer.Option(help="A method of the recipe, or `priors`; repeatable. Default: everything.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="A packaged recipe, or a YAML file.")] = "phantom",
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Then score the test splits with every control, into the card.")
    ] = False,
    runs_dir: Annotated[Path, typer.Option(help="Where the records of --evaluate are kept.")] = Path("runs"),
    threads: Annotated[int | None, typer.Option(help="CPU threads; default: all cores.")] = None,
) -> None:
    """Train variants."""
    from gtg_bench.training.recipe import load_old_recipe

    chosen = load_old_recipe(recipe)
    import torch

    from gtg_bench.training.zoo import Zoo

    if threads:
        torch.set_num_threads(threads)
    zoo = Zoo(chosen, to)
    for name in variant or [*chosen.variants, "priors"]:
        folder = zoo.priors() if name == "priors" else zoo.variant(name)
        if evaluate and name != "priors":
            zoo.evaluate(name, runs_dir)
        out.print(f"{name}: {folder}", soft_wrap=True)
