"""`gtg-bench doctor`: whether a run would get through, said before it starts. Imports torch only to ask for a GPU."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import GtgError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry, load_object
from gtg_bench.benchmark.api.types import MethodSettings, PhraseSample
from gtg_bench.benchmark.datasets import DATASETS, open_dataset
from gtg_bench.benchmark.datasets.check import Check, Progress, Report, State
from gtg_bench.benchmark.datasets.check import check as check_data
from gtg_bench.benchmark.paths import cache_dir

WEIGHTS = "gtg_bench.methods.weights.report:check"
"""What looks at a method's weights; resolved by name, so this room depends on no method."""

PACKAGE = "gtg-bench"
NVIDIA = Path("/proc/driver/nvidia/version")
"""There where an NVIDIA driver is; without it torch need not be asked."""

RECORD = 1600
"""Bytes of a sample's record, and of what surrounds its map's values in their file: generous."""

LIBRARIES = {"prior": 0.3e9, "baseline": 0.3e9}
"""Bytes that the libraries take, by kind of method; measured, generous. Other kinds load torch."""

WITH_TORCH = 1.2e9
UNET_POSITIONS, UNET_COPIES, VAE_COPIES = 2**16, 25, 6
"""Rows times latent cells of one forward, and how many of its widest feature maps are alive at a time: measured with
random weights of Stable Diffusion 1.5's size (U-Net 25 of 5.2 MB a row, autoencoder 5 of 134 MB an image)."""

CONTAINER = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files of a container's limit of memory and what is used of it, of both versions of Linux' control groups."""

_MAP_CELLS = {"prior": 64 * 64, "discriminative": 32 * 32}
_KEPT_FREE = 2**30
_HALVES = {"F16", "BF16"}
_NO_MODEL = ("prior", "baseline")


@dataclass(frozen=True)
class Plan:
    """A run to be.

    Attributes:
        methods, weights, sampling, dataset, data_root, options, split, device, batch_size, runs_dir: as `run` takes
            them.
    """

    methods: tuple[str, ...] = ("cxrbert-ldm",)
    weights: str | None = None
    sampling: str = "gt-cfg"
    dataset: str = "phantom"
    data_root: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    split: str = "test"
    device: str = "auto"
    batch_size: int = 16
    runs_dir: Path = Path("runs")


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        lines: each check; an "error" would stop the run, or leave it without a single sample.
        versions: of Python and the packages that are needed.
        needs: bytes on the disk and in memory, estimated, and what there is of both; absent where it is not known.
        data: as `data check --json` has it; None where the set needs no files.
        weights: method -> as `weights check --json` has it.
    """

    lines: list[Check] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    needs: dict[str, int] = field(default_factory=dict)
    data: dict[str, Any] | None = None
    weights: dict[str, Any] = field(default_factory=dict)

    @property
    def fine(self) -> bool:
        """Whether nothing would stop the run."""
        return all(line.state != "error" for line in self.lines)

    def add(self, name: str, state: State, text: str) -> None:
        """A check's outcome."""
        self.lines.append(Check(name, state, " ".join(text.split())))

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        lines = [asdict(line) for line in self.lines]
        return {"ok": self.fine, "checks": lines} | {
            name: getattr(self, name) for name in ("versions", "needs", "data", "weights")
        }


def examine(plan: Plan, progress: Progress = lambda done, total: None) -> Diagnosis:
    """Look at everything that a run needs. What is wrong is in the diagnosis; nothing is raised, fetched or written."""
    found = Diagnosis()
    _versions(found)
    samples = _data(found, plan, progress)
    known = [entry for name in plan.methods if (entry := _method(found, name))]
    ready = [entry for entry in known if _ready(found, plan, entry)]
    device = _device(found, plan.device, known)
    if ready:
        _disk(found, plan, samples, ready)
        _memory(found, plan, samples, ready, device)
    return found


