"""Fits the prior tables of a data set's training split."""

from __future__ import annotations

from pathlib import Path

from gtg_bench.benchmark.api.types import Dataset
from gtg_bench.benchmark.paths import atomic
from gtg_bench.methods import priors
from gtg_bench.training.cards import write_card


def fit_table(dataset: Dataset, split: str, folder: Path) -> Path:
    """Write `<folder>/<dataset>.npz` and its card; return the table's path."""
    samples = dataset.samples(split)
    by_image = {sample.image_id: sample for sample in samples}
    maps, mean_image = priors.fit(samples, (dataset.image(sample) for sample in by_image.values()))
    path = folder / f"{dataset.name}.npz"
    with atomic(path) as part:
        priors.save(part, maps, mean_image)
    data = {
        "dataset": dataset.name,
        "dataset_version": dataset.version,
        "dataset_options": dict(dataset.options),
        "split": split,
        "phrases": len(samples),
        "images": len(by_image),
    }
    write_card(folder, title=f"prior tables of {dataset.name}, training split", data=data, keys=len(maps))
    return path
