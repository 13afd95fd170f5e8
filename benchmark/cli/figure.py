"""`gtg-bench figure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import (
    DataRoot,
    DatasetOption,
    Device,
    RunsDir,
    key_values,
    reports_errors,
)
from gtg_bench.benchmark.cli.plot import Caption, Out, Width, write
from gtg_bench.benchmark.cli.results import with_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, RunResult

HELP = "Repeat a figure of the paper with your own data and weights."
_NUMBERS = ("4", "5")


@reports_errors
def figure(
    number: Annotated[str, typer.Argument(metavar=f"[{'|'.join(_NUMBERS)}]", help="Figure of the paper.")],
    to: Out,
    dataset: Annotated[str, typer.Option(help="Data set; see `gtg-bench list datasets`.")] = "phantom",
    split: Annotated[str, typer.Option(help="Split to evaluate.")] = "test",
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
    limit: Annotated[int | None, typer.Option(help="Figures 4 and 5: evaluate only the first N samples.")] = None,
    method: Annotated[str, typer.Option("--method", "-m", help="Figures 2, 4 and 5: the method.")] = "cxrbert-ldm",
    weights: Annotated[str | None, typer.Option(help="Weights of every method; see `gtg-bench run`.")] = None,
    steps: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Figure 4: numbers of steps. Figure 5: numbers of last steps, of 65."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 4200,
    device: Device = "auto",
    width: Width = "column",
    caption: Caption = True,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Repeat a figure of the paper."""
    from gtg_bench.benchmark.report.plots import style
    from gtg_bench.benchmark.runs.runner import RunRequest

    if number not in _NUMBERS:
        raise UsageError(f"unknown figure {number!r}; choose from {', '.join(_NUMBERS)}")
    for path in to:
        style.check_path(path)
    data: dict[str, Any] = {"dataset": dataset, "split": split, "data_root": data_root, "limit": limit}
    data["dataset_options"] = key_values(dataset_option)
    request = RunRequest.of(method, weights=weights, seed=seed, device=device, runs_dir=runs_dir, **data)
    draw = _figure4 if number == "4" else _figure5
    write(draw(request, steps, {"width": width, "caption": caption}), to)


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
