"""Kept while branches are merged."""

from gtg_bench.benchmark.api.settings import *  # noqa: F403
