"""A run on disk: a manifest, and one line per sample in samples.jsonl, written as soon as the sample is scored.

Further files `samples-<writer>.jsonl` are merged by sample id. Of several lines for one sample, the last one with a
final status ("ok" or "unscorable") counts; without one, the last line.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.paths import atomic, locked
from gtg_bench.benchmark.runs.revision import git_revision
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.state import numbered, read_lines, read_state, safe_name, warn

_PACKAGES = ("gtg-bench", "torch", "diffusers", "transformers", "numpy", "scikit-learn")
FINAL = ("ok", "unscorable")
MANIFEST = "manifest.json"
REPLACED = ".replaced"
"""Suffix of the folder of a run that is being computed anew."""

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

    def __init__(self, runs_dir: Path, spec: RunSpec) -> None:
        self.spec = spec
        self.path = runs_dir / safe_name(spec.dataset, "data set") / safe_name(spec.method, "method") / spec.key
        self._damaged: dict[Path, dict[int, str]] = {}

    def open(self, device: str, **facts: Any) -> None:
        """Create the folder and its manifest, or check that an existing manifest describes the same run.

        A damaged manifest is written again, and lines that the last `read` could not use are removed.

        Args:
            device: device that computes the maps.
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
                return
        manifest: dict[str, Any] = {"spec": self.spec.as_json(), "key": self.spec.key}
        manifest |= {"started": _now(), "device": device}
        manifest |= {name: value for name, value in facts.items() if value is not None}
        manifest |= {"versions": _versions(), "git_revision": git_revision(), "python": platform.python_version()}
        self._write(manifest | {"machine": platform.platform(), "finished": None})
        self._mend()

    def finish(self) -> None:
        """Note in the manifest that every sample has its record; delete the run that this one replaces."""
        manifest = self.manifest()
        if not manifest.get("finished"):
            self._write(manifest | {"finished": _now()})
        shutil.rmtree(self._replaced, ignore_errors=True)

    @contextmanager
    def claimed(self, busy: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from working on the run; `busy` is called once if one already does, and then waited for.

        Without permission to write there is no claim: a finished run can still be read.
        """
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        mine = os.access(self.path.parent, os.W_OK)
        with locked(self.path.with_name(f".{self.path.name}.lock"), busy) if mine else nullcontext():
            yield

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

    def _write(self, manifest: dict[str, Any]) -> None:
        with atomic(self.path / MANIFEST) as part:
            part.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

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
            content = path.read_bytes()
            if any(lines.values()):
                path.with_name(f"{path.name}.damaged").write_bytes(content)
            kept = [line for number, line in enumerate(content.split(b"\n"), 1) if line and number not in lines]
            with atomic(path) as part:
                part.write_bytes(b"".join(line + b"\n" for line in kept))
        self._damaged = {}

    def append(self, records: Iterable[SampleRecord]) -> None:
        """Append records and flush them."""
        path = self.path / "samples.jsonl"
        with path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - 1, 0))
            if file.read(1) not in (b"", b"\n"):
                file.write(b"\n")
            for record in records:
                file.write(json.dumps(record.as_json(), separators=(",", ":")).encode() + b"\n")

    def log(self, text: str) -> None:
        """Append to errors.log."""
        with (self.path / "errors.log").open("a", encoding="utf-8") as file:
            file.write(f"{_now()} {text}\n")


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
    for path in sorted(folder.glob("samples*.jsonl")):
        found, damaged = read_lines(path, _record())
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
