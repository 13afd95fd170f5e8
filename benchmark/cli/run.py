"""`gtg-bench run`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import (
    FailFast,
    LeaderboardsDir,
    Limit,
    Plugins,
    load_plugins,
    out,
    reports_errors,
)
from gtg_bench.benchmark.cli.groups import DataOptions, JobOptions, takes_choices
from gtg_bench.benchmark.cli.results import LeftOut, execute, prepare_all, show

HELP = "Ground every phrase of a data set with one or more methods, score the maps, and update the leaderboard."


@reports_errors
@takes_choices
def run(
    method: Annotated[
        list[str], typer.Option("--method", "-m", help="Method to run; repeatable. See `gtg-bench list methods`.")
    ],
    settings: dict[str, Any],
    data: DataOptions = DataOptions(),
    limit: Limit = None,
    all_controls: Annotated[
        bool, typer.Option("--all-controls", help="Run plain and under every sanity-check control.")
    ] = False,
    fail_fast: FailFast = False,
    job: JobOptions = JobOptions(),
    leaderboards_dir: LeaderboardsDir = Path("leaderboards"),
    plugin: Plugins = None,
) -> None:
    """Run methods over a data set."""
    from gtg_bench.benchmark.analysis.control_battery import sensitivities
    from gtg_bench.benchmark.api.registry import METHODS, unknown
    from gtg_bench.benchmark.datasets import open_dataset
    from gtg_bench.benchmark.metrics.named_masks import rule_of
    from gtg_bench.benchmark.report.tables.analysis_tables import show_context
    from gtg_bench.benchmark.runs.runner import RunRequest, prepare
    from gtg_bench.benchmark.runs.suite import combinations

    if all_controls and "control" in settings:
        raise UsageError(f"--all-controls includes every control; leave out --control {settings['control'][0]}")
    load_plugins(plugin)
    names = list(dict.fromkeys(method))
    for name in names:
        if name not in METHODS.names():
            raise UsageError(unknown("method", name, METHODS.names()))
    requests = [
        RunRequest.of(name, **one, **data.request, **vars(job), limit=limit, fail_fast=fail_fast)
        for name in names
        for one in combinations(settings)
    ]
    left_out = LeftOut(1 if fail_fast else len(requests))
    opened = partial(prepare, dataset=open_dataset(*data.place.values()))
    batteries = prepare_all(requests, opened, left_out, controls=all_controls)
    if job.device not in ("auto", "cpu"):
        for _, battery in batteries:
            _ = battery.runs[0][1].source.device  # refused before anything is computed
    rows, done = execute(batteries, leaderboards_dir, left_out)
    show(leaderboards_dir, rows, job.runs_dir)
    if all_controls:
        ran = {replace(run.spec, smooth=rule_of(run.spec.smooth)) for run in done}
        shown = [battery for _, battery in batteries if battery.runs[0][1].spec in ran]
        for battery, found in zip(shown, sensitivities(done), strict=True):
            show_context(found, out, battery.impossible)
    left_out.finish(rows)
