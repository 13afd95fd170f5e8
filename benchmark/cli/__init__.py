"""The command line, `gtg-bench`: parsing only; every command imports what it needs when it runs."""

from __future__ import annotations

import typer

from gtg_bench.benchmark.cli import (
    audit,
    bench,
    compare,
    data,
    doctor,
    figure,
    generate,
    ground,
    listing,
    plot,
    quality,
    report,
    run,
    runs,
    score,
    show,
    subgroups,
    suite,
    table,
    train,
    weights,
    zoo,
)

app = typer.Typer(
    name="gtg-bench",
    help="Which phrase-grounding method is better, by how much, and can that number be trusted?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", help=run.HELP)(run.run)
app.command("suite", help=suite.HELP)(suite.suite)
app.command("ground", help=ground.HELP)(ground.ground)
app.command("list", help=listing.HELP)(listing.list_)
app.command("bench", help=bench.HELP)(bench.bench)
app.command("doctor", help=doctor.HELP)(doctor.doctor)
app.command("compare", help=compare.HELP)(compare.compare)
app.command("audit", help=audit.HELP)(audit.audit)
app.command("subgroups", help=subgroups.HELP)(subgroups.subgroups)
app.command("strata", hidden=True)(subgroups.subgroups)
app.command("report", help=report.HELP)(report.report)
app.command("score", help=score.HELP)(score.score)
app.command("table", help=table.HELP)(table.table)
app.command("plot", help=plot.HELP)(plot.plot)
app.command("quality", help=quality.HELP)(quality.quality)
app.command("figure", help=figure.HELP)(figure.figure)
app.command("train", help=train.HELP)(train.train)
app.command("zoo", help=zoo.HELP)(zoo.zoo)
app.command("generate", help=generate.HELP)(generate.generate)
data.app.command("show", help=show.HELP)(show.show)
app.add_typer(data.app, name="data", help="Work with data sets.")
app.add_typer(runs.app, name="runs", help="List, show, merge and delete stored runs.")
app.add_typer(weights.app, name="weights", help="List, check and locate model weights.")
