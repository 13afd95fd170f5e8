"""`gtg-bench data show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.cli.common import (
    DataRoot,
    DatasetOption,
    RunsDir,
    choice,
    err,
    key_values,
    out,
    reports_errors,
)
from gtg_bench.benchmark.cli.pictures import (
    Cmap,
    Contour,
    Dpi,
    Interpolation,
    Pictures,
    check_pictures,
    look_of,
    write_pictures,
)

if TYPE_CHECKING:
    from gtg_bench.benchmark.report.pictures.drawing import Look
    from gtg_bench.benchmark.report.pictures.examples import Choice, Sheet

HELP = "Draw images with phrases and boxes or masks, and the maps of runs side by side."


@reports_errors
def show(
    name: Annotated[
        str | None, typer.Argument(help="Data set; see `gtg-bench data list`. (default: that of --run, else phantom)")
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN", help="Run whose maps to draw: a key, or METHOD[:SETTING=VALUE ...]; repeat for more columns."
        ),
    ] = None,
    title: Annotated[
        list[str] | None, typer.Option(help="Head of a run's column; repeat in the order of --run.")
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--ids", help="Sample, or several separated by commas; repeatable.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="Only samples of this finding.")] = None,
    order: Annotated[
        str,
        choice(("given", "worst", "best", "random"), "--order", help="Order of the samples, by the first run's score."),
    ] = "given",
    metric: Annotated[
        str | None, typer.Option(help="Metric of the order and above each map. (default: the protocol's primary)")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of --order random.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Number of samples.")] = 16,
    split: Annotated[str | None, typer.Option(help="Split. (default: that of the run, else test)")] = None,
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
    runs_dir: RunsDir = Path("runs"),
    columns: Annotated[
        int | None, typer.Option(min=1, max=12, help="Images side by side; not with several runs. (default: 4)")
    ] = None,
    to: Pictures = None,
    cmap: Cmap = "heat",
    interpolation: Interpolation = "smooth",
    contour: Contour = None,
    dpi: Dpi = None,
) -> None:
    """Draw a sheet."""
    from gtg_bench.benchmark.report.pictures.examples import Choice

    paths = to or [Path("sheet.png")]
    look = look_of(cmap, interpolation, contour)
    check_pictures(paths)
    names = [one.strip() for text in ids or () for one in text.split(",") if one.strip()]
    wanted = Choice(limit, names, category, order, metric, seed)  # type: ignore[arg-type]
    options = key_values(dataset_option)
    if run:
        if split:
            raise UsageError("--split cannot be combined with --run: a run has its own")
        if columns and len(run) > 1:
            raise UsageError("--columns cannot be combined with several runs: each is a column")
        found = _of_runs(run, runs_dir, wanted, name, title or (), columns or 4, look, (data_root, options))
    else:
        if metric or title:
            raise UsageError(f"{'--metric' if metric else '--title'} needs --run")
        found = _of_dataset(name or "phantom", split or "test", wanted, columns or 4, look, (data_root, options))
    for problem in dict.fromkeys(found.problems):
        err.say(f"warning: {problem}")
    write_pictures(found.figure, paths, dpi, f"{number_of(len(found.sample_ids), 'sample')} drawn to")
    if order != "given":
        out.say(f"the same samples: --ids {','.join(found.sample_ids)}")


def _of_runs(
    run: list[str], runs_dir: Path, wanted: Choice, name: str | None, titles: Any, columns: int, look: Look, data: Any
) -> Sheet:
    from gtg_bench.benchmark.report.pictures.run_sheet import runs_sheet
    from gtg_bench.benchmark.runs.records import MANIFEST
    from gtg_bench.benchmark.runs.rescore import Place

    folders = [Path(one) for one in run]
    if all((folder / MANIFEST).is_file() for folder in folders):
        run, runs_dir = [folder.resolve().name for folder in folders], folders[0].resolve().parents[2]
    return runs_sheet(run, runs_dir, wanted, name, titles, columns, look, Place(*data))


def _of_dataset(name: str, split: str, wanted: Choice, columns: int, look: Look, data: Any) -> Sheet:
    from gtg_bench.benchmark.datasets import open_dataset
    from gtg_bench.benchmark.report.pictures.examples import dataset_sheet

    return dataset_sheet(open_dataset(name, *data), split, wanted, columns, look)
