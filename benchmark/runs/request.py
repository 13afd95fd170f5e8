"""What a run is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.types import MethodSettings, SampleRecord
from gtg_bench.benchmark.runs.feeding import MOST_WORKERS, WORKERS
from gtg_bench.benchmark.runs.sources import check_device
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.runs.writers import shard_of
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOL, RULES, Protocol, find_protocol


@dataclass(frozen=True)
class RunRequest:
    """What a user asks for. Invalid options raise UsageError before anything is loaded."""

    settings: MethodSettings
    """The method, and the settings that the user chose."""
    dataset: str = "phantom"
    """Name of the data set."""
    data_root: Path | None = None
    """Folder with the data set's annotations and images."""
    dataset_options: dict[str, str] = field(default_factory=dict)
    """Options of the data set."""
    split: str = "test"
    """Split to evaluate."""
    limit: int | None = None
    """Evaluate only the first N samples."""
    control: str = CONTROLS[0]
    """Sanity-check control, one of CONTROLS, or a probe of an audit."""
    protocol: str = PROTOCOL
    """Metrics, frame, mask and averages, a name of `scoring.protocols.PROTOCOLS`."""
    frame: str | None = None
    """Overrides the protocol's frame."""
    uncovered: str | None = None
    """Overrides how the protocol scores pixels that the method does not cover."""
    mask: str | None = None
    """Overrides the protocol's mask."""
    smooth: str | None = None
    """Overrides the protocol's smoothing."""
    fail_fast: bool = False
    """Stop at the first sample that fails."""
    fresh: bool = False
    """Compute every map and score anew, even if they are stored."""
    batch_size: int = 16
    """Samples per batch; does not change results."""
    workers: int = WORKERS
    """Threads that read the next batch's images; does not change results. 0 reads them when they are needed."""
    runs_dir: Path = Path("runs")
    """Folder of the records and maps."""
    shard: str | None = None
    """K/N: compute only part K of N, as one of N independent jobs; the last one finishes the run."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be at least 1, not {self.limit}")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1, not {self.batch_size}")
        if self.shard is not None and self.fresh:
            raise UsageError("--shard cannot be combined with --fresh; delete the run with `gtg-bench runs rm` first")
        if not 0 <= self.workers <= MOST_WORKERS:
            raise UsageError(f"--workers must be between 0 and {MOST_WORKERS}, not {self.workers}")
        check_device(self.settings.device)
        _ = self.rules, self.part

    @classmethod
    def of(cls, method: str, **options: Any) -> RunRequest:
        """A request from a method's name and any mix of method settings and fields of a request.

        Raises:
            UsageError: an unknown or invalid option.
        """
        known, settings = ([one.name for one in fields(kind)] for kind in (cls, MethodSettings))
        for name in options:
            if name not in known + settings:
                raise UsageError(unknown("option", name, known + settings))
        own = {name: value for name, value in options.items() if name in known}
        rest = {name: value for name, value in options.items() if name not in known}
        return cls(MethodSettings(method, **rest), **own)

    @property
    def part(self) -> tuple[int, int] | None:
        """The shard's number, from 0, and that of all shards."""
        return None if self.shard is None else shard_of(self.shard)

    @property
    def rules(self) -> Protocol:
        """The protocol with its overrides."""
        return find_protocol(self.protocol).changed(*(getattr(self, part) for part in RULES))


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    spec: RunSpec
    """Its description."""
    folder: Path
    """Where its records and maps are stored."""
    records: list[SampleRecord]
    """One record per sample, in the order of the samples; of a shard that is not the last one, those so far."""
    seconds: float
    """Wall time."""
    computed: int
    """Number of samples that were scored now; the others had been scored before."""
    reused: int = 0
    """How many of these were scored from a stored map."""
    maps_of: str | None = None
    """Key of another run that holds most of the stored maps."""
    made_by: str | None = None
    """Version of the program that made these maps, or the records that were there already, if it is not this one."""
    missing: int = 0
    """Number of samples without a record: other shards have not ended."""
