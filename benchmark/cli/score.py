"""`gtg-bench score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import (
    DataRoot,
    DatasetOption,
    FrameOption,
    LeaderboardsDir,
    RunsDir,
    UncoveredOption,
    choice,
    err,
    key_values,
    reports_errors,
)
from gtg_bench.benchmark.cli.results import LeftOut, report, show, with_progress
from gtg_bench.benchmark.scoring.controls import REGION_CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS

if TYPE_CHECKING:
    from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest

HELP = "Score stored maps by another protocol, mask or smoothing, or external maps from a folder. No model is run."


@reports_errors
def score(
    run: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Run key, or METHOD[:SETTING=VALUE ...].")
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            help="Score the maps in this folder instead: npy, npz or PNG files and an index.csv (sample_id, or "
            "image_id and phrase; file; optionally left, top, right, bottom: the part that a map spans, in pixels).",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="With --maps: name of the method.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set of the maps, or only runs on this one.")] = None,
    split: Annotated[str | None, typer.Option(help="With --maps: split to evaluate. (default: test)")] = None,
    limit: Annotated[int | None, typer.Option(help="With --maps: evaluate only the first N samples.")] = None,
    control: Annotated[
        str | None, choice(["none", *REGION_CONTROLS], "--control", help="With --maps: run a sanity-check control.")
    ] = None,
    protocol: Annotated[
        str | None,
        choice(list(PROTOCOLS), "--protocol", help="Metrics, frame, mask and averages. (default: the run's, or gtg)"),
    ] = None,
    frame: FrameOption = None,
    uncovered: UncoveredOption = None,
    mask: Annotated[
        str | None,
        typer.Option(help="mixture, otsu, a threshold such as 0.5, or best: tuned on --tune-on."),
    ] = None,
    smooth: Annotated[
        str | None,
        typer.Option(
            help="Standard deviation of a Gaussian on the maps, as a fraction of the image's shorter side such as "
            "0.06, or best: chosen on --tune-on."
        ),
    ] = None,
    tune_on: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="With --mask best or --smooth best: the validation run, one per RUN."),
    ] = None,
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first sample that fails.")] = False,
    runs_dir: RunsDir = Path("runs"),
    leaderboards_dir: LeaderboardsDir = Path("leaderboards"),
) -> None:
    """Score maps."""
    from gtg_bench.benchmark.metrics.named_masks import BEST
    from gtg_bench.benchmark.report import leaderboard
    from gtg_bench.benchmark.runs.rescore import Place, Rules, find_stored, prepare_stored, tuned
    from gtg_bench.benchmark.runs.runner import RunRequest

    if bool(run) == (maps is not None):
        raise UsageError("name runs, or a folder of maps with --maps DIR --name METHOD --dataset NAME")
    best = [part for part, value in (("mask", mask), ("smooth", smooth)) if value == BEST]
    if bool(best) != bool(tune_on):
        raise UsageError("--mask best or --smooth best, and --tune-on VALIDATION_RUN belong together")
    fixed, fixed_smooth = None if mask == BEST else mask, None if smooth == BEST else smooth
    place = Place(data_root, key_values(dataset_option))
    if maps is None:
        if name or split or control or limit is not None:
            raise UsageError("--name, --split, --limit and --control need --maps: a stored run has its own")
        rules = Rules(protocol, frame, uncovered, fixed, fixed_smooth)
        stored = [find_stored(runs_dir, one, dataset) for one in dict.fromkeys(run or [])]
        prepared = [prepare_stored(runs_dir, one, rules, place) for one in stored]
    else:
        if name is None or dataset is None:
            raise UsageError("--maps DIR needs --name METHOD and --dataset NAME")
        request = RunRequest.of(
            name,
            dataset=dataset,
            data_root=data_root,
            dataset_options=dict(place.dataset_options),
            split=split or "test",
            limit=limit,
            control=control or "none",
            protocol=protocol or "gtg",
            frame=frame,
            uncovered=uncovered,
            mask=fixed,
            smooth=fixed_smooth,
        )
        prepared = [_external(maps, request)]
    rows = []
    for plan in tuned(prepared, best, tune_on, dataset, runs_dir, place) if tune_on else prepared:
        result = with_progress(plan, RunRequest(plan.spec.settings, fail_fast=fail_fast, runs_dir=runs_dir))
        rows.append(leaderboard.update(leaderboards_dir, result.spec, result.records))
        report(result)
    show(leaderboards_dir, rows, runs_dir)
    LeftOut(1).finish(row["method"] for row in rows if row["n_ok"] == "0")


def _external(maps: Path, request: RunRequest) -> PreparedRun:
    from gtg_bench.benchmark.runs.external_maps import prepare_maps

    prepared, index = prepare_maps(maps, request)
    if index.elsewhere:
        text = f"{index.path}: {index.elsewhere} rows name samples of other splits than {request.split}"
        err.print(text, soft_wrap=True, markup=False)
    return prepared
