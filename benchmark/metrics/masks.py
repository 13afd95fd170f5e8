"""From a map to a binary mask: Gaussian mixture, Otsu's or a fixed threshold; carrying a mask to another frame.

Source of the mixture mask: paper, section 2.3 ("a Gaussian Mixture Model to the activation map"); the form of the
threshold, the 3x3 filter and the rounding after the resize reproduce the released code's numbers. `best_threshold`
chooses a fixed threshold on a validation split.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame
from gtg_bench.benchmark.metrics.arrays import minmax
from gtg_bench.benchmark.metrics.thresholded_iou import ious_above

FITTED = 2**20
"""Values that a mixture is fitted to at most: a random sample of larger maps. A fit takes about 150 bytes a value."""

CANDIDATES = tuple(percent / 100 for percent in range(1, 100))


def mixture_mask(values: FloatArray, random_state: int = 0) -> BoolArray:
    """Threshold a map midway between the means of a two-component Gaussian mixture, then filter the mask.

    Args:
        values: float32 [h, w], finite, any range, on the map's native grid. The mixture is fitted to the values of
            this grid, at most FITTED, so the mask of an upsampled map differs slightly.
        random_state: seed of the k-means that initialises the mixture.

    Returns:
        bool [h, w], same frame and grid. Empty for a constant map, and if the filter removes all cells above the
        threshold because they are scattered.
    """
    spread = minmax(values)
    if not spread.any():
        return np.zeros(spread.shape, dtype=bool)
    return mean_filtered(spread > mixture_threshold(spread, random_state))


def mixture_threshold(values: NDArray[np.float64], random_state: int = 0) -> float:
    """The midpoint between the two means of a Gaussian mixture; the mask holds the values that are greater.

    Args:
        values: float64 of any shape and frame, min-max normalised to [0, 1], at least two distinct values.
        random_state: seed of the k-means that initialises the mixture, and of the sample of more than FITTED values.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if values.size > FITTED:
        values = values.ravel()[np.random.default_rng(random_state).integers(values.size, size=FITTED)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as in the released code, an unfinished fit is used
        fitted = GaussianMixture(2, random_state=random_state).fit(values.reshape(-1, 1))
    return float(fitted.means_.mean())


def otsu_mask(values: FloatArray) -> BoolArray:
    """Threshold a map by Otsu's method, with 256 bins from minimum to maximum, without filtering.

    Source: Otsu, A Threshold Selection Method from Gray-Level Histograms, 1979, in scikit-image's implementation.
    CheXlocalize (Saporta et al., 2022) does the same in the image's original pixels, but rounds the map down to 8 bits
    first, which moves the threshold by a bin or two.

    Args:
        values: float32 [h, w], finite, any range, any frame and grid.

    Returns:
        bool [h, w], same frame and grid. Empty for a constant map, otherwise neither empty nor full.
    """
    spread = minmax(values)
    if not spread.any():
        return np.zeros(spread.shape, dtype=bool)
    from skimage.filters import threshold_otsu

    mask: BoolArray = spread > threshold_otsu(spread, nbins=256)
    return mask


def fixed_mask(values: FloatArray, threshold: float) -> BoolArray:
    """Threshold a min-max normalised map at a fixed value, without filtering.

    Args:
        values: float32 [h, w], finite, any range, any frame and grid.
        threshold: in [0, 1); the mask holds the pixels that are greater.

    Returns:
        bool [h, w], same frame and grid. Empty for a constant map, otherwise it contains at least the maximum.

    Raises:
        ValueError: the threshold is not in [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"a threshold on the min-max normalised map must be in [0, 1), not {threshold}")
    mask: BoolArray = minmax(values) > threshold
    return mask


def best_threshold(
    maps: Iterable[NDArray[np.floating]], regions: Iterable[BoolArray], candidates: Sequence[float] = CANDIDATES
) -> float:
    """The candidate with the highest mean foreground IoU of `fixed_mask` over samples; on ties the lowest one.

    Choose it on the validation split and apply it unchanged to the test split: a threshold that is tuned on the
    regions it is scored on overestimates its method.

    Args:
        maps: float [H, W] each, finite, any range; each is min-max normalised.
        regions: bool [H, W] each, in the same frame as its map; samples with an empty region are skipped.
        candidates: thresholds on the min-max normalised map, in rising order.

    Raises:
        ValueError: no sample has a region, or the numbers of maps and regions differ.
    """
    pairs = zip(maps, regions, strict=True)
    curves = [ious_above(minmax(values), region, candidates) for values, region in pairs if region.any()]
    if not curves:
        raise ValueError("a threshold can only be chosen on samples with a region")
    return float(candidates[int(np.mean(curves, axis=0).argmax())])


def mean_filtered(mask: BoolArray) -> BoolArray:
    """Replace each inner cell by the majority of its 3x3 neighbourhood (mean >= 0.5, so 5 of 9).

    Args:
        mask: bool [h, w], any frame.

    Returns:
        bool [h, w], a new array. The outermost rows and columns keep their values but count as neighbours.
    """
    filtered = mask.copy()
    if min(mask.shape) >= 3:
        columns = mask[:-2].astype(np.uint8) + mask[1:-1] + mask[2:]
        filtered[1:-1, 1:-1] = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:] >= 5
    return filtered


def carried_mask(mask: BoolArray, frame: Frame, to: Frame) -> BoolArray:
    """Carry a mask to another frame of the same image: bilinear interpolation, then rounding.

    Args:
        mask: bool [h, w]; its cells divide the window of `frame` evenly.
        frame: the frame that the mask spans.
        to: the frame to carry it to.

    Returns:
        bool [H, W] of the size of `to`: above 0.5 after the resize (exactly 0.5 rounds to the even 0), and False
        where `frame` does not cover the pixel.

    Raises:
        ValueError: the frames belong to images of different sizes.
    """
    carried, covered = frame.carry(mask.astype(np.float32), to)
    return (carried > 0.5) & covered
