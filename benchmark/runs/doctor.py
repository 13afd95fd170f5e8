"""`gtg-bench doctor`: find out before a run starts whether it would get through."""

from __future__ import annotations

import dataclasses
import os
import platform
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rich.filesize import decimal

from gtg_bench.benchmark.api.errors import GtgError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.api.types import NO_MODEL, MethodSettings, PhraseSample
from gtg_bench.benchmark.datasets import DATASETS, open_dataset
from gtg_bench.benchmark.datasets.check import Check, Progress
from gtg_bench.benchmark.datasets.check import check as check_data
from gtg_bench.benchmark.paths import cache_dir
from gtg_bench.benchmark.runs.sources import resolve_device

State = Literal["ok", "note", "warning", "error"]
CheckWeights = Callable[[str, str | None], Any]
"""(method, weights) -> a report with `ready`, `parts`, `checks` and `problems`, see `methods.weights.check.check`."""

PACKAGE = "gtg-bench"
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""A container's memory limit and usage, in cgroup versions 2 and 1."""

# Generous estimates, in bytes; measured.
RECORD = 1600  # a record, and the overhead of a map file
LIBRARIES, TORCH_LIBRARIES = 0.3e9, 1.2e9
MODEL_FACTOR = 2  # weights and activations over weight files: 1.7 for Stable Diffusion 1.5 in float32

_MAP_CELLS = {"ldm": 64 * 64, "prior": 64 * 64, "discriminative": 32 * 32}
_SPARE_DISK = 2**30


@dataclass(frozen=True)
class Plan:
    """A planned run; the attributes are the options of `run`."""

    methods: tuple[str, ...] = ("cxrbert-ldm",)
    weights: str | None = None
    sampling: str = "gt-cfg"
    dataset: str = "phantom"
    data_root: Path | None = None
    dataset_options: Mapping[str, str] = field(default_factory=dict)
    split: str = "test"
    device: str = "auto"
    batch_size: int = 16
    runs_dir: Path = Path("runs")


@dataclass
class Diagnosis:
    """The outcome of all checks."""

    lines: list[Check] = field(default_factory=list)  # an "error" would stop the run or leave it without samples
    versions: dict[str, str] = field(default_factory=dict)  # of Python and the required packages
    needs: dict[str, int] = field(default_factory=dict)  # bytes of disk and memory: needed, free, total
    data: dict[str, Any] | None = None  # as `data check --json` prints it; None if the data set needs no files
    weights: dict[str, Any] = field(default_factory=dict)  # method -> as `weights check --json` prints it

    @property
    def fine(self) -> bool:
        """Whether the run would get through."""
        return all(line.state != "error" for line in self.lines)

    def add(self, name: str, state: State, text: str) -> None:
        """Add the outcome of a check."""
        self.lines.append(Check(name, state, " ".join(text.split())))

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = dataclasses.asdict(self)
        return {"ok": self.fine, "checks": values.pop("lines"), **values}


def examine(plan: Plan, check_weights: CheckWeights, progress: Progress = lambda done, total: None) -> Diagnosis:
    """Check everything that a run needs. Problems are reported, not raised; nothing is downloaded.

    Args:
        plan: the run.
        check_weights: checks the weights of a method.
        progress: called with the number of images checked and their total.
    """
    found = Diagnosis()
    _check_packages(found)
    samples = _check_data(found, plan, progress)
    entries: list[MethodEntry] = []
    for name in plan.methods:
        try:
            entries.append(METHODS.get(name))
        except GtgError as error:
            found.add("method", "error", str(error))
    ready = [entry for entry in entries if _check_weights(found, plan, entry, check_weights)]
    device = _check_device(found, plan.device, entries)
    if ready:
        _check_disk(found, plan, samples, ready)
        _check_memory(found, plan, samples, ready, device)
    return found


