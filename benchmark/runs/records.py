"""A run on disk: a manifest, and one line per sample in samples.jsonl, written as soon as the sample is scored.

Each of several processes writes its own `samples-<writer>.jsonl`; a finished run has only samples.jsonl. Records are
merged by sample id: of several lines for one sample, the last one with a final status ("ok" or "unscorable") counts;
without one, the last line. While several processes write, `order.json` lists the batches of all samples.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.paths import atomic, flocked, locked, write_text
from gtg_bench.benchmark.runs.revision import git_revision
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.state import numbered, parsed, read_lines, read_state, safe_name, warn

_PACKAGES = ("gtg-bench", "torch", "diffusers", "transformers", "numpy", "scikit-learn")
FINAL = ("ok", "unscorable")
MANIFEST = "manifest.json"
REPLACED = ".replaced"
"""Suffix of the folder of a run that is being computed anew."""
ORDER = "order.json"
"""File with the ids of all samples, batch by batch in the data set's order, while several processes write."""

RERUN = "rerun the same `gtg-bench run`"


class Manifest(BaseModel):
    """The entries of a manifest that are read; it has others, which only people read."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    spec: dict[str, Any]
    key: str
    finished: str | None = None
    map_key: str | None = None
    n_total: int | None = Field(None, ge=0)
    fresh: bool | None = None
    versions: dict[str, str] = {}
    git_revision: str | None = None
    data_root: str | None = None
    dataset_options: dict[str, str] = {}


class RunFolder:
    """`runs/<dataset>/<method>/<key>/` of one run. Raises DataError for names that cannot be folders."""

    writer = ""
    """Names this process's file of records if there are several."""

    def __init__(self, runs_dir: Path, spec: RunSpec) -> None:
        self.spec = spec
        self.path = runs_dir / safe_name(spec.dataset, "data set") / safe_name(spec.method, "method") / spec.key
        self._damaged: dict[Path, dict[int, str]] = {}
        self._shared = False

    @property
    def file(self) -> Path:
        """This process's file of records."""
        return file_of(self.path, self.writer)

    def open(self, device: str, batches: Sequence[Sequence[str]] = (), **facts: Any) -> None:
        """Create the folder and its manifest, or check that an existing manifest describes the same run.

        A damaged manifest is written again, and lines that the last `read` could not use are removed.

        Args:
            device: device that computes the maps.
            batches: ids of all samples in the data set's order, kept if there are several writers.
            facts: more entries of the manifest, as JSON values; None is left out.

        Raises:
            DataError: the folder belongs to another run.
        """
        path = self.path / MANIFEST
        if path.exists():
            try:
                known = self.manifest()["spec"]
            except DataError:
                warn(f"{path} was damaged; it is written again")
            else:
                if known != self.spec.as_json():
                    raise DataError(f"{path} belongs to another run; move the folder away or choose another --runs-dir")
                self._mend()
                self._keep_order(batches)
                return
        manifest: dict[str, Any] = {"spec": self.spec.as_json(), "key": self.spec.key}
        manifest |= {"started": _now(), "device": device}
        manifest |= {name: value for name, value in facts.items() if value is not None}
        manifest |= {"versions": _versions(), "git_revision": git_revision(), "python": platform.python_version()}
        self.write_manifest(manifest | {"machine": platform.platform(), "finished": None})
        self._mend()
        self._keep_order(batches)

    def _keep_order(self, batches: Sequence[Sequence[str]]) -> None:
        if self.writer and not (self.path / ORDER).exists():
            write_text(self.path / ORDER, json.dumps(batches))

    def batches(self) -> list[list[str]]:
        """The ids of all samples in batches, as the first of several writers noted them; empty if none did.

        Raises:
            DataError: the file is damaged.
        """
        path = self.path / ORDER
        try:
            return parsed(path.read_bytes(), TypeAdapter(list[list[str]])) if path.exists() else []
        except ValueError as error:
            raise DataError(f"{path} is damaged ({error}); {RERUN}, without --shard, to finish the run") from error

    def finish(self) -> None:
        """Note in the manifest that every sample has its record; delete the run that this one replaces."""
        manifest = self.manifest()
        if not manifest.get("finished"):
            self.write_manifest(manifest | {"finished": _now()})
        shutil.rmtree(self._replaced, ignore_errors=True)

    def join(self, order: Sequence[str]) -> dict[str, SampleRecord]:
        """Have samples.jsonl contain one line for each sample, in this order, and remove all other files of records.

        Only for the process that has claimed the run: no other one may write.

        Args:
            order: ids of samples, in the data set's order; those without a record are skipped.

        Returns:
            Sample id -> record, in this order.
        """
        found, path = self.read(), file_of(self.path)
        records = {name: found[name] for name in order if name in found}
        others = [other for other in record_files(self.path) if other != path]
        lines = path.read_bytes().count(b"\n") if path.exists() else 0
        joined = not others and lines == len(records) and list(records) == list(found)
        if not joined and os.access(self.path, os.W_OK):
            self._mend()
            with atomic(path) as part:
                part.write_bytes(b"".join(map(_line, records.values())))
            for other in others:
                other.unlink(missing_ok=True)
        if len(records) == len(order) and (self.path / ORDER).exists():
            (self.path / ORDER).unlink(missing_ok=True)
        return records

    @contextmanager
    def claimed(self, busy: Callable[[], None], shared: bool = False) -> Iterator[None]:
        """Keep other processes from working on the run; `busy` is called once if one already does, and then waited for.

        Without permission to write nothing is claimed: a finished run can still be read.

        Args:
            busy: called before waiting.
            shared: other processes may share the claim; they are waited for by one that does not.
        """
        self._shared = shared
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            if os.access(self.path.parent, os.W_OK):
                stack.enter_context(flocked(self._lock, busy, shared=True) if shared else locked(self._lock, busy))
            yield

    @contextmanager
    def unclaimed(self) -> Iterator[bool]:
        """Claim the run unless another process has; yield whether it is claimed."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self.claimed(_refuse))
            except BlockingIOError:
                yield False
            else:
                yield True

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def set_aside(self) -> None:
        """Keep the folder under another name until the run has been computed anew."""
        if self.path.exists():
            shutil.rmtree(self._replaced, ignore_errors=True)
            self.path.rename(self._replaced)

    @property
    def is_fresh(self) -> bool:
        """Whether the run was started to be computed anew, without stored maps of other runs."""
        try:
            return bool(self.manifest().get("fresh"))
        except DataError:
            return False

    @property
    def _replaced(self) -> Path:
        return self.path.with_name(f"{self.path.name}{REPLACED}")

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write a manifest, given as JSON values."""
        write_text(self.path / MANIFEST, json.dumps(manifest, indent=1) + "\n")

    def manifest(self) -> dict[str, Any]:
        """The manifest as JSON values. Raises DataError if it is missing or damaged."""
        return read_manifest(self.path)

    def read(self) -> dict[str, SampleRecord]:
        """Sample id -> record, so far; see `read_records`."""
        records, self._damaged = _merged(self.path)
        return records

    def _mend(self) -> None:
        """Remove damaged lines; the whole file is kept as `<name>.damaged` unless its last line was only torn."""
        for path, lines in self._damaged.items():
            if self._shared and path != self.file:
                continue  # another process may be writing it
            content = path.read_bytes()
            if any(lines.values()):
                path.with_name(f"{path.name}.damaged").write_bytes(content)
            kept = [line for number, line in enumerate(content.split(b"\n"), 1) if line and number not in lines]
            with atomic(path) as part:
                part.write_bytes(b"".join(line + b"\n" for line in kept))
        self._damaged = {}

    def append(self, records: Iterable[SampleRecord]) -> None:
        """Append records and flush them."""
        with self.file.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - 1, 0))
            if file.read(1) not in (b"", b"\n"):
                file.write(b"\n")
            for record in records:
                file.write(_line(record))

    def log(self, text: str) -> None:
        """Append to errors.log."""
        with (self.path / "errors.log").open("a", encoding="utf-8") as file:
            file.write(f"{_now()} {text}\n")