def _versions(found: Diagnosis) -> None:
    """Python and every package that this one needs: are they there, and of a version that fits?"""
    from packaging.requirements import Requirement

    found.versions = {"python": platform.python_version(), PACKAGE: version(PACKAGE)}
    wrong: list[tuple[State, str]] = []
    needed = [(PACKAGE, Requirement(text)) for text in requires(PACKAGE) or ()]
    for owner, need in [*needed, *_pins(("torchvision", "torch"))]:
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found.versions[need.name] = there = version(need.name)
        except PackageNotFoundError:
            wrong.append(("error", f"{need.name} is not installed: pip install {need.name!r}"))
            continue
        if not need.specifier.contains(there.partition("+")[0], prereleases=True):
            state: State = "warning" if owner == PACKAGE else "error"
            wrong.append((state, f"{owner} wants {need.name}{need.specifier}, but {there} is installed"))
    for state, text in wrong:
        found.add("versions", state, text)
    if not wrong:
        text = f"Python {found.versions['python']} and {len(found.versions) - 1} packages as this project needs them"
        found.add("versions", "ok", text)


def _pins(*pairs: tuple[str, str]) -> Iterable[tuple[str, Any]]:
    """What one package demands of another where a mismatch fails on import."""
    from packaging.requirements import Requirement

    for owner, name in pairs:
        try:
            yield from ((owner, need) for text in requires(owner) or () if (need := Requirement(text)).name == name)
        except PackageNotFoundError:
            continue


def _data(found: Diagnosis, plan: Plan, progress: Progress) -> Sequence[PhraseSample]:
    """The samples of the split; none where the set cannot be opened."""
    try:
        if plan.dataset in DATASETS and DATASETS[plan.dataset].needs_data_root:
            report = check_data(plan.dataset, plan.data_root, plan.options, progress=progress)
            found.data = report.as_json()
            _checked_data(found, report)
        samples = open_dataset(plan.dataset, plan.data_root, plan.options).samples(plan.split)
    except GtgError as error:
        found.add("data", "error", str(error))
        return []
    text = f"{plan.dataset}, split {plan.split}: {len(samples)} samples"
    found.add("samples", "ok" if samples else "error", text)
    return samples


def _checked_data(found: Diagnosis, report: Report) -> None:
    """What `data check` says, in a line."""
    wrong = [problem for problem in report.problems if not problem.warning]
    pairs, usable = report.counts.get("pairs", 0), report.counts.get("usable", 0)
    first = f"; the first: {wrong[0]}" if wrong else ""
    text = f"{usable} of {pairs} pairs can be used, {len(wrong)} problem{'s' * (len(wrong) != 1)}{first}"
    if report.version and not wrong:
        found.add("data", "ok", text)
    elif report.version:
        found.add(
            "data", "warning" if usable else "error", f"{text}; all of them: gtg-bench data check {report.dataset}"
        )


def _method(found: Diagnosis, name: str) -> MethodEntry | None:
    try:
        return METHODS.get(name)
    except GtgError as error:
        found.add("method", "error", str(error))
        return None


def _ready(found: Diagnosis, plan: Plan, entry: MethodEntry) -> bool:
    """Whether a method's weights are there and its settings are possible."""
    name, kind = entry.name, entry.card.kind
    wanted = MethodSettings(name, weights=plan.weights, sampling=plan.sampling, dataset=plan.dataset)
    try:
        report = None if kind in (*_NO_MODEL, "plug-in") else load_object(WEIGHTS)(name, plan.weights)
        found.weights[name] = report and dataclasses.asdict(report)
        if report is not None and not report.ready:
            found.add("weights", "error", f"{name}: {_why(report)}; see gtg-bench weights check {name}")
            return False
        settings = entry.completed(wanted)
    except GtgError as error:
        found.add("weights", "error", f"{name}: {error}")
        return False
    text = f"{name}: {settings.weights or 'needs none'}"
    found.add("weights", "ok", f"{text}, version {settings.weights_version}" if settings.weights_version else text)
    return True


