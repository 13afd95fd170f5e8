"""`python -m gtg_bench`: the command line."""

from gtg_bench.benchmark.cli import app

app()
