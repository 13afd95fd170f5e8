"""From a map, or from what went wrong instead, to a record. Touches no file, so it may work in another process."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from threadpoolctl import ThreadpoolController

from gtg_bench.benchmark.api.errors import GtgError
from gtg_bench.benchmark.api.types import GroundingMap, SampleRecord, Status, fingerprint
from gtg_bench.benchmark.scoring.protocols import Protocol
from gtg_bench.benchmark.scoring.score_map import Scores, check_map, facts_of, score_map
from gtg_bench.benchmark.scoring.trial import Trial

Found = GroundingMap | Exception
"""What a sample's map is, or why there is none."""


@dataclass(frozen=True)
class Scored:
    """A record, and the traceback of an error that nobody foresaw; "" where there was none."""

    record: SampleRecord
    trace: str = ""


def scored_batch(batch: Sequence[Trial], found: Sequence[Found], seconds: float, rules: Protocol) -> list[Scored]:
    """One record a trial, in order.

    Args:
        batch: the trials.
        found: the map of each, or why there is none.
        seconds: that each map took.
        rules: how they are scored.
    """
    with _threads().limit(limits=1):  # a mixture of a few thousand values only loses time with more
        return [_scored(trial, result, seconds, rules) for trial, result in zip(batch, found, strict=True)]


@cache
def _threads() -> ThreadpoolController:
    """Of the libraries that are loaded when the first batch is scored."""
    return ThreadpoolController()


def _scored(trial: Trial, found: Found, seconds: float, rules: Protocol) -> Scored:
    sample, started = trial.sample, time.monotonic()
    scores, error, trace, digest, note = Scores({}), "", "", "", ""
    status: Status = "ok"
    try:
        if isinstance(found, Exception):
            raise found
        check_map(found, sample)
        scores = score_map(found, trial, rules)
        digest, note = fingerprint(found.values), found.note
        status = "unscorable" if scores.unscorable else "ok"
    except Exception as reason:
        status, error = "failed", _reason(reason)
        trace = "" if isinstance(reason, GtgError) else "".join(traceback.format_exception(reason))
    record = SampleRecord(
        sample_id=sample.sample_id,
        image_id=sample.image_id,
        patient_id=sample.patient_id,
        category=sample.category,
        status=status,
        metrics={name: round(value, 8) for name, value in scores.metrics.items()},
        error=error or scores.unscorable,
        note=note,
        seconds=round(seconds + time.monotonic() - started, 4),
        map_sha256=digest,
        facts=facts_of(sample, rules.frame),
    )
    return Scored(record, trace)


def _reason(error: Exception) -> str:
    """One line; of an error that nobody foresaw with its type."""
    text = " ".join(str(error).split())
    if isinstance(error, GtgError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
