"""What a method costs: a benchmark that people plan a run by. Every ratio is of two things measured in one go."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from threadpoolctl import ThreadpoolController

from gtg_bench.benchmark.api.registry import MethodEntry, load_object
from gtg_bench.benchmark.api.types import GroundingMap, MethodSettings, PhraseSample, Query, seed_for
from gtg_bench.benchmark.scoring.trial import Trial
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.scoring.score_map import score_map
from gtg_bench.benchmark.runs.sources import ground_all

ARCHITECTURES = {"sd15": "gtg_bench.methods.ldm.architectures:stable_diffusion_15"}
"""Published architectures with random weights: "module:function" of `MethodSettings`."""

MEASURE_LDM = "gtg_bench.methods.ldm.bench:measure"

PARTS = (
    "seconds_per_sample",
    "image_seconds_per_sample",
    "text_seconds_per_sample",
    "metrics_seconds_per_sample",
)
"""What one sample costs, by where the time goes."""

Row = dict[str, Any]
"""One method and sampling mode; a quantity that does not apply is absent."""


def bench(entry: MethodEntry, settings: MethodSettings, batch: int, repeats: int, architecture: str | None) -> Row:
    """Measure one method in one sampling mode on phantom samples.

    Args:
        entry: the method.
        settings: complete.
        batch: samples at a time.
        repeats: how often bare and own forwards are measured in turns; the median of the ratios counts.
        architecture: one of ARCHITECTURES in the place of the method's own weights.

    Returns:
        `metrics_seconds_per_sample`, `total_seconds_per_sample`, `samples_per_hour`, and for latent diffusion what
        `gtg_bench.methods.ldm.bench.measure` returns.
    """
    queries, samples = _inputs(batch, settings.seed)
    method = load_object(ARCHITECTURES[architecture])(settings) if architecture else entry.built(settings)
    row: Row = {"method": entry.name, "architecture": architecture or settings.weights or "-", "batch_size": batch}
    row |= {name: getattr(settings, name) for name in ("sampling", "steps", "last_steps", "bbm", "precision", "device")}
    if hasattr(method, "engine"):
        row |= load_object(MEASURE_LDM)(method, queries, repeats)
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
