"""From a map to a record. Touches no file, so it can run in another process."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

from gtg_bench.benchmark.api.errors import GtgError, described
from gtg_bench.benchmark.api.types import GroundingMap, SampleRecord
from gtg_bench.benchmark.scoring.protocols import Protocol
from gtg_bench.benchmark.scoring.score_map import facts_of, score_map
from gtg_bench.benchmark.scoring.trial import Trial


@dataclass(frozen=True)
class Scored:
    """A record, and the traceback if an unexpected error caused its failure."""

    record: SampleRecord
    trace: str = ""


def scored_batch(batch: Sequence[tuple[Trial, GroundingMap]], seconds: float, rules: Protocol) -> list[Scored]:
    """Score maps that have passed `check_map`.

    Args:
        batch: trials and their maps.
        seconds: time that each map took.
        rules: how they are scored.

    Returns:
        one record per trial, in order.
    """
    with _threads().limit(limits=1):  # fitting a mixture to a few thousand values only gets slower with more threads
        return [_scored(trial, grounding, seconds, rules) for trial, grounding in batch]


@cache
def _threads() -> ThreadpoolController:
    """Controls the libraries that are loaded when the first batch is scored."""
    return ThreadpoolController()


def _scored(trial: Trial, grounding: GroundingMap, seconds: float, rules: Protocol) -> Scored:
    started = time.monotonic()
    try:
        scores = score_map(grounding, trial, rules)
    except Exception as error:
        return failed(trial, error, seconds + time.monotonic() - started, rules)
    record = _record(
        trial,
        rules,
        status="unscorable" if scores.unscorable else "ok",
        metrics={name: round(value, 8) for name, value in scores.metrics.items()},
        error=scores.unscorable,
        note=grounding.note,
        steps_used=grounding.steps_used,
        seconds=round(seconds + time.monotonic() - started, 4),
        map_sha256=grounding.sha256,
    )
    return Scored(record)


def failed(trial: Trial, error: Exception, seconds: float, rules: Protocol) -> Scored:
    """The record of a trial that has no map or could not be scored; unexpected errors keep their type and traceback."""
    text, trace = " ".join(str(error).split()), ""
    if not isinstance(error, GtgError):
        text = described(error)
        trace = "".join(traceback.format_exception(error))
    return Scored(_record(trial, rules, status="failed", error=text, seconds=round(seconds, 4)), trace)


def _record(trial: Trial, rules: Protocol, **values: Any) -> SampleRecord:
    sample, region = trial.sample, trial.scored_on
    return SampleRecord(
        sample_id=sample.sample_id,
        image_id=sample.image_id,
        patient_id=sample.patient_id,
        category=sample.category,
        phrase=trial.phrase,
        image_sha256=trial.image_sha256,
        map_name=trial.map_name,
        boxes=() if region.mask else region.boxes,
        facts=facts_of(sample, rules.frame),
        **values,
    )
