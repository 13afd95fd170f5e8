"""`gtg-bench score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.settings import BOXES
from gtg_bench.benchmark.cli.common import (
    DataRoot,
    DatasetOption,
    FailFast,
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

HELP = "Score stored maps by another protocol, mask or smoothing, or external maps or boxes. No model is run."


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
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--boxes",
            help="Score the boxes in this file instead: JSON (a list of image, phrase, boxes and optionally scores) or "
            "CSV (a row per box: image, phrase, x1, y1, x2, y2 and optionally score), in pixels or in fractions.",
        ),
    ] = None,
    boxes_of: Annotated[
        str | None,
        typer.Option(
            "--boxes-of",
            metavar="KEY=VALUE",
            help="Score the data set's own boxes under another option instead, such as reader=2: how far a second "
            "reader agrees with the first.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="With --maps or --boxes: name of the method.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data set of the maps or boxes, or only runs on this one.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="With --maps or --boxes: split to evaluate. (default: test)")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="With --maps or --boxes: evaluate only the first N samples.")
    ] = None,
    control: Annotated[
        str | None,
        choice(["none", *REGION_CONTROLS], "--control", help="With --maps or --boxes: run a sanity-check control."),
    ] = None,
    protocol: Annotated[
        str | None,
        choice(
            list(PROTOCOLS),
            "--protocol",
            help="Metrics, frame, mask and averages. (default: the run's; gtg for --maps, boxes for --boxes)",
        ),
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
            "0.06, or best: chosen on --tune-on, else on the method's run on the validation split."
        ),
    ] = None,
    tune_on: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="The validation run for --mask best or --smooth best, one per RUN."),
    ] = None,
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
    fail_fast: FailFast = False,
    runs_dir: RunsDir = Path("runs"),
    leaderboards_dir: LeaderboardsDir = Path("leaderboards"),
) -> None:
    """Score maps."""
    from gtg_bench.benchmark.metrics.named_masks import BEST
    from gtg_bench.benchmark.report import leaderboard
    from gtg_bench.benchmark.runs.rescore import Place, Rules, find_stored, prepare_stored, tuned
    from gtg_bench.benchmark.runs.runner import RunRequest

    external = {"--maps DIR": maps, "--boxes FILE": boxes, "--boxes-of KEY=VALUE": boxes_of}
    given = [option for option, value in external.items() if value is not None]
    if bool(run) + len(given) != 1:
        raise UsageError(f"name runs, or one of {', '.join(external)} with --name METHOD --dataset NAME")
    best = [part for part, value in (("mask", mask), ("smooth", smooth)) if value == BEST]
    if (mask == BEST and not tune_on) or (tune_on and not best):
        raise UsageError("--mask best and --tune-on VALIDATION_RUN belong together (with --smooth best it is optional)")
    fixed, fixed_smooth = None if mask == BEST else mask, None if smooth == BEST and tune_on else smooth
    place = Place(data_root, key_values(dataset_option))
    if not given:
        if name or split or control or limit is not None:
            raise UsageError("--name, --split, --limit and --control need --maps or --boxes: a stored run has its own")
        rules = Rules(protocol, frame, uncovered, fixed, fixed_smooth)
        stored = [find_stored(runs_dir, one, dataset) for one in dict.fromkeys(run or [])]
        for spec in stored:
            if spec.settings.weights == BOXES and (mask or smooth):
                raise UsageError(f"run {spec.key} answers with boxes; --mask and --smooth are for maps")
        prepared = [prepare_stored(runs_dir, one, rules, place) for one in stored]
    else:
        if name is None or dataset is None:
            raise UsageError(f"{given[0]} needs --name METHOD and --dataset NAME")
        request = RunRequest.of(
            name,
            dataset=dataset,
            data_root=data_root,
            dataset_options=dict(place.dataset_options),
            split=split or "test",
            limit=limit,
            control=control or "none",
            protocol=protocol or ("gtg" if boxes is None and boxes_of is None else "boxes"),
            frame=frame,
            uncovered=uncovered,
            mask=fixed,
            smooth=fixed_smooth,
        )
        prepared = [_external_maps(maps, request)] if maps is not None else []
        prepared += [_external_boxes(boxes, request)] if boxes is not None else []
        prepared += [_reader(boxes_of, request)] if boxes_of is not None else []
    rows = []
    for plan in tuned(prepared, best, tune_on, dataset, runs_dir, place) if tune_on else prepared:
        result = with_progress(plan, RunRequest(plan.spec.settings, fail_fast=fail_fast, runs_dir=runs_dir))
        rows.append(leaderboard.update(leaderboards_dir, result.spec, result.records))
        report(result)
    show(leaderboards_dir, rows, runs_dir)
    LeftOut(1).finish(rows)


def _external_maps(maps: Path, request: RunRequest) -> PreparedRun:
    from gtg_bench.benchmark.runs.external_maps import prepare_maps

    prepared, index = prepare_maps(maps, request)
    _say_elsewhere(index.path, index.elsewhere, request.split)
    return prepared


def _external_boxes(boxes: Path, request: RunRequest) -> PreparedRun:
    from gtg_bench.benchmark.metrics import METRICS
    from gtg_bench.benchmark.runs.external_boxes import prepare_boxes

    prepared, answers = prepare_boxes(boxes, request)
    _say_elsewhere(answers.path, answers.elsewhere, request.split)
    names = [trial.sample.sample_id for trial in prepared.trials]
    missing = [name for name in names if name not in answers.boxes]
    empty = sum(answers.boxes.get(name) == [] for name in names)
    if answers.unit:
        err.say(f"{answers.path}: read as {answers.unit}")
    if empty:
        err.print(f"{empty} of {len(names)} samples are answered without a box: misses", markup=False)
    if missing:
        listed = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        text = f"warning: {len(missing)} of {len(names)} samples have no row and count as misses: {listed}"
        err.say(text, style="yellow")
    if undefined := [metric for metric in prepared.rules.metrics if METRICS[metric].of_map]:
        text = (
            f"{', '.join(undefined)}: undefined for boxes, because {'it needs' if len(undefined) == 1 else 'they need'}"
        )
        err.say(f"{text} a map")
    return prepared


def _reader(option: str, request: RunRequest) -> PreparedRun:
    from gtg_bench.benchmark.runs.external_boxes import prepare_reader

    ((key, value),) = key_values([option]).items()
    return prepare_reader((key, value), request)


def _say_elsewhere(path: Path, elsewhere: int, split: str) -> None:
    if elsewhere:
        text = f"{path}: {elsewhere} rows name absent findings or samples of other splits than {split}"
        err.say(text)
