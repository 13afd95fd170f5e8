"""What a folder of runs contains: finished, unfinished and unreadable runs."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.runs.labels import labels
from gtg_bench.benchmark.runs.lookup import select
from gtg_bench.benchmark.runs.records import MANIFEST, REPLACED, read_manifest, read_records
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import DEFAULT, definition


@dataclass(frozen=True)
class StoredRun:
    """The folder of a run."""

    path: Path
    """The folder, `<runs>/<dataset>/<method>/<key>`."""
    spec: RunSpec | None
    """The run's description; None if this version of the program cannot read it."""
    manifest: dict[str, Any]
    """The manifest; {} if it cannot be read."""

    @property
    def key(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def state(self) -> str:
        """Whether the run is finished, unfinished, being replaced by `--fresh`, or unreadable by this version."""
        if self.spec is None:
            return "replaced" if self.path.name.endswith(REPLACED) else "unreadable"
        return "finished" if self.manifest.get("finished") else "unfinished"

    def counts(self) -> Counter[str]:
        """Number of records by status."""
        return Counter(record.status for record in read_records(self.path).values())

    @property
    def has_shards(self) -> bool:
        """Whether several processes have written records that are not joined yet."""
        return any(self.path.glob("samples-*.jsonl"))

    @property
    def own_maps(self) -> int:
        """Number of maps in the folder itself."""
        return sum(1 for _ in self.path.glob("maps/*.npz"))

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())


def inventory(runs_dir: Path, dataset: str | None = None) -> list[StoredRun]:
    """All runs in a folder, by data set, method and time. Nothing is skipped, however damaged it is."""
    found = []
    for path in runs_dir.glob(f"{dataset or '*'}/*/*"):
        if not path.is_dir() or path.name.startswith("."):
            continue
        manifest, spec = {}, None
        with suppress(DataError):
            manifest = read_manifest(path)
            spec = RunSpec.from_json(manifest["spec"])
        found.append(StoredRun(path, spec if spec and spec.key == path.name else None, manifest))
    return sorted(found, key=lambda run: (run.path.parts[-3:-1], str(run.manifest.get("started"))))


def named(runs: Sequence[StoredRun]) -> list[str]:
    """A label for each run, as tables show it, with its control and protocol; of an unreadable run only the method."""
    texts = iter(labels([run.spec.as_json() for run in runs if run.spec]))
    found = []
    for run in runs:
        words = next(texts) if run.spec else [run.path.parent.name]
        if run.spec and run.spec.control != CONTROLS[0]:
            words = [*words, f"control {run.spec.control}"]
        if run.spec and (rules := definition(run.spec.as_json())) != DEFAULT:
            words = [*words, f"protocol {rules}"]
        found.append(", ".join(words))
    return found


def find(runs: Sequence[StoredRun], name: str, runs_dir: Path) -> list[StoredRun]:
    """The runs that a name refers to: the key of any run, or a method with settings as in `compare`.

    Raises:
        UsageError: none matches.
    """
    if keyed := [run for run in runs if run.key == name]:
        return keyed
    specs = [run.spec for run in runs if run.spec]
    if not specs:
        raise UsageError(f"{runs_dir}: {unknown('run', name, [run.key for run in runs])}")
    keys = {spec.key for spec in select(specs, name, runs_dir)}
    return [run for run in runs if run.key in keys]


def readers(run: StoredRun, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The other runs whose maps are stored in this run's folder."""
    if run.spec is None or not run.own_maps:
        return []
    alike = [one for one in runs if one.spec and one.spec.map_key == run.spec.map_key and one.path != run.path]
    names = {path.stem for path in run.path.glob("maps/*.npz")}
    return [one for one in alike if any(r.map_name in names for r in read_records(one.path).values())]


def remove(run: StoredRun) -> None:
    """Delete a run's folder: first the manifest, so that a half-deleted run is never taken for a finished one."""
    (run.path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(run.path)
    run.path.with_name(f".{run.key}.lock").unlink(missing_ok=True)
