"""The method under audit: its runs, made when a question first needs them, and their maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from gtg_bench.benchmark.analysis.audit.agreement import (
    Grid,
    on_grid,
    random_pairs,
    rank_correlation,
    structural_similarity,
)
from gtg_bench.benchmark.analysis.audit.random_weights import modules_of, scrambled
from gtg_bench.benchmark.api.errors import DataError, GtgError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry, unknown
from gtg_bench.benchmark.api.settings import BOXES
from gtg_bench.benchmark.api.types import Dataset, GroundingMap, MethodSettings, SampleRecord
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.metrics.named_masks import BEST
from gtg_bench.benchmark.runs.identity import digest_of_samples
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.request import RunRequest, RunResult
from gtg_bench.benchmark.runs.rescore import Place, Rules, find_stored, open_data, prepare_stored
from gtg_bench.benchmark.runs.runner import PreparedRun, prepare
from gtg_bench.benchmark.runs.sources import Source
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import CONTROLS, REGION_CONTROLS, plan
from gtg_bench.benchmark.scoring.edits import shift_of
from gtg_bench.benchmark.scoring.probes import SEEDS, WEIGHTS
from gtg_bench.benchmark.scoring.protocols import RULES, find_protocol
from gtg_bench.benchmark.scoring.trial import Trial
from gtg_bench.benchmark.statistics import Equivalence, Estimate, Pairs, bootstrap, equivalence

PLAIN = CONTROLS[0]
MATERIAL = 0.1
"""Share of the score above a constant map's that counts as a material change."""

_CEILING = "oracle-lesion"
_CONTRAST = ("cnr", "cnr_abs")
"""Metrics that are undefined for a constant map."""

Execute = Callable[[PreparedRun, RunRequest, str], RunResult]
"""Executes a prepared run; the text says what it is for."""


@dataclass(frozen=True)
class Done:
    """A finished run with its trials and maps."""

    prepared: PreparedRun
    run: FinishedRun
    runs_dir: Path
    scores: dict[str, Estimate] = field(default_factory=dict, compare=False)
    """Averages that were computed so far, by metric."""

    @cached_property
    def trials(self) -> dict[str, Trial]:
        """The trials by sample id."""
        return {trial.sample.sample_id: trial for trial in self.prepared.trials}

    @cached_property
    def records(self) -> dict[str, SampleRecord]:
        """The records by sample id, without failed ones."""
        return {record.sample_id: record for record in self.run.records if record.status != "failed"}

    @cached_property
    def maps(self) -> Mapping[str, GroundingMap]:
        """The stored maps by sample id, of all samples that did not fail and whose map can be read."""
        store, found = self.prepared.maps(self.runs_dir), {}
        for name in self.records:
            try:
                found[name] = store.load(name)
            except DataError:
                continue
        return found

    def values(self, metric: str) -> dict[str, float]:
        """A metric by sample id. A constant map, whose CNR is undefined, has the CNR 0: it found nothing."""
        found = {name: record.metrics[metric] for name, record in self.records.items() if metric in record.metrics}
        if metric in _CONTRAST:
            missing = [n for n, r in self.records.items() if r.status == "ok" and n not in found and n in self.maps]
            constant = [name for name in missing if not np.ptp(self.maps[name].values)]
            found |= {name: 0.0 for name in constant if self.maps[name].answer is None}
        return found


