"""`gtg-bench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.cli.common import (
    DataRoot,
    DatasetOption,
    OnlyDataset,
    RunsDir,
    err,
    key_values,
    out,
    reports_errors,
)

HELP = "Write one HTML file that shows which run is better, where and why, with every sample's maps."


@reports_errors
def report(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Run key, or METHOD[:SETTING=VALUE ...]; the first is A. (default: all that can be compared)",
        ),
    ] = None,
    to: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("report.html"),
    private: Annotated[bool, typer.Option("--private", help="Leave out phrases, ids, pictures and folders.")] = False,
    dataset: OnlyDataset = None,
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Write an HTML report."""
    from gtg_bench.benchmark.paths import check_writable
    from gtg_bench.benchmark.report.html import write_report
    from gtg_bench.benchmark.runs.rescore import Place

    check_writable(to)
    place = Place(data_root, key_values(dataset_option))
    with err.status("comparing runs and drawing maps"):
        path = write_report(run or [], to, runs_dir, dataset, private, place)
    out.say(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
