"""How much two maps agree: rank correlation and structural similarity."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.types import GroundingMap, SampleRecord
from gtg_bench.benchmark.metrics.arrays import minmax

GRID = 64
Grid = tuple[NDArray[np.float32], NDArray[np.bool_]]


def on_grid(grounding: GroundingMap, shift: int = 0) -> Grid:
    """A map on a grid of 64 x 64 cells over its image, and which cells it covers.

    Args:
        grounding: the map.
        shift: pixels by which the image was moved right and down; the map is moved back.
    """
    frame = grounding.frame
    whole = Frame.stretch(frame.image_size, (GRID, GRID))
    if not shift:
        return frame.carry(grounding.values, whole)
    own = Frame.original(frame.image_size)
    values, covered = frame.carry(grounding.values, own)
    values = np.pad(values, ((0, shift), (0, shift)), mode="edge")[shift:, shift:]
    inside = np.pad(covered, ((0, shift), (0, shift)))[shift:, shift:]
    return own.carry(values, whole)[0], own.carry(inside.astype(np.float32), whole)[0] > 0.99


def rank_correlation(one: Grid, other: Grid) -> float | None:
    """Spearman's correlation on the cells that both maps cover.

    1 if they are equal there, 0 if one of them is constant there, None without such a cell.
    """
    from scipy.stats import rankdata

    both = one[1] & other[1]
    if not both.any():
        return None
    a, b = one[0][both], other[0][both]
    if np.array_equal(a, b):
        return 1.0
    if not np.ptp(a) or not np.ptp(b):
        return float(np.ptp(a) == np.ptp(b))
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def structural_similarity(one: Grid, other: Grid) -> float:
    """SSIM of two min-max normalised maps on the grid (Wang et al., IEEE TIP 2004); uncovered cells are 0."""
    from skimage.metrics import structural_similarity as ssim

    a, b = (
        minmax(np.where(covered, values, values[covered].min() if covered.any() else 0))
        for values, covered in (one, other)
    )
    return float(ssim(a, b, data_range=1.0))


def random_pairs(records: Mapping[str, SampleRecord]) -> dict[str, str]:
    """A partner on another patient's image for each sample, by hash; none if all are of one patient."""
    names = sorted(records, key=lambda name: sha256(name.encode()).digest())
    found = {}
    for place, name in enumerate(names):
        others = (names[(place + step) % len(names)] for step in range(1, len(names)))
        own = records[name].patient_id
        partner = next((other for other in others if records[other].patient_id != own), None)
        if partner is not None:
            found[name] = partner
    return found
