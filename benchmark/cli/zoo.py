"""`gtg-bench zoo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import err, out, reports_errors

HELP = "Train the phantom zoo, or some members and what they depend on. Rerun the same command to resume."


@reports_errors
def zoo(
    to: Annotated[Path, typer.Option("--out", help="Folder of the zoo; finished members are kept.")],
    members: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MEMBER ...]", help="Members: cxrbert-ldm, cxrbert-ldm@1759, biovil, clip ... (default: all)"
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="The diffusion models' recipe: phantom, phantom-varied, -sides, -apart, -words, -quick or a YAML file."
        ),
    ] = "phantom",
    config: Annotated[
        Path | None, typer.Option(help="YAML file whose fields replace those of the recipe `zoo`.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the members and their state, then exit.")] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Copy packaged members of the same recipe instead of training them.")
    ] = False,
    evaluate: Annotated[
        bool,
        typer.Option(help="Score every method on the test split, in every sampling mode and under every control."),
    ] = False,
    leaderboards_dir: Annotated[
        Path | None, typer.Option(help="With --evaluate: folder of the leaderboard CSV files.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. (default: all cores)")] = None,
) -> None:
    """Train members of the phantom zoo."""
    from gtg_bench.training.pretraining.recipe import folder_name, load_zoo_recipe
    from gtg_bench.training.recipe import load_recipe

    if leaderboards_dir is not None and not evaluate:
        raise UsageError("--leaderboards-dir needs --evaluate")
    stages, chosen = load_zoo_recipe(config), load_recipe(recipe)
    if evaluate and chosen.choice is None:
        raise UsageError(f"--evaluate: recipe {chosen.name} names no worlds to score under `choice`")
    names = stages.checked(members or [])
    if show:
        for name in names:
            out.print(f"{name}: {'finished' if (to / folder_name(name) / 'card.json').exists() else 'not trained'}")
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
        err.print(f"{stopped or 'stopped'}; rerun the same command to resume", soft_wrap=True)
