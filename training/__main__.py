"""`accelerate launch -m gtg_bench.training --variant cxrbert-ldm --recipe paper ...`: see `gtg-bench train --help`."""

from __future__ import annotations

import typer

from gtg_bench.benchmark.cli.train import HELP, train

if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=HELP)(train)
    app()
