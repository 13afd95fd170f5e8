"""Cost of reading images from files beside a method's own work, on radiographs of the usual size."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from PIL import Image

from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.registry import MethodEntry
from gtg_bench.benchmark.api.types import MethodSettings, PhraseSample
from gtg_bench.benchmark.datasets.images import read_image
from gtg_bench.benchmark.runs.sources import ModelSource
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.scoring.trial import Trial

SIZE = (2544, 3056)
"""(width, height) of most images of MIMIC-CXR-JPG."""


@dataclass(frozen=True)
class FilesCost:
    """Seconds to ground one phrase on each of `files` images, without scoring."""

    files: int
    workers: int
    in_memory_seconds: float
    """The method alone: every batch of images is decoded before the clock starts."""
    seconds: float
    """With the images read from their files."""

    @property
    def ratio(self) -> float:
        """The latter by the former; 1 where reading is hidden completely."""
        return self.seconds / self.in_memory_seconds


@dataclass(frozen=True)
class _Files:
    """Radiographs in a folder: noise on a smooth ground, so that they compress like real ones."""

    samples_: Sequence[PhraseSample]
    name: ClassVar[str] = "files"
    version: ClassVar[str] = "1"
    options: ClassVar[dict[str, str]] = {}
    decoded: dict[str, FloatArray] = field(default_factory=dict)
    """Images that are already in memory, by sample."""

    def samples(self, split: str) -> Sequence[PhraseSample]:
        return self.samples_

    def image(self, sample: PhraseSample) -> FloatArray:
        if sample.sample_id in self.decoded:
            return self.decoded[sample.sample_id]
        assert sample.image_path is not None
        return read_image(sample.image_path)


def files_cost(entry: MethodEntry, settings: MethodSettings, files: int, batch: int, workers: int) -> FilesCost:
    """Measure a method on generated JPEG files, and on the same images in memory.

    Args:
        entry: the method.
        settings: its complete settings.
        files: number of images, each with one phrase.
        batch: samples per batch.
        workers: threads that read ahead, see `runs.feeding`.
    """
    with _written(files) as samples:
        trials = plan(samples, "none")
        batches = [trials[start : start + batch] for start in range(0, files, batch)]
        data = _Files(samples)
        source, in_memory = _ready(entry, settings, data), 0.0
        for some in batches:
            data.decoded.update((trial.sample.sample_id, data.image(trial.sample)) for trial in some)
            in_memory += _seconds(source, [some])
            data.decoded.clear()
        source = _ready(entry, settings, data)
        with source.images.ahead(samples, workers, batch):
            seconds = _seconds(source, batches)
    return FilesCost(files, workers, in_memory, seconds)


def _ready(entry: MethodEntry, settings: MethodSettings, data: _Files) -> ModelSource:
    """A method of its own, so that no image is encoded yet; loaded and warm."""
    source = ModelSource(entry, settings, data)
    grey = np.full(SIZE[::-1], 0.5, dtype=np.float32)
    source.method.ground(grey, data.samples_[0].phrase)
    return source


def _seconds(source: ModelSource, batches: Sequence[Sequence[Trial]]) -> float:
    """Wall time of grounding. Raises the error of a sample that fails."""

    def fail(trial: Trial, error: Exception) -> None:
        raise error

    started = time.perf_counter()
    for batch in batches:
        for _ in source.maps(batch, fail):
            pass
    return time.perf_counter() - started


@contextmanager
def _written(files: int) -> Iterator[list[PhraseSample]]:
    """Samples on distinct images in a temporary folder."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 4, SIZE[::-1]).astype(np.float32)
    with TemporaryDirectory() as folder:
        samples = []
        for number in range(files):
            ground = Image.fromarray(rng.random((16, 16), dtype=np.float32) * 255).resize(
                SIZE, Image.Resampling.BICUBIC
            )
            path = Path(folder, f"{number}.jpg")
            Image.fromarray(np.clip(np.asarray(ground) + noise, 0, 255).astype(np.uint8)).save(path, quality=90)
            box = (600.0, 600.0, 1200.0, 1200.0)
            name = str(number)
            samples.append(PhraseSample(name, name, name, path, "left pleural effusion", "Effusion", (box,), SIZE))
        yield samples