@dataclass
class Subject:
    """A registered method, or a stored run of external maps, which allows no probe that needs new maps."""

    request: RunRequest
    """The plain run."""
    execute: Execute
    """Executes a run."""
    stored: RunSpec | None = None
    """The stored run that is audited; None for a registered method."""
    repeats: tuple[FinishedRun, ...] = ()
    """Runs of the same method from other trainings."""
    _done: dict[tuple[str, ...], Done] = field(default_factory=dict)
    _source: Source | None = None

    @cached_property
    def dataset(self) -> Dataset:
        """The open data set."""
        if self.stored is not None:
            return open_data(self.request.runs_dir, self.stored, self._place)[0]
        return open_dataset(self.request.dataset, self.request.data_root, self.request.dataset_options)

    @property
    def _place(self) -> Place:
        return Place(self.request.data_root, self.request.dataset_options)

    @property
    def average(self) -> str:
        """The protocol's average."""
        return self.request.rules.average

    @property
    def primary(self) -> str:
        """The protocol's primary metric."""
        return self.request.rules.primary

    @property
    def metrics(self) -> tuple[str, ...]:
        """The protocol's metrics."""
        return self.request.rules.metrics

    @property
    def plain(self) -> Done:
        """The method as it is."""
        return self.under(PLAIN)

    def under(self, control: str, smooth: str | None = None) -> Done:
        """The method under a control or probe.

        Raises:
            UsageError: the data set or the method does not allow it; says why.
        """
        key = ("", control, smooth or "")
        if key not in self._done:
            request = replace(self.request, control=control, smooth=smooth or self.request.smooth)
            prepared = self._prepared(request)
            done = self.execute(prepared, request, control if control != PLAIN else "")
            self._done[key] = Done(prepared, FinishedRun(done.spec, done.records), request.runs_dir)
        return self._done[key]

    def _prepared(self, request: RunRequest) -> PreparedRun:
        control, settings = request.control, request.settings
        if self.stored is not None:
            return self._rescored(self.stored, request)
        entry = METHODS.get(settings.method)
        if control in SEEDS:
            seed = settings.seed + SEEDS.index(control) + 1
            return prepare(replace(request, settings=replace(settings, seed=seed)), entry, self.dataset)
        if control in WEIGHTS:
            return prepare(request, self._scrambled(entry, control), self.dataset)
        prepared = prepare(request, entry, self.dataset)
        self._source = self._source or prepared.source
        return replace(prepared, source=self._source)  # the method is built once

    def _scrambled(self, entry: MethodEntry, probe: str) -> MethodEntry:
        """The method with random weights. Raises UsageError if it has no torch module."""
        complete = entry.completed(replace(self.request.settings, dataset=self.request.dataset))
        if not modules_of(getattr(self._source, "method", None) or entry.built(complete)):
            raise UsageError("the method's object has no torch module")
        share = int(probe.removeprefix("weights-")) / 100
        return replace(
            entry, build=lambda settings: scrambled(entry.built(settings), share), code=f"{entry.code}+{probe}"
        )

    def _rescored(self, stored: RunSpec, request: RunRequest) -> PreparedRun:
        """A run on the stored maps. Raises UsageError for a control that needs new maps."""
        if request.control not in (PLAIN, *REGION_CONTROLS):
            raise UsageError("stored maps cannot be computed again")
        prepared = prepare_stored(request.runs_dir, stored, Rules(smooth=request.smooth), self._place)
        if request.control == PLAIN:
            return prepared
        images = {trial.sample.sample_id: trial.image_sha256 for trial in prepared.trials}
        trials = plan(self.dataset.samples(stored.split), request.control, stored.limit)
        trials = [replace(trial, image_sha256=images.get(trial.sample.sample_id, "")) for trial in trials]
        spec = replace(prepared.spec, control=request.control, samples_sha256=digest_of_samples(trials))
        return replace(prepared, spec=spec, trials=trials)

    def other(self, method: str, smooth: str | None = None, control: str = PLAIN) -> Done:
        """Another method on the same samples with its default settings.

        Raises:
            UsageError: it is unknown, or cannot run on this data set.
        """
        key = (method, control, smooth or "")
        if key not in self._done:
            settings = MethodSettings(method, device=self.request.settings.device)
            request = replace(self.request, settings=settings, control=control, smooth=smooth or self.request.smooth)
            prepared = prepare(request, None, self.dataset)
            done = self.execute(prepared, request, control if control != PLAIN else "")
            self._done[key] = Done(prepared, FinishedRun(done.spec, done.records), request.runs_dir)
        return self._done[key]

    def score(self, done: Done, metric: str | None = None) -> Estimate:
        """The average of a metric, by default the primary one."""
        metric = metric or self.primary
        if metric not in done.scores:
            done.scores[metric] = self.mean(done.values(metric))
        return done.scores[metric]

    def constant(self, metric: str | None = None) -> float:
        """What a constant map scores; 0 where the metric is undefined for it."""
        return self.score(self.other("uniform"), metric).value or 0.0

    def ceiling(self, smooth: str | None = None) -> float | None:
        """What a perfect localiser scores in the primary metric; None if the data set has none."""
        try:
            return self.score(self.other(_CEILING, smooth)).value
        except GtgError:
            return None

    def span(self, metric: str | None = None) -> float:
        """How far the method's score is above a constant map's, at least 0."""
        return max(0.0, (self.score(self.plain, metric).value or 0.0) - self.constant(metric))

    def difference(self, one: Done, other: Done, metric: str | None = None) -> Estimate:
        """Average of one run minus the other's, on the samples that both have."""
        ours, theirs = one.values(metric or self.primary), other.values(metric or self.primary)
        return self.mean({name: ours[name] - theirs[name] for name in ours.keys() & theirs.keys()})

    def equivalence(self, one: Done, other: Done, margin: float) -> Equivalence:
        """Whether two runs differ by less than a margin in the primary metric, on the samples that both have."""
        ours, theirs, records = one.values(self.primary), other.values(self.primary), self.plain.records
        names = sorted(ours.keys() & theirs.keys() & records.keys())
        pairs = Pairs(
            np.array([ours[name] for name in names], dtype=np.float64),
            np.array([theirs[name] for name in names], dtype=np.float64),
            np.array([records[name].category for name in names], dtype=np.str_),
            np.array([records[name].patient_id for name in names], dtype=np.str_),
        )
        return equivalence(pairs, margin, self.average)

    def agreement(self, other: Done, shift: bool = False) -> tuple[Estimate, Estimate]:
        """Rank correlation and SSIM of the plain maps with those of another run: averages of `agreements`."""
        ranks, similar = self.agreements(other, shift)
        return self.mean(ranks), self.mean(similar)

    def agreements(self, other: Done, shift: bool = False) -> tuple[dict[str, float], dict[str, float]]:
        """Rank correlation and SSIM of the plain maps with those of another run, by sample id.

        Args:
            other: the run.
            shift: its images were shifted; its maps are moved back.
        """
        ranks, similar = {}, {}
        for name, grounding in other.maps.items():
            if name in self.grids:
                moved = on_grid(grounding, shift_of(grounding.frame.image_size) if shift else 0)
                value = rank_correlation(self.grids[name], moved)
                if value is not None:
                    ranks[name] = value
                    similar[name] = structural_similarity(self.grids[name], moved)
        return ranks, similar

    @cached_property
    def grids(self) -> dict[str, Grid]:
        """The plain maps on a common grid, by sample id."""
        return {name: on_grid(grounding) for name, grounding in self.plain.maps.items()}

    def two_findings(self) -> Estimate:
        """Rank correlation of a map with that of another phrase of the same image, where it has several."""
        by_image: dict[str, list[str]] = {}
        for name in sorted(self.grids):
            by_image.setdefault(self.plain.records[name].image_id, []).append(name)
        values = {}
        for names in by_image.values():
            for name, other in zip(names, [*names[1:], names[0]], strict=True) if len(names) > 1 else ():
                if (value := rank_correlation(self.grids[name], self.grids[other])) is not None:
                    values[name] = value
        return self.mean(values)

    @cached_property
    def chance(self) -> float:
        """Rank correlation of the method's maps of random pairs of samples of different patients."""
        partners = random_pairs({name: self.plain.records[name] for name in self.grids})
        values = {name: rank_correlation(self.grids[name], self.grids[other]) for name, other in partners.items()}
        return self.mean({name: value for name, value in values.items() if value is not None}).value or 0.0

    def mean(self, values: Mapping[str, float]) -> Estimate:
        """The average of a quantity by sample id, with its CI."""
        records = self.plain.records
        names = sorted(name for name in values if name in records)
        found = np.array([values[name] for name in names], dtype=np.float64)
        groups = ([records[n].category for n in names], [records[n].patient_id for n in names])
        return bootstrap(found, *groups, self.average)


