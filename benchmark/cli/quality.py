"""`gtg-bench quality`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.cli.common import (
    AsJson,
    DataRoot,
    DatasetOption,
    Device,
    LeaderboardsDir,
    choice,
    err,
    key_values,
    out,
    reports_errors,
)
from gtg_bench.benchmark.quality.results import PROFILES

HELP = "Measure generated images: FID, KID, precision, recall, diversity and copies, beside real images."


@reports_errors
def quality(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of `gtg-bench generate`, or of any PNG, JPEG or DICOM files."),
    ],
    real: Annotated[str, typer.Option(metavar="DATASET|DIR", help="Real images: a data set or a folder.")],
    features: Annotated[
        str,
        typer.Option(
            metavar="[inception|xrv|phantom|FILE]",
            help="Network whose features are compared; FILE: TorchScript, uint8 [B, 3, S, S] to [B, D].",
        ),
    ] = "inception",
    weights: Annotated[
        Path | None, typer.Option("--feature-weights", help="Weights of inception or xrv. (default: in the cache)")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the real data set.")] = "test",
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
    training: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT|DIR",
            help="Check for copies of these training images: a split of the real data set, or a folder.",
        ),
    ] = None,
    by_category: Annotated[bool, typer.Option("--by-category", help="Also one row for each finding.")] = False,
    limit: Annotated[int | None, typer.Option(min=2, help="Use at most N images on each side.")] = None,
    profile: Annotated[
        str, choice(PROFILES, "--profile", help="Equal numbers and a floor, or the paper's released definitions.")
    ] = "paired",
    seed: Annotated[int, typer.Option(help="Random seed of the halves and subsets.")] = 0,
    device: Device = "auto",
    leaderboards_dir: LeaderboardsDir = Path("leaderboards"),
    as_json: AsJson = False,
) -> None:
    """Measure generated images."""
    from gtg_bench.benchmark.quality.images import read_folder, read_pictures
    from gtg_bench.benchmark.quality.measure import measure
    from gtg_bench.benchmark.quality.networks import find_network
    from gtg_bench.benchmark.report.quality_board import rows_of, update
    from gtg_bench.benchmark.report.tables.quality_table import quality_document
    from gtg_bench.benchmark.report.tables.render import show
    from gtg_bench.benchmark.report.terminal import counting
    from gtg_bench.benchmark.runs.sources import resolve_device

    if profile == "released" and (by_category or training or limit):
        raise UsageError("--profile released takes neither --by-category, --training nor --limit")
    if training is not None and not Path(training).is_dir() and Path(real).is_dir():
        raise UsageError(f"--training {training} is not a folder; a split needs a data set in --real")
    options = key_values(dataset_option)
    sets = [read_folder(folder) for folder in folders]
    images = read_pictures(real, data_root, options, split)
    trained = None
    if training is not None:
        place = (training, None, {}, "") if Path(training).is_dir() else (real, data_root, options, training)
        trained = read_pictures(*place)
    network = find_network(features, weights, resolve_device(device, METHODS.get("biovil")))
    with counting(err, "images", silent=as_json) as count:
        found = measure(sets, images, network, trained, profile, by_category, limit, seed, count)
    path = update(leaderboards_dir, rows_of(found))
    if as_json:
        typer.echo(json.dumps({"rows": rows_of(found), "notes": list(found.notes)}, indent=1))
        return
    show(quality_document(found), out)
    out.say(f"\nWritten: {path}")
