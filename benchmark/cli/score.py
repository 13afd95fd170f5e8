"""`gtg-bench score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import (
    Control,
    FrameOption,
    ProtocolName,
    UncoveredOption,
    err,
    key_values,
    reports_errors,
)
from gtg_bench.benchmark.cli.results import report, show, with_progress

if TYPE_CHECKING:
    from gtg_bench.benchmark.runs.external_maps import MapsRequest
    from gtg_bench.benchmark.runs.rescore import Place, Rules
    from gtg_bench.benchmark.runs.runner import PreparedRun, RunResult

HELP = "Score stored maps again, by another protocol or mask, or anybody's maps from a folder: no model is run."


@reports_errors
def score(
    run: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="A run's key, or METHOD[:SETTING=VALUE ...].")
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            help="Instead: a folder with npy, npz or PNG maps and index.csv (sample_id, or image_id and phrase; file; "
            "perhaps left, top, right, bottom: what of the image a map spans, in its pixels).",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="With --maps: what the method is called.")] = None,
    dataset: Annotated[str | None, typer.Option(help="With --maps: of which; else only runs on this one.")] = None,
    split: Annotated[str | None, typer.Option(help="With --maps: which samples; default: test.")] = None,
    limit: Annotated[int | None, typer.Option(help="With --maps: only the first so many samples.")] = None,
    control: Annotated[Control | None, typer.Option(help="With --maps: none or image-swap.")] = None,
    protocol: Annotated[
        ProtocolName | None, typer.Option(help="See `list protocols`; default: the run's, of new maps gtg.")
    ] = None,
    frame: FrameOption = None,
    uncovered: UncoveredOption = None,
    mask: Annotated[
        str | None, typer.Option(help="mixture, otsu, a threshold such as 0.5, or best, chosen on --tune-on.")
    ] = None,
    tune_on: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="With --mask best: the validation run, one for each RUN.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where the data lie, if not where the run had them.")] = None,
    dataset_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first sample that fails.")] = False,
    runs_dir: Annotated[Path, typer.Option(help="Where records and maps are kept.")] = Path("runs"),
    leaderboards_dir: Annotated[Path, typer.Option(help="Where the CSV files are.")] = Path("leaderboards"),
) -> None:
    """Score maps."""
    from gtg_bench.benchmark.metrics.named_masks import BEST
    from gtg_bench.benchmark.report import leaderboard
    from gtg_bench.benchmark.runs.external_maps import MapsRequest
    from gtg_bench.benchmark.runs.rescore import Place, Rules, tuned

    if bool(run) == (maps is not None):
        raise UsageError("name runs, or a folder of maps with --maps DIR --name METHOD --dataset NAME")
    best = mask == BEST
    if best != bool(tune_on):
        raise UsageError("--mask best and --tune-on VALIDATION_RUN belong together")
    rules = Rules(
        protocol=protocol and str(protocol),
        frame=frame and str(frame),
        uncovered=uncovered and str(uncovered),
        mask=None if best else mask,
    )
    place = Place(data_root, key_values(dataset_option))
    if maps is None:
        if name or split or limit or control:
            raise UsageError("--name, --split, --limit and --control belong to --maps: a run has its own")
        prepared = _stored(run or [], dataset, runs_dir, rules, place)
    else:
        if name is None or dataset is None:
            raise UsageError("--maps DIR needs --name METHOD and --dataset NAME")
        options = dict(place.dataset_options)
        asked = MapsRequest(maps, name, dataset, split or "test", limit, str(control or "none"), data_root, options)
        prepared = [_foreign(asked, rules)]
    rows = []
    for plan in tuned(prepared, tune_on, dataset, runs_dir, place) if tune_on else prepared:
        result = _scored(plan, runs_dir, fail_fast)
        rows.append(leaderboard.update(leaderboards_dir, result.spec, result.records))
        report(result)
    show(leaderboards_dir, rows, runs_dir)
    if any(row["n_ok"] == "0" for row in rows):
        raise typer.Exit(1)


def _stored(names: list[str], dataset: str | None, runs_dir: Path, rules: Rules, place: Place) -> list[PreparedRun]:
    from gtg_bench.benchmark.runs.rescore import find_stored, prepare_stored

    found = [find_stored(runs_dir, one, dataset) for one in dict.fromkeys(names)]
    return [prepare_stored(one, rules, place) for one in found]


def _foreign(asked: MapsRequest, rules: Rules) -> PreparedRun:
    from gtg_bench.benchmark.runs.external_maps import prepare_maps
    from gtg_bench.benchmark.scoring.protocols import PROTOCOL

    prepared, index = prepare_maps(asked, rules.of(rules.protocol or PROTOCOL))
    if index.elsewhere:
        err.print(f"{index.path}: {index.elsewhere} rows are of other splits than {asked.split}", soft_wrap=True)
    return prepared


def _scored(plan: PreparedRun, runs_dir: Path, fail_fast: bool) -> RunResult:
    from gtg_bench.benchmark.runs.runner import RunRequest, processes_for

    request = RunRequest(plan.spec.method, plan.spec.dataset, fail_fast=fail_fast, runs_dir=runs_dir)
    return with_progress(plan, request, processes_for(plan, runs_dir))
