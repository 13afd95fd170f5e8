"""`gtg-bench bench`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtg_bench.benchmark.cli.common import (
    AsJson,
    Device,
    Plugins,
    Workers,
    choice,
    err,
    load_plugins,
    out,
    reports_errors,
)
from gtg_bench.benchmark.cli.groups import takes_settings
from gtg_bench.benchmark.cli.results import LeftOut

if TYPE_CHECKING:
    from gtg_bench.benchmark.api.registry import MethodEntry
    from gtg_bench.benchmark.api.settings import MethodSettings
    from gtg_bench.benchmark.api.types import Method

HELP = "Measure the time and memory of methods and sampling modes on this machine."
Row = dict[str, Any]


@reports_errors
@takes_settings
def bench(
    settings: dict[str, Any],
    method: Annotated[list[str] | None, typer.Option("--method", "-m", help="Method to measure; repeatable.")] = None,
    architecture: Annotated[
        str | None, choice(["sd15"], "--architecture", help="Measure this architecture with random weights instead.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=64, help="Samples per batch. (default: 8, or 1 with --architecture)")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Report the median of N measurements.")] = 5,
    files: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Time N generated JPEG files of 2,544 x 3,056 pixels instead, against the same images in memory.",
        ),
    ] = None,
    workers: Workers = 2,
    device: Device = "auto",
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Measure methods."""
    from gtg_bench.benchmark.api.registry import METHODS
    from gtg_bench.benchmark.api.settings import MethodSettings
    from gtg_bench.benchmark.runs.bench import bench as measured
    from gtg_bench.benchmark.runs.sources import resolve_device

    load_plugins(plugin)
    batch = batch_size or (1 if architecture else 8)
    if architecture:
        settings = {"steps": 2, "layers": "all", **settings}
    entries = [METHODS.get(name) for name in dict.fromkeys(method or ["cxrbert-ldm"])]
    devices = [resolve_device(device, entry) for entry in entries]
    rows: list[Row] = []
    left_out = LeftOut(len(entries))
    for entry, place in zip(entries, devices, strict=True):
        with left_out.keep_going(entry.name):
            for mode in entry.samplings or [None] if "sampling" not in settings else [settings["sampling"]]:
                wanted = {**settings, "sampling": mode}
                complete = entry.completed(MethodSettings(entry.name, **wanted, dataset="phantom", device=place))
                err.print(f"measuring {' '.join(filter(None, [entry.name, mode]))} ...", markup=False)
                if files:
                    rows.append(_with_files(entry, complete, files, batch, workers, as_json))
                    continue
                built = _random(architecture, complete) if architecture else entry.built(complete)
                rows.append(measured(built, complete, batch, repeats, architecture))
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif rows and not files:
        _print(rows)
    left_out.finish()


def _with_files(
    entry: MethodEntry, settings: MethodSettings, files: int, batch: int, workers: int, as_json: bool
) -> Row:
    """Measure, and print, what it costs to read the images from files."""
    from gtg_bench.benchmark.runs.bench_files import files_cost

    cost = files_cost(entry, settings, files, batch, workers)
    name = " ".join(filter(None, [entry.name, settings.sampling]))
    if not as_json:
        text = f"{cost.seconds:.1f} s with {workers} workers, {cost.in_memory_seconds:.1f} s in memory"
        out.say(f"{name}: {files} files in {text}: ratio {cost.ratio:.3f}")
    return {"method": entry.name, "sampling": settings.sampling, **asdict(cost), "ratio": cost.ratio}


def _random(architecture: str, settings: MethodSettings) -> Method:
    """A method with a published architecture and random weights."""
    from gtg_bench.methods.ldm import architectures

    return {"sd15": architectures.stable_diffusion_15}[architecture](settings)


def _print(rows: list[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=f"Milliseconds per sample, {rows[0]['batch_size']} at a time on {rows[0]['device']}",
        caption="bare: the same U-Net forward passes, whole and without capture; ratio: U-Net / bare,\n"
        "median of paired measurements (below 1: stopped after the last captured layer);\n"
        "memory: peak beyond the bare passes (negative: less), relative to keeping all maps",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
    )
    table.add_column("method", min_width=18, overflow="fold")
    for heading in ("U-Net", "bare", "ratio", "image", "text", "scores", "per hour", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    out.print(table)


def _cells(row: Row) -> list[str]:
    bbm = f"bbm {row['bbm']}" if row["bbm"] not in (None, "none") else None
    steps = f"{row['steps']} steps" if row["steps"] else None
    name = " ".join(filter(None, [row["method"], row["sampling"], bbm, steps]))
    parts = [row.get(f"{part}seconds_per_sample") for part in ("", "bare_", "image_", "text_", "metrics_")]
    ours, bare, image, text, scores = ("-" if part is None else f"{1000 * part:.1f}" for part in parts)
    ratio = f"{row['ratio']:.3f}" if "ratio" in row else "-"
    memory = "-"
    if "peak_bytes_over_model" in row:
        memory = f"{100 * row['peak_bytes_over_model'] / row['all_maps_bytes']:.1f} %"
    return [name, ours, bare, ratio, image, text, scores, f"{row['samples_per_hour']:,.0f}", memory]
