"""Fits the prior tables of a data set's training split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.types import Dataset, PhraseSample
from gtg_bench.benchmark.paths import atomic
from gtg_bench.methods import priors

EVALUATED = ("test", "all")
"""Splits that results are reported on: a prior that was fitted there would know the answers."""

MEAN_SIDE = 128
"""Pixels of the mean image of a user's table, to which every image is stretched."""

Progress = Callable[[int, int], None]
"""Called with (images read, images in all)."""


@dataclass
class FittedTable:
    """A table that was written.

    Attributes:
        path: its file.
        split: what it was fitted on.
        phrases: samples that it was fitted on; those without a region are left out.
        images: the images that the mean image is made of.
        keys: how many maps it has.
        unread: why images could not be read, in a line each; their regions count nevertheless.
    """

    path: Path
    split: str
    phrases: int
    images: int = 0
    keys: int = 0
    unread: list[str] = field(default_factory=list)


def fit_table(dataset: Dataset, split: str, folder: Path) -> Path:
    """Write `<folder>/<dataset>.npz` and its card; return the table's path."""
    from gtg_bench.training.cards import write_card

    samples = dataset.samples(split)
    by_image = {sample.image_id: sample for sample in samples}
    maps, mean_image = priors.fit(samples, (dataset.image(sample) for sample in by_image.values()))
    path = folder / f"{dataset.name}.npz"
    with atomic(path) as part:
        priors.save(part, maps, mean_image)
    data = {**_origin(dataset, split), "phrases": len(samples), "images": len(by_image)}
    write_card(folder, title=f"prior tables of {dataset.name}, training split", data=data, keys=len(maps))
    return path


def training_split(name: str, splits: Sequence[str], chosen: str | None) -> str:
    """The split to fit on: the chosen one, else `train`.

    Args:
        name: the data set's.
        splits: that it has.
        chosen: the split that the user chose; None for the default.

    Raises:
        UsageError: the set has no training split, or the chosen split is the evaluated one.
    """
    cheating = "a prior fitted on the samples that it is scored on would be cheating"
    elsewhere = "fit it on another data set and use that table with --weights TABLE.npz"
    if chosen in EVALUATED:
        raise UsageError(f"--split {chosen} is what is evaluated: {cheating}; name a training split, or {elsewhere}")
    if chosen is None and "train" not in splits:
        has = ", ".join(splits)
        raise UsageError(f"{name} has no training split (it has: {has}): {cheating}; {elsewhere}")
    return chosen or "train"


def users_table(name: str) -> Path:
    """Where a user's table of a data set is looked up. Raises UsageError where a packaged one would hide it."""
    if priors.packaged(name):
        what = f"the table of {name} that comes with the package counts, so none is fitted in its place"
        raise UsageError(f"{what}; write it elsewhere with --out TABLE.npz, and use it with --weights TABLE.npz")
    return priors.fitted(name)


def fit_user_table(
    dataset: Dataset, split: str, path: Path, progress: Progress = lambda done, total: None
) -> FittedTable:
    """Write the table of a split to `path`; images are read one by one, unreadable ones are left out and named.

    Raises:
        UsageError: the data set has no such split.
        DataError: the split holds no region, or none of its images can be read.
    """
    samples = [sample for sample in dataset.samples(split) if sample.boxes or sample.mask is not None]
    if not samples:
        see = f"see `gtg-bench data check {dataset.name} --data-root DIR`"
        raise DataError(f"split {split!r} of {dataset.name} has no usable region; {see}")
    made = FittedTable(path, split, len(samples))
    images = _images(dataset, samples, made, progress)
    first = next(images, None)
    if first is None:
        raise DataError(f"no image of split {split!r} of {dataset.name} can be read; the first: {made.unread[0]}")
    maps, mean_image = priors.fit(samples, chain([first], images))
    made.keys = len(maps)
    about = {**_origin(dataset, split), "phrases": made.phrases, "images": made.images}
    with atomic(path) as part:
        priors.save(part, maps, mean_image, about)
    return made


def _origin(dataset: Dataset, split: str) -> dict[str, object]:
    return {
        "dataset": dataset.name,
        "dataset_version": dataset.version,
        "dataset_options": dict(dataset.options),
        "split": split,
    }


def _images(
    dataset: Dataset, samples: Sequence[PhraseSample], made: FittedTable, progress: Progress
) -> Iterator[FloatArray]:
    """Every readable image once, float32 [MEAN_SIDE, MEAN_SIDE]."""
    by_image = {sample.image_id: sample for sample in samples}
    for done, sample in enumerate(by_image.values(), start=1):
        try:
            image = dataset.image(sample)
        except DataError as error:
            made.unread.append(str(error))
        else:
            made.images += 1
            size = (image.shape[1], image.shape[0])
            yield Frame.stretch(size, (MEAN_SIDE, MEAN_SIDE)).apply(image)
        progress(done, len(by_image))