def _check_packages(found: Diagnosis) -> None:
    """Check that the required packages are installed in versions that fit, and whether the optional ones are."""
    from packaging.requirements import Requirement

    found.versions = {"python": platform.python_version(), PACKAGE: version(PACKAGE)}
    needed = [(PACKAGE, Requirement(text)) for text in requires(PACKAGE) or ()]
    with suppress(PackageNotFoundError):  # a torch that does not match torchvision fails on import
        pins = [("torchvision", Requirement(text)) for text in requires("torchvision") or ()]
        needed += [(owner, need) for owner, need in pins if need.name == "torch"]
    for owner, need in needed:
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{need.name}{need.specifier}"
        try:
            there = found.versions[need.name] = version(need.name)
        except PackageNotFoundError:
            found.add("packages", "error", f"{need.name} is not installed: pip install '{wanted}'")
            continue
        if not need.specifier.contains(there.partition("+")[0], prereleases=True):
            state: State = "warning" if owner == PACKAGE else "error"
            found.add("packages", state, f"{owner} needs {wanted}, but {there} is installed: pip install '{wanted}'")
    if not found.lines:
        found.add("packages", "ok", f"Python {found.versions['python']}, all required packages are installed")
    if find_spec("pylibjpeg") is None:
        found.add("extras", "note", f"compressed DICOM files cannot be read without pip install '{PACKAGE}[dicom]'")


def _check_data(found: Diagnosis, plan: Plan, progress: Progress) -> Sequence[PhraseSample]:
    """Check the data set's files; returns the samples of the split, or none if it cannot be opened."""
    try:
        if plan.dataset in DATASETS and DATASETS[plan.dataset].needs_data_root:
            report = check_data(plan.dataset, plan.data_root, plan.dataset_options, progress=progress)
            found.data = report.as_json()
            wrong = [problem for problem in report.problems if not problem.warning]
            usable, pairs = report.counts.get("usable", 0), report.counts.get("pairs", 0)
            text = f"{usable} of {pairs} pairs are usable"
            if wrong:
                problems = f"{number_of(len(wrong), 'problem')}, the first: {wrong[0]}"
                words = ["gtg-bench", "data", "check", report.dataset, "--data-root", str(plan.data_root)]
                for key, value in plan.dataset_options.items():
                    words += ["--dataset-option", f"{key}={value}"]
                text += f"; {problems}. All of them: {shlex.join(words)}"
            if report.version:  # else opening it raises below
                found.add("data", "ok" if not wrong else "warning" if usable else "error", text)
        samples = open_dataset(plan.dataset, plan.data_root, plan.dataset_options).samples(plan.split)
    except GtgError as error:
        found.add("data", "error", str(error))
        return []
    found.add("samples", "ok" if samples else "error", f"{plan.dataset}, split {plan.split}: {len(samples)} samples")
    return samples


def _check_weights(found: Diagnosis, plan: Plan, entry: MethodEntry, check_weights: CheckWeights) -> bool:
    """Check that a method's weights are complete and its settings possible."""
    name, kind = entry.name, entry.card.kind
    command = f"gtg-bench weights check {name}" + (f" --weights {shlex.quote(plan.weights)}" if plan.weights else "")
    try:
        report = None if kind in (*NO_MODEL, "plug-in") else check_weights(name, plan.weights)
        found.weights[name] = report and dataclasses.asdict(report)
        if report is not None and not report.ready:
            states = dict.fromkeys(part.state for part in report.parts if part.state != "found")
            parts = [f"{state}: {', '.join(p.part for p in report.parts if p.state == state)}" for state in states]
            checks = [f"{row.check}: {row.detail}" for row in report.checks if not row.ok]
            reason = "; ".join([*parts, *checks, *report.problems])
            found.add("weights", "error", f"{name}, {reason}. For details: {command}")
            return False
        wanted = MethodSettings(name, weights=plan.weights, sampling=plan.sampling, dataset=plan.dataset)
        settings = entry.completed(wanted)
    except GtgError as error:
        found.add("weights", "error", f"{name}: {error}")
        return False
    text = f"{name}: {settings.weights or 'needs none'}"
    found.add("weights", "ok", f"{text}, version {settings.weights_version}" if settings.weights_version else text)
    return True


