"""The paper's mIoU: the mean over foreground and background, not over thresholds."""

from __future__ import annotations

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.iou import overlap


def miou(mask: BoolArray, region: BoolArray) -> float | None:
    """Mean of the overlap of mask and region, and of the overlap of what lies outside each.

    Source: paper, section 3.3 ("the mean of the Jaccard distances ... between the overlapping and non-overlapping
    regions"). BioViL's mIoU (Boecking et al., 2022) is another quantity, a mean over thresholds. Since most of an
    image is background, a mask of one pixel already scores nearly half of the background's share: read it beside
    the IoU.

    Args:
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], 1 for a perfect mask. An empty mask scores half of the background's share. None where
        the region is empty or fills the frame: then one of the two overlaps has nothing to find.
    """
    if not region.any() or region.all():
        return None
    return (overlap(mask, region) + overlap(~mask, ~region)) / 2
