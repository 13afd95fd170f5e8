"""`gtg-bench run`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.cli.common import (
    Bbm,
    Control,
    Device,
    FrameKind,
    Guidance,
    LastSteps,
    LatentChoice,
    Layers,
    Plugins,
    PrecisionChoice,
    ProfileChoice,
    Sampling,
    Steps,
    Tokens,
    Uncovered,
    Weights,
    err,
    key_values,
    load_plugins,
    out,
    reports_errors,
    resolve_device,
)

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
    frame: Annotated[
        FrameKind,
        typer.Option(help="Where maps and regions are compared: the paper's crop, or the image's own pixels."),
    ] = FrameKind("crop512"),
    uncovered: Annotated[
        Uncovered, typer.Option(help="Pixels that a method does not cover: the map's lowest value, or not counted.")
    ] = Uncovered("lowest"),
    control: Annotated[Control, typer.Option(help="Change one thing on purpose.")] = Control("none"),
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first sample that fails.")] = False,
    seed: Annotated[int, typer.Option(help="Of all noise.")] = 4200,
    batch_size: Annotated[int, typer.Option(help="Samples at a time; changes no result.")] = 16,
    device: Device = "auto",
    weights: Weights = None,
    runs_dir: Annotated[Path, typer.Option(help="Where records and maps are kept.")] = Path("runs"),
    leaderboards_dir: Annotated[Path, typer.Option(help="Where the CSV files are.")] = Path("leaderboards"),
    plugin: Plugins = None,
) -> None:
    """Run methods over a data set."""
    from gtg_bench.benchmark import leaderboard
    from gtg_bench.benchmark.runner import PreparedRun, RunRequest, prepare

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
            strict=strict,
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
            frame=frame,
            uncovered=uncovered,
            seed=seed,
            batch_size=batch_size,
            device=device,
            runs_dir=runs_dir,
        )
        for name in dict.fromkeys(method)
    ]
    prepared: list[PreparedRun] = [prepare(request) for request in requests]
    rows = []
    for plan, request in zip(prepared, requests, strict=True):
        chosen = dataclasses.replace(request, device=resolve_device(device, plan.entry))
        plan = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, device=chosen.device))
        result = _with_progress(plan, chosen)
        rows.append(leaderboard.update(leaderboards_dir, result.spec, result.records))
        _report(result)
    _show(leaderboards_dir, rows)
    if any(row["n_ok"] == "0" for row in rows):
        raise typer.Exit(1)


def _with_progress(plan, request):  # type: ignore[no-untyped-def]
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from gtg_bench.benchmark.runner import run as execute

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=False) as bar:
        task = bar.add_task(f"{request.method} on {request.dataset}", total=len(plan.trials))
        return execute(plan, request, lambda done, total: bar.update(task, completed=done, total=total))


def _report(result) -> None:  # type: ignore[no-untyped-def]
    known = len(result.records) - result.computed
    note = f" ({known} of {len(result.records)} were there already)" if known else ""
    err.print(f"{result.spec.method}: {result.seconds:.1f} s{note}; records in {result.folder}", soft_wrap=True)
    bad = [record for record in result.records if record.status == "failed"]
    if bad:
        err.print(f"[yellow]warning:[/yellow] {len(bad)} of {len(result.records)} samples failed, the first ones:")
        for record in bad[:3]:
            err.print(f"  {record.sample_id}: {record.error}", soft_wrap=True, markup=False)


def _show(folder: Path, rows: list[dict[str, str]]) -> None:
    from gtg_bench.benchmark import leaderboard
    from gtg_bench.benchmark.api.registry import METHODS
    from gtg_bench.benchmark.tables import comparison

    priors = [entry.name for entry in METHODS.entries() if entry.card.kind in ("prior", "baseline")]
    out.print(comparison(leaderboard.beside(folder, rows[0]), rows, priors))
    if any(row["weights"] == "phantom" for row in rows):
        out.print("Weights `phantom` were trained on the phantom alone: not a published model, not a diagnostic tool.")
    out.print(f"Leaderboard: {folder / (rows[0]['dataset'] + '.csv')}", soft_wrap=True)
