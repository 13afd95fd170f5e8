"""Rescore stored maps by another protocol, frame or mask. No model is run or even looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import Dataset
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.metrics.named_masks import BEST
from gtg_bench.benchmark.runs.command_line import run_command
from gtg_bench.benchmark.runs.identity import digest_of_samples
from gtg_bench.benchmark.runs.lookup import only_one, select, specs_in
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.runner import PreparedRun, check_not_validation, origin, rules_for, with_rules
from gtg_bench.benchmark.runs.sources import NoSource
from gtg_bench.benchmark.runs.spec import MAP_FIELDS, VALIDATION, RunSpec
from gtg_bench.benchmark.runs.tuned import with_best_mask, with_best_smoothing
from gtg_bench.benchmark.scoring.controls import CONTROLS, plan
from gtg_bench.benchmark.scoring.protocols import PROTOCOL, RULES, Protocol, find_protocol
from gtg_bench.benchmark.scoring.smoothing import UNSMOOTHED


@dataclass(frozen=True)
class Rules:
    """How stored maps are scored."""

    protocol: str | None = None
    """Name of a protocol; None keeps the run's, with its overrides."""
    frame: str | None = None
    """Overrides the frame."""
    uncovered: str | None = None
    """Overrides how pixels that the method does not cover are scored."""
    mask: str | None = None
    """Overrides the mask."""
    smooth: str | None = None
    """Overrides the smoothing."""

    def applied(self, spec: RunSpec) -> Protocol:
        """The rules for the maps of a run. Raises UsageError for unknown names."""
        protocol = find_protocol(self.protocol or spec.protocol)
        if self.protocol is None:
            protocol = replace(protocol, **{part: getattr(spec, part) for part in RULES})
        return protocol.changed(*(getattr(self, part) for part in RULES))


@dataclass(frozen=True)
class Place:
    """Where a run's data are now; unset options keep the values in its manifest."""

    data_root: Path | None = None
    """Folder with the data set's annotations and images."""
    dataset_options: Mapping[str, str] = field(default_factory=dict)
    """Options of the data set."""


def find_stored(runs_dir: Path, name: str, dataset: str | None = None) -> RunSpec:
    """The one run whose maps a name refers to; of several runs on the same maps, the one with the paper's protocol.

    Args:
        runs_dir: folder of the runs.
        name: a run's key, or a method with settings; see `lookup.find_run`.
        dataset: only runs on this data set.

    Raises:
        UsageError: no run matches, or several with different maps; the message lists their keys and settings.
    """
    specs = sorted(specs_in(runs_dir, dataset), key=lambda spec: spec.protocol != PROTOCOL)
    for spec in specs:
        if name == spec.key:
            return spec
    distinct = {(s.map_key, s.control, s.samples_sha256, s.images_sha256): s for s in reversed(specs)}
    return only_one(select(list(distinct.values()), name, runs_dir), name, runs_dir)


def open_data(runs_dir: Path, spec: RunSpec, place: Place) -> tuple[Dataset, Path | None]:
    """The data set of a stored run, and its folder.

    Raises:
        UsageError: the folder no longer exists, or an option is unknown.
        DataError: an invalid file of the data set.
    """
    manifest = RunFolder(runs_dir, spec).manifest()
    root = place.data_root or (Path(manifest["data_root"]) if manifest.get("data_root") else None)
    if place.data_root is None and root is not None and not root.is_dir():
        raise UsageError(f"run {spec.key} read its data from {root}, which no longer exists; give --data-root")
    options = manifest.get("dataset_options") or {}
    return open_dataset(spec.dataset, root, options | dict(place.dataset_options)), root


def prepare_stored(runs_dir: Path, spec: RunSpec, rules: Rules, place: Place) -> PreparedRun:
    """A run on the stored maps of another; a sample without a map fails with the reason that the other run recorded.

    Args:
        runs_dir: folder of the runs.
        spec: the run whose maps are scored.
        rules: how they are scored now.
        place: where its data are; no image is decoded, but some data sets look up image sizes.

    Raises:
        UsageError: an unknown name, or the data differ from the run's.
        DataError: an invalid file of the data set.
    """
    protocol = rules_for(spec.settings, rules.applied(spec))
    folder = RunFolder(runs_dir, spec)
    dataset, root = open_data(runs_dir, spec, place)
    trials = plan(dataset.samples(spec.split), spec.control, spec.limit)
    if dataset.version != spec.dataset_version or digest_of_samples(trials) != spec.samples_sha256:
        raise UsageError(
            f"run {spec.key} used other samples than {spec.dataset} v{dataset.version} has here; "
            "give the --data-root and --dataset-option of that run"
        )
    records = folder.read()
    images = {name: record.image_sha256 for name, record in records.items()}  # as they were: none is read again
    trials = [replace(trial, image_sha256=images.get(trial.sample.sample_id, "")) for trial in trials]
    source = NoSource({name: record.error for name, record in records.items() if record.error})
    validation = None
    if protocol.smooth == BEST:
        check_not_validation(spec.split)
        unsmoothed = Rules(protocol.name, protocol.frame, protocol.uncovered, rules.mask, UNSMOOTHED)
        validation = prepare_stored(runs_dir, _on_validation(runs_dir, spec), unsmoothed, place)
    return PreparedRun(with_rules(spec, protocol), protocol, trials, source, origin(dataset, root), validation)


def _on_validation(runs_dir: Path, spec: RunSpec) -> RunSpec:
    """A stored run with the same method and settings on the validation split. Raises UsageError if there is none."""
    wanted = {name: value for name, value in spec.as_json().items() if name in MAP_FIELDS}
    for other in specs_in(runs_dir, spec.dataset):
        same = all(other.as_json()[name] == value for name, value in wanted.items())
        if same and (other.split, other.control, other.limit) == (VALIDATION, CONTROLS[0], None):
            return other
    command = run_command(replace(spec, split=VALIDATION, limit=None, smooth=UNSMOOTHED), runs_dir)
    raise UsageError(f"--smooth best needs maps of the validation split; make them: {command}")


def tuned(
    prepared: Sequence[PreparedRun],
    parts: Sequence[str],
    names: Sequence[str],
    dataset: str | None,
    runs_dir: Path,
    place: Place,
) -> list[PreparedRun]:
    """The runs with the smoothing or mask "best", each chosen on another run; see `runs.tuned`.

    Args:
        prepared: the runs to score.
        parts: what is chosen, "smooth", "mask" or both; the mask is chosen on smoothed maps.
        names: runs on the validation split, one for each, in the same order; see `find_stored`.
        dataset: only runs on this data set.
        runs_dir: folder of the runs.
        place: where the data are.

    Raises:
        UsageError, DataError: see `find_stored`, `prepare_stored` and `runs.tuned`.
    """
    if len(prepared) != len(names):
        raise UsageError(f"best needs one --tune-on per run, not {len(names)} for {len(prepared)}")
    others = [prepare_stored(runs_dir, find_stored(runs_dir, name, dataset), Rules(), place) for name in names]
    for part, choose in (("smooth", with_best_smoothing), ("mask", with_best_mask)):
        if part in parts:
            prepared = [choose(one, other, runs_dir) for one, other in zip(prepared, others, strict=True)]
    return list(prepared)
