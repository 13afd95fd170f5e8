"""`gtg-bench figure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import (
    Device,
    Plugins,
    RunsDir,
    load_plugins,
    reports_errors,
)
from gtg_bench.benchmark.cli.groups import DataOptions, takes_groups
from gtg_bench.benchmark.cli.plot import Caption, Out, Width, write
from gtg_bench.benchmark.cli.results import with_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, RunResult

HELP = "Repeat a figure of the paper with your own data and weights."
_OF_MAPS = ("2", "3", "6")
_NUMBERS = ("2", "3", "4", "5", "6")


@reports_errors
@takes_groups
def figure(
    number: Annotated[str, typer.Argument(metavar=f"[{'|'.join(_NUMBERS)}]", help="Figure of the paper.")],
    to: Out,
    data: DataOptions = DataOptions(),
    limit: Annotated[int | None, typer.Option(help="Figures 4 and 5: evaluate only the first N samples.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            metavar="METHOD[:SETTING=VALUE ...]",
            help="Figures 3 and 6: methods, repeatable. Others: the method. (default: the paper's)",
        ),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Weights of every method; see `gtg-bench run`.")] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(
            help="Figures 2, 3 and 6: id of the sample, for 3 repeatable. (default: the longest phrase; for 3 the "
            "first of each of the paper's findings)"
        ),
    ] = None,
    cmap: Annotated[str, typer.Option(help="Figures 2, 3 and 6: heat, or matplotlib's; the paper uses jet.")] = "heat",
    steps: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Figure 4: numbers of steps. Figure 5: numbers of last steps, of 65."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 4200,
    device: Device = "auto",
    width: Width = "column",  # of figures 4 and 5
    caption: Caption = True,
    runs_dir: RunsDir = Path("runs"),
    plugin: Plugins = None,
) -> None:
    """Repeat a figure of the paper."""
    from gtg_bench.benchmark.report.pictures.drawing import check_format
    from gtg_bench.benchmark.runs.runner import RunRequest

    if number not in _NUMBERS:
        raise UsageError(f"unknown figure {number!r}; choose from {', '.join(_NUMBERS)}")
    for path in to:
        check_format(path)
    load_plugins(plugin)
    if number in _OF_MAPS:
        draw_maps(number, data, method or [], sample or [], cmap, to, weights=weights, seed=seed, device=device)
        return
    if len(method or ()) > 1:
        raise UsageError(f"figure {number} shows one method; give one --method")
    name = next(iter(method or ()), "cxrbert-ldm")
    request = RunRequest.of(
        name, **data.request, limit=limit, weights=weights, seed=seed, device=device, runs_dir=runs_dir
    )
    draw = _figure4 if number == "4" else _figure5
    write(draw(request, steps, {"width": width, "caption": caption}), to)


def draw_maps(
    number: str,
    data: DataOptions,
    names: list[str],
    ids: list[str],
    cmap: str,
    to: list[Path],
    **settings: Any,
) -> None:
    """Draw and write a figure of maps."""
    from gtg_bench.benchmark.datasets import open_dataset
    from gtg_bench.benchmark.report.pictures.drawing import Look
    from gtg_bench.benchmark.report.plots import paper_maps

    look, dataset = Look(cmap), open_dataset(*data.place.values())
    usual = {"2": ("cxrbert-ldm",), "3": paper_maps.METHODS_OF_3, "6": paper_maps.METHODS_OF_6}[number]
    if number != "3" and len(ids) > 1:
        raise UsageError(f"figure {number} shows one sample; give one --sample")
    if number == "2" and len(names) > 1:
        raise UsageError("figure 2 shows one method; give one --method")
    found = paper_maps.chosen(dataset, data.split, ids, paper_maps.CATEGORIES_OF_3 if number == "3" else ())
    settings |= {"dataset": dataset.name} | ({"layers": "all"} if number == "6" else {})
    methods = [paper_maps.ready(name, **settings) for name in names or usual]
    if number == "2":
        drawn = paper_maps.figure2(dataset, found[0], methods[0], look)
    elif number == "3":
        drawn = paper_maps.figure3(dataset, data.split, found, methods, look)
    else:
        drawn = paper_maps.figure6(dataset, found[0], methods, look)
    write(drawn, to)


def _figure4(request: RunRequest, steps: str | None, look: dict[str, Any]) -> Figure:
    """Run both sampling modes with every number of steps."""
    from dataclasses import replace

    from gtg_bench.benchmark.report.plots.paper_steps import MODES, STEPS, figure4
    from gtg_bench.benchmark.runs.step_sweep import over_steps

    numbers = _numbers(steps) or STEPS
    runs = {}
    for mode in MODES:
        wanted = replace(request, settings=replace(request.settings, sampling=mode))
        runs[mode] = over_steps(wanted, numbers, _execute)
    return figure4(runs, **look)


def _figure5(request: RunRequest, steps: str | None, look: dict[str, Any]) -> Figure:
    """Run ground-truth sampling once, and score the maps of every number of last steps."""
    from dataclasses import replace

    from gtg_bench.benchmark.report.plots.paper_steps import ALL_STEPS, LAST_STEPS, figure5
    from gtg_bench.benchmark.runs.step_sweep import over_last_steps

    wanted = replace(request, settings=replace(request.settings, sampling="gt-cfg", steps=ALL_STEPS))
    return figure5(over_last_steps(wanted, _numbers(steps) or LAST_STEPS, _execute), **look)


def _execute(prepared: PreparedRun, request: RunRequest) -> RunResult:
    """Execute a run; its progress bar names the steps."""
    chosen = prepared.spec.settings
    last = f"last {chosen.last_steps} of " if chosen.last_steps else ""
    return with_progress(prepared, request, f", {chosen.sampling}, {last}{chosen.steps} steps")


def _numbers(text: str | None) -> list[int]:
    """The numbers of a comma-separated list, in rising order; empty for None."""
    try:
        found = sorted({int(part) for part in text.split(",")}) if text else []
    except ValueError:
        found = [0]
    if found and found[0] < 1:
        raise UsageError(f"--steps {text}: give positive whole numbers separated by commas, such as 1,2,5,10")
    return found