def find_subject(request: RunRequest, execute: Execute) -> Subject:
    """The subject that a request's method names: a registered method, else a stored run by its key or name.

    A stored run of a registered method is audited as that method with the run's settings.

    Raises:
        UsageError: neither a method nor a run.
    """
    name = request.settings.method
    if name in METHODS.names():
        return Subject(request, execute)
    try:
        spec = find_stored(request.runs_dir, name, None)
    except UsageError:
        raise UsageError(f"{unknown('method', name, METHODS.names())}; nor is it a run in {request.runs_dir}") from None
    if spec.control != PLAIN:
        raise UsageError(f"run {name} is under control {spec.control}; name the plain run, of which the audit makes it")
    usual = find_protocol(spec.protocol)
    if spec.settings.weights == BOXES and METRICS[usual.primary].of_map:
        raise UsageError(
            f"run {spec.key} answers with boxes, for which {usual.primary} is undefined; audit the key of a run of "
            f"protocol boxes: gtg-bench score {spec.key} --protocol boxes"
        )
    manifest = RunFolder(request.runs_dir, spec).manifest()
    root = request.data_root or (Path(manifest["data_root"]) if manifest.get("data_root") else None)
    rules = {part: getattr(spec, part).removeprefix(f"{BEST}:") for part in RULES}
    request = replace(
        request,
        settings=replace(spec.settings, dataset=None, device=request.settings.device),
        dataset=spec.dataset,
        data_root=root,
        dataset_options={**(manifest.get("dataset_options") or {}), **request.dataset_options},
        split=spec.split,
        limit=spec.limit,
        protocol=spec.protocol,
        **{part: value for part, value in rules.items() if value != getattr(usual, part)},
    )
    live = spec.method in METHODS.names() and spec.code is not None
    return Subject(request, execute, stored=None if live else spec)
