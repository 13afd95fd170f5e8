"""`gtg-bench audit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import (
    AsJson,
    BatchSize,
    Device,
    Limit,
    Plugins,
    ProtocolOption,
    RunsDir,
    choice,
    err,
    load_plugins,
    out,
    reports_errors,
)
from gtg_bench.benchmark.cli.groups import DataOptions, takes_settings
from gtg_bench.benchmark.cli.results import with_progress

if TYPE_CHECKING:
    from gtg_bench.benchmark.runs.request import RunRequest, RunResult
    from gtg_bench.benchmark.runs.runner import PreparedRun

HELP = "Ask whether a method grounds or only looks as if: eight questions, each with figures and a verdict."


@reports_errors
@takes_settings
def audit(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Method, or key or name of a stored run.")],
    settings: dict[str, Any],
    data: DataOptions = DataOptions(),
    limit: Limit = None,
    protocol: ProtocolOption = "gtg",
    question: Annotated[list[int] | None, typer.Option(help="Ask only this question, 1 to 8; repeatable.")] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help="Also compare with this method at matched smoothing; repeatable."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Largest difference in the primary metric that does not matter: question 1 also tests whether the "
            "method is equivalent to a prior."
        ),
    ] = None,
    repeat: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Run of the same method from another training, for a CI over trainings."),
    ] = None,
    format: Annotated[str | None, choice(["markdown"], "--format", help="Print Markdown, with every figure.")] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Write the page as .md or .json.")] = None,
    batch_size: BatchSize = 16,
    device: Device = "auto",
    runs_dir: RunsDir = Path("runs"),
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Audit a method."""
    from gtg_bench.benchmark.analysis.audit.audit import QUESTIONS, make
    from gtg_bench.benchmark.analysis.audit.stored import keep
    from gtg_bench.benchmark.analysis.audit.subject import find_subject
    from gtg_bench.benchmark.paths import write_text
    from gtg_bench.benchmark.report.tables.audit_page import show, to_markdown
    from gtg_bench.benchmark.runs.lookup import find_run
    from gtg_bench.benchmark.runs.request import RunRequest

    if wrong := [number for number in question or () if not 1 <= number <= len(QUESTIONS)]:
        raise UsageError(f"--question {wrong[0]}: the questions are 1 to {len(QUESTIONS)}")
    if to is not None and to.suffix not in (".md", ".json"):
        raise UsageError(f"--out {to}: give a name that ends in .md or .json")
    if margin is not None and not 0 < margin < float("inf"):
        raise UsageError(f"--margin {margin:g} must be a positive number")
    load_plugins(plugin)
    request = RunRequest.of(
        method,
        **settings,
        device=device,
        **data.request,
        limit=limit,
        protocol=protocol,
        batch_size=batch_size,
        runs_dir=runs_dir,
    )
    subject = find_subject(request, _execute)
    subject.repeats = tuple(find_run(runs_dir, name) for name in repeat or ())
    page = make(subject, question, against or (), margin)
    keep(runs_dir, subject.plain.run.spec, page)
    texts = {".json": json.dumps(page.as_json(), indent=1), ".md": to_markdown(page)}
    if to is not None:
        write_text(to, texts[to.suffix] + "\n")
        err.say(f"wrote {to}")
    if as_json:
        typer.echo(texts[".json"])
    elif format:
        typer.echo(texts[".md"])
    else:
        show(page, out)


def _execute(prepared: PreparedRun, request: RunRequest, purpose: str) -> RunResult:
    return with_progress(prepared, request, f", {purpose}" if purpose else "")