def file_of(folder: Path, writer: str = "") -> Path:
    """The file of records of one of several writers, or of the only one."""
    return folder / (f"samples-{writer}.jsonl" if writer else "samples.jsonl")


def record_files(folder: Path) -> list[Path]:
    """All files of records in a run's folder: first samples.jsonl, if it exists."""
    return [path for path in (file_of(folder), *sorted(folder.glob("samples-*.jsonl"))) if path.exists()]


def records_in(path: Path) -> dict[str, SampleRecord]:
    """Sample id -> last record in one file of records, empty if the file does not exist; damaged lines are left out."""
    return {record.sample_id: record for record in read_lines(path, _record())[0]} if path.exists() else {}


def _line(record: SampleRecord) -> bytes:
    return json.dumps(record.as_json(), separators=(",", ":")).encode() + b"\n"


def _refuse() -> None:
    raise BlockingIOError


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run's folder as JSON values. Raises DataError if it is missing or damaged."""
    return read_state(folder / MANIFEST, Manifest, f"{RERUN} to write it again, or remove {folder}")


def read_records(folder: Path) -> dict[str, SampleRecord]:
    """Sample id -> record of a run's folder; damaged lines are skipped with a warning.

    Raises:
        DataError: a file cannot be read.
    """
    return _merged(folder)[0]


def _merged(folder: Path) -> tuple[dict[str, SampleRecord], dict[Path, dict[int, str]]]:
    """The records, and each file's damaged lines with the reason; see `state.read_lines`."""
    records: dict[str, SampleRecord] = {}
    damage = {}
    for path in record_files(folder):
        try:
            found, damaged = read_lines(path, _record())
        except DataError:
            if path.exists():
                raise
            return _merged(folder)  # the run has just been finished: all its records are in one file now
        for record in found:
            known = records.get(record.sample_id)
            if known is None or known.status not in FINAL or record.status in FINAL:
                records[record.sample_id] = record
        if damaged:
            damage[path] = damaged
        if said := numbered(damaged):
            warn(f"{path}: {said} and left out; {RERUN} to score what is missing")
    return records, damage


@cache
def _record() -> TypeAdapter[SampleRecord]:
    return TypeAdapter(SampleRecord)


def this_program() -> str:
    """The version of this program as a manifest gives it."""
    return _maker({"versions": _versions(), "git_revision": git_revision()})


def maker_of(folder: Path) -> str:
    """The version of the program that started the run in a folder. Raises DataError if its manifest is damaged."""
    return _maker(read_manifest(folder))


def _maker(manifest: Mapping[str, Any]) -> str:
    made, revision = manifest.get("versions", {}).get("gtg-bench"), manifest.get("git_revision")
    return f"gtg-bench {made}" + (f" at revision {revision[:12]}" if revision else "")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    """The versions of the installed packages that may change numbers."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