def _why(report: Any) -> str:
    """Why weights are not ready, in a line."""
    parts = [f"{part.part} is {part.state}" for part in report.parts if part.state != "here"]
    checks = [f"{row.check}: {row.detail}" for row in report.checks if not row.ok]
    return "; ".join([*parts, *checks, *report.problems]) or "its weights are not ready"


def _device(found: Diagnosis, wanted: str, entries: Sequence[MethodEntry]) -> str:
    """Where the methods will compute; "cpu" if that cannot be said."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    cpu = f"CPU, {threads} threads" + (f" (OMP_NUM_THREADS={limit})" if limit else "")
    model = any(entry.card.kind not in _NO_MODEL for entry in entries)
    if wanted == "cpu" or not model:
        found.add("device", "ok", cpu)
    elif wanted == "auto" and platform.system() == "Linux" and not NVIDIA.exists():
        found.add("device", "ok", f"{cpu}; no NVIDIA driver here")
    else:
        return _asked_torch(found, wanted, cpu)
    return "cpu"


def _asked_torch(found: Diagnosis, wanted: str, cpu: str) -> str:
    """The device that torch would use."""
    import torch

    if wanted == "auto" and not torch.cuda.is_available():
        found.add("device", "ok", f"{cpu}; torch {torch.__version__} sees no CUDA device")
        return "cpu"
    chosen = "cuda" if wanted == "auto" else wanted
    try:
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        found.add("device", "error", f"--device {wanted} cannot be used here ({reason}); try --device auto")
        return "cpu"
    if not chosen.startswith("cuda"):
        found.add("device", "ok", f"{chosen}; {cpu}")
        return "cpu"
    free, total = torch.cuda.mem_get_info(chosen)
    found.needs |= {"gpu_memory_free": free, "gpu_memory_total": total}
    found.add("device", "ok", f"{chosen}: {torch.cuda.get_device_name(chosen)}, CUDA {torch.version.cuda}; {cpu}")
    return chosen


def _disk(found: Diagnosis, plan: Plan, samples: Sequence[PhraseSample], entries: Sequence[MethodEntry]) -> None:
    """Whether the maps and records fit on the disk, and whether their folders can be written to."""
    for name, folder in (("runs", plan.runs_dir), ("cache", _cache())):
        place = _existing(folder)
        if not os.access(place, os.W_OK | os.X_OK):
            found.add("disk", "error", f"the folder {place} for {name} cannot be written to; choose another one")
    need = sum(len(samples) * (RECORD + 4 * _cells(found, entry, samples)) for entry in entries)
    free = shutil.disk_usage(_existing(plan.runs_dir)).free
    found.needs |= {"disk": need, "disk_free": free}
    state: State = "error" if need > free else "warning" if need + _KEPT_FREE > free else "ok"
    text = f"about {_size(need)} of maps and records in {plan.runs_dir}, where {_size(free)} are free"
    found.add("disk", state, text)


def _cache() -> Path:
    try:
        return cache_dir()
    except OSError as error:
        return Path(error.filename or ".")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next((place for place in (path.absolute(), *path.absolute().parents) if os.path.exists(place)), Path("/"))


def _cells(found: Diagnosis, entry: MethodEntry, samples: Sequence[PhraseSample]) -> int:
    """Cells of one map; those of the image where the method may give as many."""
    side = _config(found, entry, "unet").get("sample_size")
    if entry.card.kind == "ldm" and isinstance(side, int):
        return side * side
    return _MAP_CELLS.get(entry.card.kind) or _mean_pixels(samples)


def _mean_pixels(samples: Sequence[PhraseSample]) -> int:
    pixels = [sample.image_size[0] * sample.image_size[1] for sample in samples]
    return sum(pixels) // len(pixels) if pixels else 0


def _memory(
    found: Diagnosis, plan: Plan, samples: Sequence[PhraseSample], entries: Sequence[MethodEntry], device: str
) -> None:
    """Whether the largest of the methods fits into the memory, roughly."""
    images = 2 * plan.batch_size * 4 * _mean_pixels(samples)
    libraries = max(LIBRARIES.get(entry.card.kind, WITH_TORCH) for entry in entries)
    model = max(_model_bytes(found, entry) for entry in entries)
    on_gpu = device.startswith("cuda")
    host = int(libraries + images + (0 if on_gpu else model))
    total, free = _host_memory()
    known = {"memory": host, "memory_total": total, "memory_free": free}
    found.needs |= {name: size for name, size in known.items() if size is not None}
    _fits(found, "memory", f" (libraries, {plan.batch_size} images at a time{', model' * (not on_gpu)})")
    if on_gpu:
        found.needs["gpu_memory"] = model
        _fits(found, "gpu_memory")


def _fits(found: Diagnosis, name: str, what: str = "") -> None:
    """Compare what is needed of a kind of memory with what there is of it."""
    need, free, total = (found.needs.get(f"{name}{part}") for part in ("", "_free", "_total"))
    assert need is not None
    text = f"about {_size(need)}{what}"
    if free is None or total is None:
        found.add(name.replace("_", " "), "note", f"{text}; how much there is, is not known here")
        return
    state: State = "error" if need > total else "warning" if need > free else "ok"
    found.add(name.replace("_", " "), state, f"{text}, where {_size(free)} of {_size(total)} are free")


def _model_bytes(found: Diagnosis, entry: MethodEntry) -> int:
    """Weights in float32, and what a forward needs beside them. 0 for methods that say nothing about their weights."""
    parts = (found.weights.get(entry.name) or {}).get("parts", [])
    weights = sum((part["size"] or 0) * (2 if _is_half(Path(part["where"])) else 1) for part in parts)
    unet, vae = _config(found, entry, "unet"), _config(found, entry, "vae")
    side = unet.get("sample_size") or 0
    widths, vae_widths = (config.get("block_out_channels") or [0] for config in (unet, vae))
    pixels = (side * 2 ** (len(vae_widths) - 1)) ** 2
    return weights + 4 * (UNET_COPIES * UNET_POSITIONS * widths[0] + VAE_COPIES * pixels * vae_widths[0])


def _config(found: Diagnosis, entry: MethodEntry, part: str) -> dict[str, Any]:
    """The config.json of a part of a method's weights; {} where there is none."""
    parts = (found.weights.get(entry.name) or {}).get("parts", [])
    where = next((Path(row["where"]) for row in parts if row["part"] == part and row["where"]), None)
    try:
        read = json.loads((where / "config.json").read_text()) if where else {}
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _is_half(place: Path) -> bool:
    """Whether the weights at a place are stored in 16 bits, by the header of the first safetensors file."""
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    try:
        with files[0].open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    except (OSError, ValueError, IndexError, struct.error, MemoryError, OverflowError):
        return False
    return any(isinstance(row, dict) and row.get("dtype") in _HALVES for row in header.values())


def _host_memory() -> tuple[int | None, int | None]:
    """(total, free) bytes of this machine, or of the container that the process is in."""
    total = _number(lambda: os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    free = _number(_available)
    for names in CONTAINER:
        limit, used = (_number(_read_number(Path(name))) for name in names)
        if limit is not None and total is not None and limit < total:
            total, free = limit, min(limit if free is None else free, max(0, limit - (used or 0)))
    return total, free


def _available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _read_number(path: Path) -> Callable[[], int]:
    return lambda: int(path.read_text())


def _number(read: Callable[[], int]) -> int | None:
    try:
        return read()
    except (OSError, ValueError, StopIteration, AttributeError):
        return None


def _size(count: int) -> str:
    """Bytes as people say them, in powers of ten."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"
