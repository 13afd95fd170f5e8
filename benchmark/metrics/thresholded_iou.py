"""BioViL's mIoU: the foreground IoU averaged over thresholds. The paper's mIoU is another quantity, see `miou`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.arrays import check_arrays, minmax

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def miou_thresholds(values: NDArray[np.floating], region: BoolArray) -> float | None:
    """Mean over THRESHOLDS of the foreground IoU of the pixels above the threshold.

    Source: Boecking et al., Making the Most of Text Semantics to Improve Biomedical Vision-Language Processing, ECCV
    2022 (mIoU of the cosine similarity map, clipped to [0, 1]). The thresholds are absolute, so the score is
    meaningful only for maps on the scale of a cosine. Hardly any pixel of an attention map exceeds 0.1; such maps
    score about 0 whatever they show. Use `miou_thresholds_minmax` for them.

    Args:
        values: float [H, W], finite. Clipping to [0, 1] makes no difference, since all thresholds are inside.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1]. A threshold that no pixel exceeds counts as 0, so a constant map scores the region's share
        of the frame at the thresholds below its value and 0 at the others. None if the region is empty.
    """
    check_arrays(region, values=values)
    return float(ious_above(values, region, THRESHOLDS).mean()) if region.any() else None


def miou_thresholds_minmax(values: NDArray[np.floating], region: BoolArray) -> float | None:
    """Compute `miou_thresholds` of the map after min-max normalisation.

    Invariant to affine rescaling of the map. This benchmark's adaptation of BioViL's metric to maps that are not
    cosines; not comparable with figures of `miou_thresholds`.

    Returns:
        A value in [0, 1], 0 for a constant map. None if the region is empty.
    """
    return miou_thresholds(minmax(values), region)


def ious_above(values: NDArray[np.floating], region: BoolArray, thresholds: Sequence[float]) -> NDArray[np.float64]:
    """Compute the foreground IoU at each threshold; a pixel is predicted where its value is greater.

    Args:
        values: float [H, W], finite.
        region: bool [H, W], not empty, in the same frame.
        thresholds: on the scale of `values`.

    Returns:
        float64 [number of thresholds], each in [0, 1].
    """
    inside = values[region]
    hits = np.array([np.count_nonzero(inside > threshold) for threshold in thresholds])
    found = np.array([np.count_nonzero(values > threshold) for threshold in thresholds])
    return hits / (inside.size + found - hits)
