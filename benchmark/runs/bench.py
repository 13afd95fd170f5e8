"""Cost of a method per sample, for planning runs. Every ratio is a median over paired measurements."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from threadpoolctl import ThreadpoolController

from gtg_bench.benchmark.api.types import Method, MethodSettings, Query, seed_for
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.runs.sources import ground_all
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.scoring.score_map import score_map

PARTS = (
    "seconds_per_sample",
    "image_seconds_per_sample",
    "text_seconds_per_sample",
    "metrics_seconds_per_sample",
)
"""Parts of a sample's time."""

Row = dict[str, Any]
"""One method and sampling mode; quantities that do not apply are absent."""


def bench(method: Method, settings: MethodSettings, batch: int, repeats: int, architecture: str | None = None) -> Row:
    """Measure one method in one sampling mode on phantom samples.

    Args:
        method: the method, ready to ground.
        settings: its complete settings.
        batch: samples per batch.
        repeats: number of measurements; the median is reported.
        architecture: name of the architecture, if the weights are random.

    Returns:
        `metrics_seconds_per_sample`, `total_seconds_per_sample`, `samples_per_hour`, and what the method's own
        `measure(queries, repeats)` returns if it has one (see `methods.ldm.bench.measure`).
    """
    dataset = open_dataset("phantom", None, {})
    samples = list(dataset.samples("test")[:batch])
    seeds = [seed_for(settings.seed, sample.sample_id) for sample in samples]
    queries = [Query(dataset.image(s), s.phrase, seed, s.category) for s, seed in zip(samples, seeds, strict=True)]
    row: Row = {"method": settings.method, "architecture": architecture or settings.weights or "-", "batch_size": batch}
    row |= {name: getattr(settings, name) for name in ("sampling", "steps", "last_steps", "bbm", "precision", "device")}
    if callable(measure := getattr(method, "measure", None)):
        row |= measure(queries, repeats)
    else:
        row["seconds_per_sample"] = _median_seconds(lambda: ground_all(method, queries), repeats) / batch
    pairs = list(zip(ground_all(method, queries), plan(samples, "none"), strict=True))
    with ThreadpoolController().limit(limits=1):  # as in a run
        seconds = _median_seconds(lambda: [score_map(*pair) for pair in pairs], repeats)
    row["metrics_seconds_per_sample"] = seconds / batch
    row["total_seconds_per_sample"] = sum(row.get(name, 0.0) for name in PARTS)
    row["samples_per_hour"] = 3600 / row["total_seconds_per_sample"]
    return row


def _median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of `work`, after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
