"""`gtg-bench bench`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from gtg_bench.benchmark.api.choices import SAMPLINGS
from gtg_bench.benchmark.cli.common import (
    Bbm,
    Device,
    LastSteps,
    Layers,
    Plugins,
    PrecisionChoice,
    Sampling,
    Weights,
    err,
    load_plugins,
    out,
    reports_errors,
    resolve_device,
)

HELP = "Measure what methods and sampling modes cost here, and what of it is the harness's own."
Row = dict[str, Any]


class Architecture(StrEnum):
    """Published architectures that can be measured with random weights."""

    sd15 = "sd15"


@reports_errors
def bench(
    method: Annotated[list[str] | None, typer.Option("--method", "-m", help="Repeatable.")] = None,
    sampling: Annotated[list[Sampling] | None, typer.Option(help="Repeatable; default: all four modes.")] = None,
    architecture: Annotated[
        Architecture | None, typer.Option(help="Measure this size with random weights instead of the method's own.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=64, help="Samples at a time; default: 8, of an architecture 1.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="The median of so many counts.")] = 5,
    steps: Annotated[int | None, typer.Option(help="DDIM steps; default: the card, of an architecture 2.")] = None,
    last_steps: LastSteps = None,
    layers: Layers = None,
    bbm: Bbm = None,
    precision: PrecisionChoice = None,
    weights: Weights = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    plugin: Plugins = None,
) -> None:
    """Measure methods."""
    from gtg_bench.benchmark.api.registry import METHODS
    from gtg_bench.benchmark.api.types import MethodSettings
    from gtg_bench.benchmark.runs.bench import bench as measured

    load_plugins(plugin)
    batch = batch_size or (1 if architecture else 8)
    rows: list[Row] = []
    for name in method or ["cxrbert-ldm"]:
        entry = METHODS.get(name)
        modes: list[str | None] = [*(sampling or SAMPLINGS)] if entry.samplings else [None]
        for mode in modes:
            wanted = MethodSettings(
                method=name,
                weights=weights,
                sampling=mode,
                steps=steps or (2 if architecture else None),
                last_steps=last_steps,
                layers=layers or ("all" if architecture else None),
                bbm=bbm,
                precision=precision,
                dataset="phantom",
                device=resolve_device(device, entry),
            )
            err.print(f"measuring {name} {mode or ''} ...")
            rows.append(measured(entry, entry.completed(wanted), batch, repeats, architecture))
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _print(rows)


def _print(rows: list[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=f"Milliseconds per sample, {rows[0]['batch_size']} at a time on {rows[0]['device']}",
        caption="bare: the same U-Net forwards without capture; ratio: median of paired measurements;\n"
        "memory: peak over the bare forwards' own, and its share of what keeping all maps would take.",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    for heading in ("method", "U-Net", "bare", "ratio", "image", "text", "scores", "an hour", "memory"):
        table.add_column(heading, justify="left" if heading == "method" else "right", overflow="fold")
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
        share = row["peak_bytes_over_model"] / row["all_maps_bytes"]
        memory = f"{row['peak_bytes_over_model'] / 2**20:.1f} MiB {100 * share:.1f} %"
    return [name, ours, bare, ratio, image, text, scores, f"{row['samples_per_hour']:,.0f}", memory]
