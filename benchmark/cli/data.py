"""`gtg-bench data ...`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from gtg_bench.benchmark.cli.common import err, key_values, out, reports_errors

app = typer.Typer(no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
_SHOWN = 20
_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@app.command("list")
@reports_errors
def list_(as_json: AsJson = False) -> None:
    """List the data sets: their splits, options, published counts, terms, and which tree of files each accepts."""
    from gtg_bench.benchmark.api.registry import load_object
    from gtg_bench.benchmark.datasets import DATASETS

    published = {name: load_object(entry.published) if entry.published else None for name, entry in DATASETS.items()}
    if as_json:
        rows = [
            {"name": name, "summary": entry.summary, "splits": list(entry.splits), "options": entry.options}
            | {"needs_data_root": entry.needs_data_root, "terms": entry.terms, "tree": list(entry.tree)}
            | {"published": (counts := published[name]) and counts.as_json()}
            for name, entry in DATASETS.items()
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    for name, entry in DATASETS.items():
        counts = published[name]
        about = {"splits": " ".join(entry.splits), "options": entry.options, "terms": entry.terms}
        if counts:
            about["published"] = ", ".join(f"{count:,} {what}" for what, count in counts.totals().items())
        out.print(f"[bold]{name}[/bold]: {escape(entry.summary)}", highlight=False, soft_wrap=True)
        _lines([f"  {key}: {text}" for key, text in about.items()] + [f"    {line}" for line in entry.tree])


@app.command("check")
@reports_errors
def check(
    name: Annotated[str, typer.Argument(help="See `gtg-bench data list`.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder with the data set's annotations and images.")] = None,
    dataset_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every image, not only its header.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as wrong, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a data set before a run does. Exit code 1: something is wrong."""
    from rich.progress import Progress

    from gtg_bench.benchmark.datasets.check import check as checked

    with Progress(console=err, transient=True, disable=as_json) as bar:
        task = bar.add_task("looking at images", total=None)
        options = key_values(dataset_option)
        report = checked(name, data_root, options, deep, lambda k, n: bar.update(task, completed=k, total=n))
    if as_json:
        typer.echo(json.dumps(report.as_json(strict), indent=1))
    else:
        _print_report(report)
    if not report.fine(strict):
        raise typer.Exit(1)


def _print_report(report: Any) -> None:
    from rich.table import Table

    table = Table(title=f"{report.dataset} {report.version}".strip(), title_justify="left")
    for column in ("check", "result", "what"):
        table.add_column(column, overflow="fold")
    for line in report.checks():
        table.add_row(line.name, f"[{_COLOURS[line.state]}]{line.state}[/]", escape(line.text))
    if report.version:
        out.print(_counts_table(report))
    out.print(table)
    for problem in report.problems[:_SHOWN]:
        _lines([f"{'warning' if problem.warning else 'error'}: {problem}"])
    if len(report.problems) > _SHOWN:
        _lines([f"... and {len(report.problems) - _SHOWN} more; --json has all of them"])
    wrong = sum(not problem.warning for problem in report.problems)
    warnings = len(report.problems) - wrong
    usable = f"{report.counts['usable']} of {report.counts['pairs']} pairs can be used; " if report.version else ""
    _lines([f"{usable}{wrong} problem{'s' * (wrong != 1)}, {warnings} warning{'s' * (warnings != 1)}"])


def _counts_table(report: Any) -> Any:
    """Pairs by category and split, beside what was published."""
    from rich.table import Table

    table = Table(title="pairs", title_justify="left")
    splits = list(report.by_category)
    columns = [*splits, *(["in all"] if len(splits) > 1 else []), *(["published"] if report.published else [])]
    for column in ("category", *columns):
        table.add_column(column, justify="left" if column == "category" else "right", overflow="fold")
    published = dict(report.published.pairs) if report.published else {}
    for category in sorted({**report.categories, **published}):
        cells = [str(report.by_category[split].get(category, 0)) for split in splits]
        cells += [str(report.categories.get(category, 0))] if len(splits) > 1 else []
        cells += [str(published.get(category, "-"))] if report.published else []
        table.add_row(escape(category), *cells)
    for what in ("pairs", "boxes", "masks", "images", "patients"):
        cells = [str(report.splits[split][what]) for split in splits]
        cells += [str(report.counts[what])] if len(splits) > 1 else []
        totals = report.published.totals() if report.published else {}
        table.add_row(f"[bold]{what}[/bold]", *cells, *([str(totals.get(what, "-"))] if report.published else []))
    return table


def _lines(texts: list[str]) -> None:
    for text in texts:
        out.print(escape(text), soft_wrap=True, highlight=False)


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
    from gtg_bench.benchmark.report.overlay import Tile, draw_sheet
    from gtg_bench.benchmark.runs.map_store import MapStore

    dataset = open_dataset(name, data_root, key_values(dataset_option))
    samples = dataset.samples(split)[:limit]
    maps = MapStore(run) if run else None
    found = [maps.load(s.sample_id) if maps else None for s in samples]
    tiles = [Tile(dataset.image(s), s.phrase, s.boxes, m, s.mask) for s, m in zip(samples, found, strict=True)]
    draw_sheet(tiles, to)
    out.print(f"{len(tiles)} samples: {to}", soft_wrap=True)


