"""`gtg-bench data ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import key_values, out, reports_errors

app = typer.Typer(no_args_is_help=True)


@app.command("export")
@reports_errors
def export(
    name: Annotated[str, typer.Argument(help="The data set; so far: phantom.")],
    to: Annotated[Path, typer.Option("--to", help="A new or empty folder.")],
    dataset_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; repeatable. Default: all.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Write into a folder that is not empty.")] = False,
) -> None:
    """Write a data set in the file layout of MS-CXR 1.1.0: PNG images, COCO JSON, CSV."""
    from gtg_bench.benchmark.datasets.export import export_mscxr
    from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset, load_studies
    from gtg_bench.benchmark.datasets.phantom.world import SPLITS

    if name != "phantom":
        raise UsageError(f"only phantom can be exported so far, not {name!r}")
    seed = PhantomDataset(options=key_values(dataset_option)).seed
    studies = {part: load_studies(seed, part) for part in (split or SPLITS)}
    export_mscxr(studies, to, overwrite=overwrite)
    out.print(f"{sum(map(len, studies.values()))} images written to {to}", soft_wrap=True)
