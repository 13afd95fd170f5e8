"""Score stored maps anew, by another protocol, frame or mask: no model is run, none is even looked up."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import Dataset
from gtg_bench.benchmark.runs.tuned_mask import with_best_mask
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.runs.lookup import chosen, told_apart
from gtg_bench.benchmark.scoring.protocols import Protocol, find_protocol
from gtg_bench.benchmark.runs.records import MANIFEST, read_records
from gtg_bench.benchmark.runs.runner import PreparedRun, digest, map_key_of, origin, with_rules
from gtg_bench.benchmark.runs.sources import NoSource
from gtg_bench.benchmark.scoring.protocols import PROTOCOL
from gtg_bench.benchmark.runs.spec import SCHEMA, RunSpec


@dataclass(frozen=True)
class Rules:
    """How maps are to be scored; what is None stays as it is.

    Attributes:
        protocol: a name; None takes the run's own, with its frame, uncovered and mask.
        frame, uncovered, mask: other choices than the protocol's.
    """

    protocol: str | None = None
    frame: str | None = None
    uncovered: str | None = None
    mask: str | None = None

    def of(self, protocol: str) -> Protocol:
        """A protocol with these choices. Raises UsageError for names that there are not."""
        return find_protocol(protocol).changed(self.frame, self.uncovered, self.mask)

    def applied(self, spec: RunSpec) -> Protocol:
        """The rules for the maps of a run. Raises UsageError for names that there are not."""
        if self.protocol is not None:
            return self.of(self.protocol)
        own = replace(find_protocol(spec.protocol), frame=spec.frame, uncovered=spec.uncovered, mask=spec.mask)
        return own.changed(self.frame, self.uncovered, self.mask)


@dataclass(frozen=True)
class Place:
    """Where the data of a run lie now; what is not given is as its manifest says."""

    data_root: Path | None = None
    dataset_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredRun:
    """A run folder and its description as this version of the program would write it."""

    spec: RunSpec
    folder: Path


def find_stored(runs_dir: Path, name: str, dataset: str | None = None) -> StoredRun:
    """The one run whose maps a name stands for; runs of an older version of the program count too.

    Of several runs that scored the same maps, any is as good: that of the paper's protocol is taken.

    Args:
        runs_dir: where runs are kept.
        name: a run's key, or a method with settings, as for `finished.find_run`.
        dataset: only runs on this data set.

    Raises:
        UsageError: there is none, or there are several with other maps; their keys and settings are listed.
    """
    folders = sorted(path.parent for path in runs_dir.glob(f"{dataset or '*'}/*/*/{MANIFEST}"))
    described = [StoredRun(spec, folder) for folder in folders if (spec := _upgraded(folder)) is not None]
    for run in described:
        if name in (run.folder.name, run.spec.key):
            return run
    described.sort(key=lambda run: run.spec.protocol != PROTOCOL)
    distinct = {(run.spec.map_key, run.spec.control): run for run in reversed(described)}
    by_key = {run.spec.key: run for run in distinct.values()}
    found = chosen([run.spec for run in by_key.values()], name, runs_dir)
    if len(found) > 1:
        raise UsageError(f"{name} has {len(found)} runs in {runs_dir}; name a setting or a key: {told_apart(found)}")
    return by_key[found[0].key]


def _upgraded(folder: Path) -> RunSpec | None:
    """A folder's description with the fields that were added later; None where it cannot be read."""
    try:
        return RunSpec(**_manifest(folder)["spec"] | {"schema": SCHEMA})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return found


def prepare_stored(run: StoredRun, rules: Rules, place: Place) -> PreparedRun:
    """A run on the stored maps of another: what has no map fails, with what was said of it then.

    Args:
        run: whose maps they are.
        rules: how they are scored now.
        place: where its data lie; no image is read, but some data sets look up sizes.

    Raises:
        UsageError: a name that there is not, or data that are not those of the run.
        DataError: a broken file of the data set.
    """
    protocol = rules.applied(run.spec)
    dataset, data_root = _dataset(run, place)
    samples = dataset.samples(run.spec.split)
    trials = plan(samples, run.spec.control, run.spec.limit)
    if dataset.version != run.spec.dataset_version or digest(trials) != run.spec.samples_sha256:
        raise UsageError(
            f"run {run.folder.name} was made on other samples than {run.spec.dataset} v{dataset.version} has here; "
            "give the --data-root and --dataset-option that it was made with"
        )
    spec = with_rules(run.spec, protocol)
    source = NoSource({name: record.error for name, record in read_records(run.folder).items() if record.error})
    return PreparedRun(spec, protocol, trials, map_key_of(spec, samples), source, origin(dataset, data_root))


def _dataset(run: StoredRun, place: Place) -> tuple[Dataset, Path | None]:
    manifest = _manifest(run.folder)
    known = manifest.get("dataset_options") or _options(run.spec.dataset_options)
    root = place.data_root or (Path(manifest["data_root"]) if manifest.get("data_root") else None)
    if place.data_root is None and root is not None and not root.is_dir():
        raise UsageError(f"run {run.folder.name} had its data in {root}, which is not there; give --data-root")
    return open_dataset(run.spec.dataset, root, known | dict(place.dataset_options)), root


def _options(text: str) -> dict[str, str]:
    """KEY=VALUE pairs as `runner.options_text` joins them; a value may hold spaces."""
    pairs = [pair.partition("=") for pair in re.split(r" (?=[\w-]+=)", text) if pair]
    return {key: value for key, _, value in pairs}


def tuned(
    prepared: Sequence[PreparedRun], names: Sequence[str], dataset: str | None, runs_dir: Path, place: Place
) -> list[PreparedRun]:
    """The runs with the mask "best", each with its threshold from another run; see `best_mask.with_best_mask`.

    Args:
        prepared: the runs to score.
        names: of the runs on the validation split, one for each, in the same order; as for `find_stored`.
        dataset: only runs on this data set.
        runs_dir: where runs are kept.
        place: where the data lie.

    Raises:
        UsageError, DataError: as `find_stored`, `prepare_stored` and `with_best_mask`.
    """
    if len(prepared) != len(names):
        raise UsageError(f"--mask best needs one --tune-on for each run: {len(names)} for {len(prepared)} runs")
    others = [prepare_stored(find_stored(runs_dir, name, dataset), Rules(), place) for name in names]
    return [with_best_mask(one, other, runs_dir) for one, other in zip(prepared, others, strict=True)]
