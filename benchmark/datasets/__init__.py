"""The data sets by name. Nothing is imported before it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import load_object, unknown
from gtg_bench.benchmark.api.types import Dataset


@dataclass(frozen=True)
class DatasetEntry:
    """A data set as the registry knows it; `target` is "module:class", called with (data_root, options)."""

    summary: str
    target: str
    splits: tuple[str, ...]
    options: str
    needs_data_root: bool
    terms: str


_HERE = "gtg_bench.benchmark.datasets"
DATASETS: dict[str, DatasetEntry] = {
    "phantom": DatasetEntry(
        summary="generated chest radiographs with exact boxes; needs no data",
        target=f"{_HERE}.phantom.dataset:PhantomDataset",
        splits=("train", "validate", "test"),
        options="seed=N (another world)",
        needs_data_root=False,
        terms="MIT, made here",
    ),
    "chestxray14": DatasetEntry(
        summary="ChestX-ray14's 984 official boxes of 8 findings; the class label is the phrase",
        target=f"{_HERE}.chestxray14:ChestXray14Dataset",
        splits=("test",),
        options="images=DIR, phrase=TEMPLATE with {label}, present-only=true",
        needs_data_root=True,
        terms="NIH Clinical Center: free to use, cite Wang et al., CVPR 2017",
    ),
}


def open_dataset(name: str, data_root: Path | None, options: Mapping[str, str]) -> Dataset:
    """Open a data set. Raises UsageError for an unknown name or option, DataError for a broken file."""
    if name not in DATASETS:
        raise UsageError(unknown("data set", name, DATASETS))
    entry = DATASETS[name]
    if entry.needs_data_root and data_root is None:
        raise UsageError(f"{name} needs --data-root DIR, the folder with its annotations and images")
    if data_root is not None and not data_root.is_dir():
        raise UsageError(f"--data-root {data_root} is no folder")
    return load_object(entry.target)(data_root, options)
