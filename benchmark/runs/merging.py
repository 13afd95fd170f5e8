"""Join what the shards of a run have computed, in one folder or in several."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.paths import atomic
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.records import FINAL, MANIFEST, RunFolder, record_files, records_in
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.runs.writers import block


@dataclass(frozen=True)
class Merged:
    """The records of all shards of a run."""

    folder: Path
    """The run's folder."""
    records: Sequence[SampleRecord]
    """The records, in the data set's order."""
    missing: int
    """Number of samples without a record; the run is finished if there are none."""
    shards: Sequence[str] = ()
    """Shards without a record of all their samples, such as 3/8, as far as known."""


def merge(runs_dir: Path, spec: RunSpec, others: Sequence[Path], busy: Callable[[], None] = lambda: None) -> Merged:
    """Join a run's records; if every sample has one, the run is finished.

    Args:
        runs_dir: folder of the runs.
        spec: the run.
        others: further folders of runs, from which records and maps are copied; they are not changed.
        busy: called once for each folder in which a shard is still running, which is waited for.

    Raises:
        UsageError: a folder is named twice.
        DataError: two records of a sample differ, or files are damaged.
    """
    folder = RunFolder(runs_dir, spec)
    sources = [RunFolder(other, spec) for other in others if RunFolder(other, spec).path.exists()]
    paths = [one.path.resolve() for one in (folder, *sources)]
    if len(set(paths)) < len(paths):
        raise UsageError(f"--from names {runs_dir} itself, or a folder twice")
    with folder.claimed(busy):
        order: list[list[str]] = []
        for source in sources:
            with source.claimed(busy):
                order = order or _batches(source)
                _copy(source, folder)
        _agreed(folder.path)
        batches = _batches(folder) or order or [list(folder.read())]
        records, total = folder.read(), folder.manifest().get("n_total") or sum(map(len, batches))
        if missing := total - len(records):
            return Merged(folder.path, list(records.values()), missing, _unfinished(folder.path, batches, records))
        records = folder.join(list(chain(*batches)))
        folder.finish()
    return Merged(folder.path, list(records.values()), 0)


def _batches(folder: RunFolder) -> list[list[str]]:
    """The ids of all samples of a run that several processes write, or that is finished."""
    if found := folder.batches():
        return found
    finished = (folder.path / MANIFEST).exists() and folder.manifest().get("finished")
    return [list(folder.read())] if finished else []


def _agreed(*folders: Path) -> dict[str, SampleRecord]:
    """The final record of each sample in all files of records. Raises DataError if two of them differ."""
    found: dict[str, tuple[SampleRecord, Path]] = {}
    for path in (path for folder in folders for path in record_files(folder)):
        for name, record in records_in(path).items():
            if record.status not in FINAL:
                continue
            known, other = found.setdefault(name, (record, path))
            if differing := [key for key, value in _values(record).items() if value != _values(known)[key]]:
                raise DataError(
                    f"sample {name} has other {', '.join(differing)} in {path} than in {other}: "
                    "delete one of the runs, or compute both on the same kind of device"
                )
    return {name: record for name, (record, _) in found.items()}


def _values(record: SampleRecord) -> dict[str, object]:
    return {key: value for key, value in record.as_json().items() if key != "seconds"}


def _copy(source: RunFolder, to: RunFolder) -> None:
    """Add another folder's records and maps of a run."""
    _agreed(source.path, to.path)
    manifest = source.manifest()
    if manifest["spec"] != to.spec.as_json():
        raise DataError(f"{source.path} describes another run than its name says; leave it out")
    if not (to.path / MANIFEST).exists():
        to.write_manifest(manifest | {"finished": None})
    maps, known = MapStore.of_run(source.path), to.read()
    new = {name: record for name, record in source.read().items() if name not in known or record.status in FINAL}
    for name, record in new.items():
        path, copy = maps.path(name), to.path / "maps" / f"{record.map_name}.npz"
        if path is not None and not copy.exists():
            with atomic(copy, sync=False) as part:
                shutil.copyfile(path, part)
    to.append(record for name, record in new.items() if name not in known or known[name].status not in FINAL)


def _unfinished(folder: Path, batches: Sequence[Sequence[str]], records: Mapping[str, SampleRecord]) -> list[str]:
    """The shards that lack records, if all files of records are those of equally many shards."""
    names = [re.search(r"-of-(\d+)\.jsonl$", path.name) for path in record_files(folder)]
    counts = {int(name[1]) for name in names if name}
    if len(counts) != 1:
        return []
    (count,) = counts
    return [f"{k + 1}/{count}" for k in range(count) if set(chain(*block(batches, k, count))) - set(records)]
