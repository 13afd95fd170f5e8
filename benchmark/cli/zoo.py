"""`gtg-bench zoo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import err, out, reports_errors

HELP = (
    "Train the phantom zoo, or members of it, with whatever they stand on; the same command goes on where it stopped."
)


@reports_errors
def zoo(
    to: Annotated[Path, typer.Option("--out", help="Folder of the zoo; finished members in it are left alone.")],
    members: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MEMBER ...]", help="cxrbert-ldm, cxrbert-ldm@1759, biovil, clip ...; default: all."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="Of the latent diffusion models: phantom, phantom-quick, or a YAML file.")
    ] = "phantom",
    config: Annotated[
        Path | None, typer.Option(help="A YAML file with fields that replace those of the recipe `zoo`.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Only list the members, and which are finished.")] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Copy packaged members of the same recipe instead of training them.")
    ] = False,
    evaluate: Annotated[
        bool,
        typer.Option(help="Also score the methods among them on the test splits: every sampling mode and control."),
    ] = False,
    leaderboards_dir: Annotated[
        Path | None, typer.Option(help="Where the CSV files are that get a row for each of these scores.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")] = None,
) -> None:
    """Train members of the phantom zoo."""
    from gtg_bench.training.pretraining.recipe import folder_name, load_zoo_recipe
    from gtg_bench.training.recipe import load_recipe

    if leaderboards_dir is not None and not evaluate:
        raise UsageError("--leaderboards-dir belongs to --evaluate: nothing is scored without it")
    stages, chosen = load_zoo_recipe(config), load_recipe(recipe)
    if evaluate and chosen.choice is None:
        raise UsageError(f"--evaluate: recipe {chosen.name} says nothing under `choice` of the worlds to score")
    names = stages.checked(members or [])
    if show:
        for name in names:
            out.print(f"{name}: {'finished' if (to / folder_name(name) / 'card.json').exists() else 'not yet'}")
        return
    if threads:
        import torch

        torch.set_num_threads(threads)
    from gtg_bench.training.loop.signals import Stopped, StopRequest
    from gtg_bench.training.zoo import Zoo

    try:
        with StopRequest() as stop:
            whole = Zoo(stages, chosen, to, stop, adopt)
            for name in names:
                out.print(f"{name}: {whole.member(name)}", soft_wrap=True)
                if evaluate:
                    whole.evaluate(name, leaderboards_dir)
    except Stopped as stopped:
        err.print(f"{stopped or 'asked to stop'}; the same command goes on from there", soft_wrap=True)
