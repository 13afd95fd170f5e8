"""`gtg-bench data ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import key_values, out, reports_errors

app = typer.Typer(no_args_is_help=True)


@app.command("show")
@reports_errors
def show(
    name: Annotated[str, typer.Argument(help="See `gtg-bench list datasets`.")] = "phantom",
    to: Annotated[Path, typer.Option("--out", help="The picture to write.")] = Path("sheet.png"),
    split: Annotated[str, typer.Option(help="Which samples.")] = "test",
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 16,
    run: Annotated[Path | None, typer.Option(help="The folder of a run: draw its maps.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder with the data set's annotations and images.")] = None,
    dataset_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
) -> None:
    """Draw a sheet of images with phrases and boxes, and with the maps of a run."""
    from gtg_bench.benchmark.datasets import open_dataset
    from gtg_bench.benchmark.mapstore import MapStore
    from gtg_bench.benchmark.overlay import Tile, draw_sheet

    dataset = open_dataset(name, data_root, key_values(dataset_option))
    samples = dataset.samples(split)[:limit]
    maps = MapStore(run) if run else None
    tiles = [Tile(dataset.image(s), s.phrase, s.boxes, maps.load(s.sample_id) if maps else None) for s in samples]
    draw_sheet(tiles, to)
    out.print(f"{len(tiles)} samples: {to}", soft_wrap=True)


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
