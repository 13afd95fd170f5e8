"""The maps of a run, one npz a sample: values as the method gave them, and the frame they span."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.types import GroundingMap
from gtg_bench.benchmark.paths import atomic


class MapStore:
    """Maps in `<run>/maps/`, by sample id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "maps"

    def save(self, sample_id: str, grounding: GroundingMap) -> None:
        """Keep a map."""
        frame = grounding.frame
        numbers = np.array([*frame.image_size, *frame.resized, *frame.window], dtype=np.int64)
        with atomic(self._path(sample_id)) as part:
            np.savez(part, values=grounding.values, frame=numbers)

    def load(self, sample_id: str) -> GroundingMap:
        """A kept map. Raises DataError if there is none."""
        path = self._path(sample_id)
        if not path.exists():
            raise DataError(f"{self.folder} holds no map of sample {sample_id}; is it a run of the same samples?")
        with np.load(path) as archive:
            values, n = archive["values"], [int(number) for number in archive["frame"]]
        return GroundingMap(values, Frame((n[0], n[1]), (n[2], n[3]), (n[4], n[5], n[6], n[7])))

    def _path(self, sample_id: str) -> Path:
        return self.folder / f"{hashlib.sha256(sample_id.encode()).hexdigest()[:24]}.npz"