def _check_device(found: Diagnosis, wanted: str, entries: Sequence[MethodEntry]) -> str:
    """Check the device that the methods will compute on; returns its name."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    cpu = f"CPU, {threads} threads" + (f" (OMP_NUM_THREADS={limit})" if limit else "")
    models = [entry for entry in entries if entry.card.kind not in NO_MODEL]
    try:
        chosen = resolve_device(wanted, (models or entries)[0]) if entries else "cpu"
    except UsageError as error:
        found.add("device", "error", str(error))
        return "cpu"
    if chosen == "cpu":
        found.add("device", "ok", f"{cpu}; no CUDA device found" if wanted == "auto" and models else cpu)
    elif chosen.startswith("cuda"):
        import torch

        card = f"{torch.cuda.get_device_name(chosen)}, CUDA {torch.version.cuda}"
        found.add("device", "ok", f"{chosen}: {card}; {cpu}")
    else:
        found.add("device", "ok", f"{chosen}; {cpu}")
    return chosen


def _check_disk(found: Diagnosis, plan: Plan, samples: Sequence[PhraseSample], entries: Sequence[MethodEntry]) -> None:
    """Check that maps and records fit on the disk, and that the folders are writable."""
    try:
        cache = cache_dir()
    except OSError as error:
        cache = Path(error.filename or ".")
    fixes = {plan.runs_dir: "choose another --runs-dir", cache: "set GTG_BENCH_CACHE to another folder"}
    for folder, fix in fixes.items():
        if not os.access(_existing(folder), os.W_OK | os.X_OK):
            state: State = "error" if folder == plan.runs_dir else "warning"  # a cache may hold what is needed
            found.add("disk", state, f"{_existing(folder)} is not writable: {fix}")
    cells = [_MAP_CELLS.get(entry.card.kind) or _mean_pixels(samples) for entry in entries]
    need = sum(len(samples) * (RECORD + 4 * size) for size in cells)
    free = shutil.disk_usage(_existing(plan.runs_dir)).free
    found.needs |= {"disk": need, "disk_free": free}
    state = "error" if need > free else "warning" if need + _SPARE_DISK > free else "ok"
    advice = "" if state == "ok" else ": free some space or choose another --runs-dir"
    found.add("disk", state, f"about {decimal(need)} needed in {plan.runs_dir}, {decimal(free)} free{advice}")


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return next((place for place in (path.absolute(), *path.absolute().parents) if os.path.exists(place)), Path("/"))


def _mean_pixels(samples: Sequence[PhraseSample]) -> int:
    pixels = [sample.image_size[0] * sample.image_size[1] for sample in samples]
    return sum(pixels) // len(pixels) if pixels else 0


def _check_memory(
    found: Diagnosis, plan: Plan, samples: Sequence[PhraseSample], entries: Sequence[MethodEntry], device: str
) -> None:
    """Check roughly that the largest method fits into memory."""
    reports = [found.weights.get(entry.name) or {} for entry in entries]
    model = MODEL_FACTOR * max(sum(part["size"] or 0 for part in report.get("parts", [])) for report in reports)
    libraries = LIBRARIES if all(entry.card.kind in NO_MODEL for entry in entries) else TORCH_LIBRARIES
    host = int(libraries) + 2 * plan.batch_size * 4 * _mean_pixels(samples)
    on_gpu = device.startswith("cuda")
    _compare(found, "memory", host if on_gpu else host + model, *_host_memory())
    if on_gpu:
        import torch

        _compare(found, "gpu_memory", model, *torch.cuda.mem_get_info(device))


def _compare(found: Diagnosis, name: str, need: int, free: int | None = None, total: int | None = None) -> None:
    label, text = name.replace("_", " "), f"about {decimal(need)} needed"
    found.needs[name] = need
    if free is None or total is None:
        found.add(label, "note", f"{text}; the available memory is unknown on this system")
        return
    found.needs |= {f"{name}_free": free, f"{name}_total": total}
    state: State = "error" if need > total else "warning" if need > free else "ok"
    advice = "" if state == "ok" else ": use a smaller --batch-size, or another --device"
    found.add(label, state, f"{text}, {decimal(free)} of {decimal(total)} free{advice}")


def _host_memory() -> tuple[int, int] | tuple[()]:
    """(free, total) bytes of this machine or container; empty where the system does not say."""
    try:
        lines = (line.partition(":") for line in Path("/proc/meminfo").read_text().splitlines())
        sizes = {name: size for name, _, size in lines}
        total, free = (int(sizes[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return ()
    for limit, used in CGROUPS:
        with suppress(OSError, ValueError):  # no such group, or "max"
            if (allowed := int(Path(limit).read_text())) < total:
                total, free = allowed, min(free, max(0, allowed - int(Path(used).read_text())))
    return free, total
