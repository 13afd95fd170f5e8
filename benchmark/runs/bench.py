"""What a method costs, to plan a run by. Every ratio compares two things measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from threadpoolctl import ThreadpoolController

from gtg_bench.benchmark.api.types import GroundingMap, Method, MethodSettings, PhraseSample, Query, seed_for
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.runs.sources import ground_all
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.scoring.score_map import score_map
from gtg_bench.benchmark.scoring.trial import Trial

PARTS = (
    "seconds_per_sample",
    "image_seconds_per_sample",
    "text_seconds_per_sample",
    "metrics_seconds_per_sample",
)
"""Parts of the time that one sample takes."""

Row = dict[str, Any]
"""One method and sampling mode; quantities that do not apply are absent."""


def bench(method: Method, settings: MethodSettings, batch: int, repeats: int, architecture: str | None = None) -> Row:
    """Measure one method in one sampling mode on phantom samples.

    Args:
        method: the method, built.
        settings: its complete settings.
        batch: samples per batch.
        repeats: number of alternating measurements of bare and own forwards; the median ratio is reported.
        architecture: name of the architecture, if the weights are random.

    Returns:
        `metrics_seconds_per_sample`, `total_seconds_per_sample`, `samples_per_hour`, and what the method's own
        `measure(queries, repeats)` returns if it has one (see `methods.ldm.bench.measure`).
    """
    queries, samples = _inputs(batch, settings.seed)
    row: Row = {"method": settings.method, "architecture": architecture or settings.weights or "-", "batch_size": batch}
    row |= {name: getattr(settings, name) for name in ("sampling", "steps", "last_steps", "bbm", "precision", "device")}
    if callable(measure := getattr(method, "measure", None)):
        row |= measure(queries, repeats)
    else:
        row["seconds_per_sample"] = _median_seconds(lambda: ground_all(method, queries), repeats) / batch
    trials, maps = plan(samples, "none"), ground_all(method, queries)
    row["metrics_seconds_per_sample"] = _scoring_seconds(maps, trials, repeats) / batch
    row["total_seconds_per_sample"] = sum(row.get(name, 0.0) for name in PARTS)
    row["samples_per_hour"] = 3600 / row["total_seconds_per_sample"]
    return row


def _inputs(batch: int, seed: int) -> tuple[list[Query], list[PhraseSample]]:
    """The first samples of the phantom's test split."""
    dataset = open_dataset("phantom", None, {})
    samples = dataset.samples("test")[:batch]
    return [Query(dataset.image(s), s.phrase, seed_for(seed, s.sample_id), s.category) for s in samples], list(samples)


def _scoring_seconds(maps: Sequence[GroundingMap], trials: Sequence[Trial], repeats: int) -> float:
    """Median seconds for masks and metrics of all maps, on one thread as in a run."""
    with ThreadpoolController().limit(limits=1):
        return _median_seconds(lambda: [score_map(*pair) for pair in zip(maps, trials, strict=True)], repeats)


def _median_seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