@app.command("export")
@reports_errors
def export(
    name: Annotated[str, typer.Argument(help="See `gtg-bench data list`.")],
    to: Annotated[Path, typer.Option("--to", help="A new or empty folder.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder with the data set's annotations and images.")] = None,
    dataset_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; repeatable. Default: all.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Write into a folder that is not empty.")] = False,
) -> None:
    """Write a data set in the file layout of MS-CXR 1.1.0: images, COCO JSON, CSV."""
    from gtg_bench.benchmark.datasets import open_dataset
    from gtg_bench.benchmark.datasets.export import export_mscxr, of_dataset, of_study
    from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset, load_studies
    from gtg_bench.benchmark.datasets.phantom.world import SPLITS

    dataset = open_dataset(name, data_root, key_values(dataset_option))
    if isinstance(dataset, PhantomDataset):
        images = [of_study(part, study) for part in (split or SPLITS) for study in load_studies(dataset.seed, part)]
    else:
        own = [part for part in getattr(dataset, "splits", ("test",)) if part != "all"]
        images = of_dataset(dataset, split or own or ["all"])
    export_mscxr(images, to, overwrite=overwrite)
    out.print(f"{len(images)} images written to {to}", soft_wrap=True)


@app.command("prepare")
@reports_errors
def prepare(
    name: Annotated[str, typer.Argument(help="The training set: mimic-cxr (the others need no preparation).")],
    to: Annotated[Path, typer.Option("--out", help="The index to write, a Parquet file.")],
    data_root: Annotated[Path | None, typer.Option(help="MIMIC-CXR-JPG's folder: its tables and files/.")] = None,
    dataset_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="reports=DIR or ZIP, images=DIR; repeatable.")
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first damaged row or file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the index of a training set: frontal images with the text of their report; say why others are left out."""
    from rich.progress import Progress

    from gtg_bench.benchmark.api.errors import UsageError
    from gtg_bench.benchmark.datasets.mimic_cxr import NAME, prepare

    if name != NAME:
        raise UsageError(f"only {NAME} is prepared, not {name!r}: other sets are read as they are")
    if data_root is None or not data_root.is_dir():
        raise UsageError(f"{NAME} needs --data-root DIR, the folder of MIMIC-CXR-JPG; {data_root} is none")
    with Progress(console=err, transient=True, disable=as_json) as bar:
        task = bar.add_task("reading reports", total=None)
        options = key_values(dataset_option)
        made = prepare(data_root, options, to, lambda k, n: bar.update(task, completed=k, total=n), fail_fast)
    if as_json:
        typer.echo(json.dumps(made.as_json(), indent=1))
    else:
        _print_prepared(made)


def _print_prepared(made: Any) -> None:
    from rich.table import Table

    table = Table(title=f"{made.index}: {sum(made.kept.values())} of {made.rows} images", title_justify="left")
    for column in ("", "", "images"):
        table.add_column(column, justify="right" if column else "left", overflow="fold")
    counts = made.counts()
    groups = {"kept, split": "kept", "kept, text from": "sections", "kept, view": "views", "left out": "dropped"}
    for heading, group in {**groups, "no frontal view": "other_views"}.items():
        for number, (what, count) in enumerate(counts[group].items()):
            table.add_row("" if number else heading, escape(what), f"{count:,}")
    out.print(table)
    wrong = [f"warning: {problem}" for problem in made.problems[:_SHOWN]]
    more = len(made.problems) - _SHOWN
    _lines(wrong + [f"... and {more} more; --json has them"] * (more > 0))


@app.command("priors")
@reports_errors
def priors(
    name: Annotated[str, typer.Argument(help="See `gtg-bench data list`.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder with the data set's annotations and images.")] = None,
    dataset_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    split: Annotated[str | None, typer.Option(help="What to fit on; default: train. Never what is evaluated.")] = None,
    folder: Annotated[Path | None, typer.Option("--to", help="Write NAME.npz into this folder.")] = None,
    file: Annotated[Path | None, typer.Option("--out", help="Write this file; default: the cache.")] = None,
) -> None:
    """Fit the table of class-prior, phrase-prior and difference on a training split."""
    from rich.progress import Progress

    from gtg_bench.benchmark.api.errors import UsageError
    from gtg_bench.benchmark.datasets import DATASETS, open_dataset
    from gtg_bench.training.priors import fit_user_table, training_split, users_table

    if folder and file:
        raise UsageError("--to names a folder and --out a file: give one of them")
    if file and file.suffix != ".npz":
        raise UsageError(f"--out {file}: a table's name ends in .npz")
    dataset = open_dataset(name, data_root, key_values(dataset_option))
    chosen = training_split(name, getattr(dataset, "splits", DATASETS[name].splits), split)
    path = file or (folder / f"{name}.npz" if folder else users_table(name))
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("reading images", total=None)
        made = fit_user_table(dataset, chosen, path, lambda k, n: bar.update(task, completed=k, total=n))
    _lines([f"warning: {reason}" for reason in made.unread[:_SHOWN]])
    if len(made.unread) > _SHOWN:
        _lines([f"... and {len(made.unread) - _SHOWN} more images that cannot be read"])
    methods = f"class-prior, phrase-prior and difference on {name} use it"
    use = f"use it with: gtg-bench run -m class-prior --weights {path} ..." if file or folder else methods
    _lines([f"{made.keys} maps of {made.phrases} phrases, mean of {made.images} images: {path}", use])
