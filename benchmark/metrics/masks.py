"""From a map to a binary mask: the mixture, Otsu's and a fixed threshold; carrying a mask to another frame.

Source of the mixture: paper, section 2.3 ("a Gaussian Mixture Model to the activation map"); the threshold's form, the
3x3 filter and the rounding after the resize follow the released code, number for number. A fixed threshold that is
chosen on a validation split comes from `best_threshold`.
"""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame
from gtg_bench.benchmark.metrics.mixture import mixture_threshold
from gtg_bench.benchmark.metrics.scaling import minmax


def mixture_mask(values: FloatArray, random_state: int = 0) -> BoolArray:
    """The mask of a map: above the middle of a two-component mixture, then filtered.

    Args:
        values: float32 [h, w], finite, any range, on the map's native grid. The mixture is fitted to every value of
            this grid, so masks of the same map on a finer grid differ a little.
        random_state: of the mixture's k-means start.

    Returns:
        bool [h, w], same frame and grid. A constant map separates nothing and gives an empty mask; an empty mask
        also comes out where only scattered cells pass the threshold and the filter takes them away.
    """
    spread = minmax(values)
    if not spread.any():
        return np.zeros(spread.shape, dtype=bool)
    return mean_filtered(spread > mixture_threshold(spread, random_state))


def otsu_mask(values: FloatArray) -> BoolArray:
    """The mask of a map: above Otsu's threshold of its values, in 256 bins between lowest and highest; not filtered.

    Source: Otsu, A Threshold Selection Method from Gray-Level Histograms, 1979, as scikit-image has it. CheXlocalize
    (Saporta et al., 2022) does the same to the map in the image's own pixels, rounded down to 8 bits first: its
    threshold lies within a bin or two of this one.

    Args:
        values: float32 [h, w], finite, any range, any frame and grid.

    Returns:
        bool [h, w], same frame and grid. A constant map separates nothing and gives an empty mask; any other mask is
        neither empty nor full.
    """
    spread = minmax(values)
    if not spread.any():
        return np.zeros(spread.shape, dtype=bool)
    from skimage.filters import threshold_otsu

    mask: BoolArray = spread > threshold_otsu(spread, nbins=256)
    return mask


def fixed_mask(values: FloatArray, threshold: float) -> BoolArray:
    """The mask of a map: above a threshold after its lowest value is set to 0 and its highest to 1; not filtered.

    Args:
        values: float32 [h, w], finite, any range, any frame and grid.
        threshold: in [0, 1); a value passes when it is greater.

    Returns:
        bool [h, w], same frame and grid. A constant map has no range and gives an empty mask; any other mask holds at
        least the maximum.

    Raises:
        ValueError: the threshold is not in [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"a threshold of the min-max normalised map lies in [0, 1), not at {threshold}")
    mask: BoolArray = minmax(values) > threshold
    return mask


def mean_filtered(mask: BoolArray) -> BoolArray:
    """Each inner cell by the majority of its 3x3 neighbourhood (mean >= 0.5, so 5 of 9).

    Args:
        mask: bool [h, w], any frame.

    Returns:
        bool [h, w], a new array. The outermost rows and columns are left as they were (so is a grid without inner
        cells), though they do count as neighbours.
    """
    filtered = mask.copy()
    if min(mask.shape) >= 3:
        columns = mask[:-2].astype(np.uint8) + mask[1:-1] + mask[2:]
        filtered[1:-1, 1:-1] = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:] >= 5
    return filtered


def carried_mask(mask: BoolArray, frame: Frame, to: Frame) -> BoolArray:
    """Carry a mask that spans one frame to another frame of the same image: bilinearly, then rounded.

    Args:
        mask: bool [h, w]; its cells divide the window of `frame` evenly.
        frame: the frame that the mask spans.
        to: the frame to carry it to.

    Returns:
        bool [H, W] of the size of `to`: more than 0.5 after the resize (exactly 0.5 rounds to the even 0), and
        never true where `frame` does not cover the pixel.

    Raises:
        ValueError: the frames are of different images.
    """
    carried, covered = frame.carry(mask.astype(np.float32), to)
    return (carried > 0.5) & covered
