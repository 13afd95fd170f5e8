"""`gtg-bench data ...`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gtg_bench.benchmark.api.text import csv_cell, number_of, printable
from gtg_bench.benchmark.cli.common import err, key_values, out, reports_errors

if TYPE_CHECKING:
    from rich.table import Table

    from gtg_bench.benchmark.api.types import Dataset
    from gtg_bench.benchmark.datasets.check import Report
    from gtg_bench.benchmark.datasets.mimic_cxr import Prepared

app = typer.Typer(no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The data set; see `gtg-bench data list`.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder with the data set's annotations and images.")]
DatasetOption = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the data set; see `data list`. Repeatable.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SHOWN = 20
_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@app.command("list")
@reports_errors
def list_(as_json: AsJson = False) -> None:
    """List the data sets with their splits, options, terms of use, published counts and file layouts."""
    from gtg_bench.benchmark.datasets import DATASETS, published_counts

    published = {name: published_counts(name) for name in DATASETS}
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
        about = {"splits": ", ".join(entry.splits), "options": entry.options, "terms": entry.terms}
        if counts := published[name]:
            about["published"] = ", ".join(f"{count:,} {what}" for what, count in counts.totals().items())
        out.print(f"[bold]{name}[/bold]: {escape(entry.summary)}", highlight=False, soft_wrap=True)
        files = ["  files:", *(f"    {line}" for line in entry.tree)] if entry.tree else []
        _print([f"  {key}: {text}" for key, text in about.items()] + files)


@app.command("check")
@reports_errors
def check(
    name: Name,
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every image instead of reading only its header.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as problems.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a data set before a run: files, rows, images, counts, overlap with training data.

    The exit code is 1 if there are problems.
    """
    from gtg_bench.benchmark.datasets.check import check as checked
    from gtg_bench.benchmark.report.terminal import counting

    with counting(err, "checking images", silent=as_json) as count:
        report = checked(name, data_root, key_values(dataset_option), deep, count)
    if as_json:
        typer.echo(json.dumps(report.as_json(strict), indent=1))
    else:
        _print_report(report)
    if not report.fine(strict):
        raise typer.Exit(1)


def _print_report(report: Report) -> None:
    from rich.table import Table

    table = Table(title=f"checks of {report.dataset} {report.version}".strip(), title_justify="left")
    for column in ("check", "result", "details"):
        table.add_column(column, overflow="fold")
    for line in report.checks():
        table.add_row(line.name, f"[{_COLOURS[line.state]}]{line.state}[/]", escape(line.text))
    if report.version:
        out.print(_counts_table(report))
    out.print(table)
    _print([f"{'warning' if problem.warning else 'error'}: {problem}" for problem in report.problems[:_SHOWN]])
    if len(report.problems) > _SHOWN:
        _print([f"... and {len(report.problems) - _SHOWN} more; --json shows all of them"])
    wrong = sum(not problem.warning for problem in report.problems)
    warnings = len(report.problems) - wrong
    usable = f"{report.counts['usable']} of {report.counts['pairs']} pairs can be used; " if report.version else ""
    _print([f"{usable}{number_of(wrong, 'problem')}, {number_of(warnings, 'warning')}"])


def _counts_table(report: Report) -> Table:
    """Pairs by category and split, beside the published counts."""
    from rich.table import Table

    table = Table(title="pairs by category, and totals", title_justify="left")
    splits = list(report.by_category)
    columns = [*splits, *(["total"] if len(splits) > 1 else []), *(["published"] if report.published else [])]
    for column in ("category", *columns):
        table.add_column(column, justify="left" if column == "category" else "right", overflow="fold")
    published = dict(report.published.pairs) if report.published else {}
    for category in sorted({**report.categories, **published}):
        cells = [str(report.by_category[split].get(category, 0)) for split in splits]
        cells += [str(report.categories.get(category, 0))] if len(splits) > 1 else []
        cells += [str(published.get(category, "-"))] if report.published else []
        table.add_row(escape(category), *cells)
    table.add_section()
    totals = report.published.totals() if report.published else {}
    for what in ("pairs", "boxes", "masks", "images", "patients"):
        cells = [str(report.splits[split][what]) for split in splits]
        cells += [str(report.counts[what])] if len(splits) > 1 else []
        table.add_row(f"[bold]{what}[/bold]", *cells, *([str(totals.get(what, "-"))] if report.published else []))
    return table


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        out.say(line)


