"""`gtg-bench run`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import (
    Bbm,
    Control,
    Device,
    FrameOption,
    Guidance,
    LastSteps,
    LatentChoice,
    Layers,
    MaskOption,
    Plugins,
    PrecisionChoice,
    ProfileChoice,
    ProtocolName,
    ProtocolOption,
    Sampling,
    Steps,
    Tokens,
    UncoveredOption,
    Weights,
    key_values,
    load_plugins,
    out,
    reports_errors,
    resolve_device,
)
from gtg_bench.benchmark.cli.results import report, show, with_progress

if TYPE_CHECKING:
    from gtg_bench.benchmark.analysis.control_battery import Battery
    from gtg_bench.benchmark.api.types import MethodSettings
    from gtg_bench.benchmark.report.leaderboard import Row
    from gtg_bench.benchmark.runs.lookup import FinishedRun
    from gtg_bench.benchmark.runs.sources import Source

HELP = "Ground every phrase of a data set with one or more methods, score the maps, and update the leaderboard."


@reports_errors
def run(
    method: Annotated[
        list[str], typer.Option("--method", "-m", help="A method's name; repeatable. See `list methods`.")
    ],
    sampling: Annotated[Sampling, typer.Option(help="Sampling mode of latent diffusion models.")] = Sampling("gt-cfg"),
    dataset: Annotated[str, typer.Option(help="See `list datasets`.")] = "phantom",
    split: Annotated[str, typer.Option(help="Which samples.")] = "test",
    data_root: Annotated[Path | None, typer.Option(help="Folder with the data set's annotations and images.")] = None,
    dataset_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many samples.")] = None,
    steps: Steps = None,
    last_steps: LastSteps = None,
    guidance: Guidance = None,
    layers: Layers = None,
    latent: LatentChoice = None,
    tokens: Tokens = None,
    bbm: Bbm = None,
    profile: ProfileChoice = None,
    precision: PrecisionChoice = None,
    protocol: ProtocolOption = ProtocolName("gtg"),
    frame: FrameOption = None,
    uncovered: UncoveredOption = None,
    mask: MaskOption = None,
    control: Annotated[Control, typer.Option(help="Change one thing on purpose.")] = Control("none"),
    controls: Annotated[
        bool, typer.Option("--all-controls", help="Plain and under every control: what does the method listen to?")
    ] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first sample that fails.")] = False,
    seed: Annotated[int, typer.Option(help="Of all noise.")] = 4200,
    batch_size: Annotated[int, typer.Option(help="Samples at a time; changes no result.")] = 16,
    device: Device = "auto",
    weights: Weights = None,
    runs_dir: Annotated[Path, typer.Option(help="Where records and maps are kept.")] = Path("runs"),
    leaderboards_dir: Annotated[Path, typer.Option(help="Where the CSV files are.")] = Path("leaderboards"),
    plugin: Plugins = None,
) -> None:
    """Run methods over a data set."""
    from gtg_bench.benchmark.analysis.control_battery import Battery, listen, prepare_battery
    from gtg_bench.benchmark.report.comparison_tables import show_listening
    from gtg_bench.benchmark.runs.runner import RunRequest, prepare

    if controls and control != Control("none"):
        raise UsageError(f"--all-controls runs all of them; leave out --control {control}")
    load_plugins(plugin)
    requests = [
        RunRequest(
            method=name,
            dataset=dataset,
            data_root=data_root,
            dataset_options=key_values(dataset_option),
            split=split,
            limit=limit,
            control=str(control),
            fail_fast=fail_fast,
            sampling=str(sampling),
            steps=steps,
            last_steps=last_steps,
            guidance=guidance,
            layers=layers,
            latent=latent,
            tokens=tokens,
            bbm=bbm,
            profile=profile,
            precision=precision,
            weights=weights,
            protocol=str(protocol),
            frame=frame and str(frame),
            uncovered=uncovered and str(uncovered),
            mask=mask,
            seed=seed,
            batch_size=batch_size,
            device=device,
            runs_dir=runs_dir,
        )
        for name in dict.fromkeys(method)
    ]
    batteries = [prepare_battery(one) if controls else Battery(((one, prepare(one)),), {}) for one in requests]
    done = [pair for battery in batteries for pair in _executed(battery, leaderboards_dir)]
    rows = [row for row, _ in done]
    show(leaderboards_dir, rows, runs_dir)
    for battery, found in zip(batteries, listen([run for _, run in done]) if controls else (), strict=controls):
        show_listening(found, battery.impossible, out)
    if any(row["n_ok"] == "0" for row in rows):
        raise typer.Exit(1)


def _executed(battery: Battery, leaderboards_dir: Path) -> Iterator[tuple[Row, FinishedRun]]:
    """The runs of one method, each put into its leaderboard; the method is built once at most."""
    from gtg_bench.benchmark.report import leaderboard
    from gtg_bench.benchmark.runs.lookup import FinishedRun
    from gtg_bench.benchmark.runs.runner import missing, processes_for

    sources: dict[MethodSettings, Source] = {}
    for request, plan in battery.runs:
        where = resolve_device(request.device, plan.entry) if missing(plan, request.runs_dir) else "cpu"
        placed = plan.on(where)
        placed = dataclasses.replace(placed, source=sources.setdefault(placed.settings, placed.source))
        result = with_progress(
            placed, dataclasses.replace(request, device=where), processes_for(plan, request.runs_dir)
        )
        report(result)
        yield (
            leaderboard.update(leaderboards_dir, result.spec, result.records),
            FinishedRun(result.spec, result.records),
        )
