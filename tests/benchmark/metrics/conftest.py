"""The values of the paper's released code that several files compare with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api.geometry import BoolArray

FOLDER = Path(__file__).parents[2] / "golden"


class Released:
    """Arrays by name, and the boxes and masks of each row. Row 10 has an empty mask."""

    empty = 10

    def __init__(self) -> None:
        with np.load(FOLDER / "metrics.npz") as arrays:
            self.arrays: dict[str, Any] = dict(arrays)
        xywh = json.loads((FOLDER / "metrics.json").read_text())["boxes_xywh"]
        self.boxes = [np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], dtype=float) for boxes in xywh]

    def __getitem__(self, name: str) -> Any:
        return self.arrays[name]

    def mask(self, row: int, suffix: str) -> BoolArray:
        """The mask at 512 x 512 pixels; suffix "" for maps that were rounded to 16 bits, "_f32" for raw ones."""
        return np.unpackbits(self.arrays["mask512_packbits" + suffix][row], axis=-1).astype(bool)


@pytest.fixture(scope="session")
def released() -> Released:
    return Released()