@app.command("samples")
@reports_errors
def samples(
    name: Name,
    split: Annotated[list[str] | None, typer.Option(help="List only this split. Repeatable; default: all.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
) -> None:
    """List the samples with their ids, as records and the index of external maps name them, and phrases."""
    import csv
    import sys

    from gtg_bench.benchmark.datasets import open_dataset

    dataset = open_dataset(name, data_root, key_values(dataset_option))
    fields = ("sample_id", "image_id", "patient_id", "category", "phrase")
    rows = [
        {"split": part, **{field: getattr(sample, field) for field in fields}}
        for part in split or _splits(dataset)
        for sample in dataset.samples(part)
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, ("split", *fields), lineterminator="\n")
        writer.writeheader()
        safe = printable if sys.stdout.isatty() else str
        writer.writerows({name: csv_cell(safe(value)) for name, value in row.items()} for row in rows)
    else:
        _print([f"{row['sample_id']}  {row['category']}: {row['phrase']}" for row in rows])


def _splits(dataset: Dataset) -> list[str]:
    """The splits that together hold every sample once."""
    return [part for part in getattr(dataset, "splits", ("test",)) if part != "all"] or ["all"]


@app.command("export")
@reports_errors
def export(
    name: Name,
    to: Annotated[Path, typer.Option("--to", help="A new or empty folder.")],
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
    split: Annotated[list[str] | None, typer.Option(help="Export only this split. Repeatable; default: all.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Write a data set in the file layout of MS-CXR 1.1.0: images, COCO JSON, CSV."""
    from gtg_bench.benchmark.datasets import open_dataset
    from gtg_bench.benchmark.datasets.export import export_mscxr, image_files, phantom_image
    from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset, load_studies

    dataset = open_dataset(name, data_root, key_values(dataset_option))
    splits = split or _splits(dataset)
    if isinstance(dataset, PhantomDataset):
        images = [phantom_image(part, study) for part in splits for study in load_studies(dataset.seed, part)]
    else:
        images = image_files(dataset, splits)
    export_mscxr(images, to, overwrite=overwrite)
    written, known = sum(len(image.samples) for image in images), sum(len(dataset.samples(part)) for part in splits)
    _print([f"{len(images)} images with {written} of {known} samples written to {to}"])
    if written < known:
        lost, see = f"{known - written} samples cannot be used and were left out", f"gtg-bench data check {name}"
        err.print(f"warning: {lost}; see `{see}`", soft_wrap=True)


@app.command("prepare")
@reports_errors
def prepare(
    name: Annotated[str, typer.Argument(help="The training set: mimic-cxr (the others need no preparation).")],
    to: Annotated[Path, typer.Option("--out", help="The index to write, a Parquet file.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder of MIMIC-CXR-JPG: its tables and files/.")] = None,
    dataset_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="reports=DIR or ZIP, images=DIR. Repeatable.")
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first damaged row or file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Index a training set's frontal images with the text of their reports, and say why others are left out."""
    from gtg_bench.benchmark.api.errors import UsageError
    from gtg_bench.benchmark.datasets.mimic_cxr import NAME, prepare
    from gtg_bench.benchmark.report.terminal import counting

    if name != NAME:
        raise UsageError(f"only {NAME} needs to be prepared; {name!r} is read as it is")
    if data_root is None or not data_root.is_dir():
        missing = f"; folder {data_root} not found" if data_root else ""
        raise UsageError(f"{NAME} needs --data-root DIR, the folder of MIMIC-CXR-JPG{missing}")
    with counting(err, "reading reports", silent=as_json) as count:
        made = prepare(data_root, key_values(dataset_option), to, count, fail_fast)
    if as_json:
        typer.echo(json.dumps(made.as_json(), indent=1))
    else:
        _print_prepared(made)


def _print_prepared(made: Prepared) -> None:
    from rich.table import Table

    table = Table(title=escape(f"{made.index}: {sum(made.kept.values())} of {made.rows} images"), title_justify="left")
    for column in ("", "", "images"):
        table.add_column(column, justify="right" if column else "left", overflow="fold")
    counts = made.counts()
    groups = {"kept, by split": "kept", "kept, by section": "sections", "kept, by view": "views"}
    for heading, group in {**groups, "left out": "dropped", "left out, by view": "other_views"}.items():
        for number, (what, count) in enumerate(counts[group].items()):
            table.add_row("" if number else heading, escape(what), f"{count:,}")
    out.print(table)
    more = len(made.problems) - _SHOWN
    _print([f"warning: {problem}" for problem in made.problems[:_SHOWN]])
    _print([f"... and {more} more; --json shows all of them"] if more > 0 else [])


@app.command("priors")
@reports_errors
def priors(
    name: Name,
    data_root: DataRoot = None,
    dataset_option: DatasetOption = None,
    split: Annotated[
        str | None, typer.Option(help="Split to fit on, never one that is evaluated; default: train.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--to", help="Write NAME.npz into this folder.")] = None,
    file: Annotated[Path | None, typer.Option("--out", help="Write this .npz file; default: in the cache.")] = None,
) -> None:
    """Fit the table that class-prior, phrase-prior and difference use, on a training split."""
    from gtg_bench.benchmark.api.errors import UsageError
    from gtg_bench.benchmark.datasets import DATASETS, open_dataset
    from gtg_bench.benchmark.paths import check_writable
    from gtg_bench.benchmark.report.terminal import counting
    from gtg_bench.training.priors import fit_user_table, training_split, users_table

    if folder and file:
        raise UsageError("--to names a folder and --out a file; give only one of them")
    if file and file.suffix != ".npz":
        raise UsageError(f"--out {file}: the file name must end in .npz")
    dataset = open_dataset(name, data_root, key_values(dataset_option))
    chosen = training_split(name, getattr(dataset, "splits", DATASETS[name].splits), split)
    path = file or (folder / f"{name}.npz" if folder else users_table(name))
    check_writable(path)
    with counting(err, "reading images") as count:
        made = fit_user_table(dataset, chosen, path, count)
    _print([f"warning: {reason}" for reason in made.unread[:_SHOWN]])
    if len(made.unread) > _SHOWN:
        _print([f"... and {len(made.unread) - _SHOWN} more images that cannot be read"])
    methods = f"class-prior, phrase-prior and difference will use it on {name}"
    use = f"use it with --weights {shlex.quote(str(path))}" if file or folder else methods
    _print([f"{made.keys} maps of {made.phrases} phrases, mean of {made.images} images: {path}", use])
