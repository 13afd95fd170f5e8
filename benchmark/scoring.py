"""One map against one region: both carried to the evaluation frame, then every metric of the protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.benchmark.api.geometry import BoolArray, Frame, Mask, Size, region_in
from gtg_bench.benchmark.api.types import GroundingMap, PhraseSample
from gtg_bench.benchmark.controls import Trial
from gtg_bench.benchmark.metrics import GTG, Scene, score
from gtg_bench.benchmark.metrics.masks import carried_mask, mixture_mask
from gtg_bench.benchmark.spec import FRAMES, UNCOVERED

EVALUATION_SIZE = 512
_SLACK = 0.5
"""Boxes may stick out of their image by half a pixel, as rounding makes them do."""


@dataclass(frozen=True)
class Scores:
    """`metrics` without those that are undefined; `unscorable` says why there are none at all."""

    metrics: dict[str, float]
    unscorable: str = ""


def check_sample(sample: PhraseSample) -> None:
    """Raise SampleError if a sample cannot be used: no phrase, no region, a box outside its image, a broken mask."""
    if not sample.phrase.strip():
        raise SampleError("the phrase is empty; give it one in the annotation file")
    if sample.mask is not None:
        _check_mask(sample.mask)
        return
    if not sample.boxes:
        raise SampleError("the sample has no box and no mask; give it one in the annotation file")
    width, height = sample.image_size
    for x0, y0, x1, y1 in sample.boxes:
        inside = -_SLACK <= x0 < x1 <= width + _SLACK and -_SLACK <= y0 < y1 <= height + _SLACK
        if not inside:
            raise SampleError(
                f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) does not lie in its image of {width} x {height} pixels; "
                "correct it in the annotation file"
            )


def _check_mask(mask: Mask) -> None:
    try:
        mask.check()
    except ValueError as error:
        raise SampleError(f"the mask cannot be used: {error}; correct it in the annotation file") from error


def evaluation_frame(image_size: Size, kind: str) -> Frame:
    """Where maps and regions are compared.

    Args:
        image_size: (width, height) of the image in pixels.
        kind: "crop512", the paper's (shorter side to 512 pixels, centre crop), or "original", the image's own pixels.
    """
    return Frame.original(image_size) if kind == "original" else Frame.center_crop(image_size, EVALUATION_SIZE)


def region_of(sample: PhraseSample, kind: str, size: Size) -> BoolArray:
    """The sample's region, boxes or mask, as bool [height, width] in an evaluation frame of (width, height) `size`.

    A pixel belongs to it whose centre lies in a box, or in a pixel of the mask: a mask that is a filled box is that
    box in every frame. The region of another image (a control) is stretched to this one where the frame is the
    image's own.
    """
    frame = Frame.stretch(sample.image_size, size) if kind == "original" else evaluation_frame(sample.image_size, kind)
    return region_in(sample, frame)


def score_map(grounding: GroundingMap, trial: Trial, kind: str = FRAMES[0], uncovered: str = UNCOVERED[0]) -> Scores:
    """Score a map.

    A region that is empty, or that fills the frame, makes the sample unscorable; an empty mask scores IoU 0.

    Args:
        grounding: the map.
        trial: what it is scored on.
        kind: of the evaluation frame, see `evaluation_frame`.
        uncovered: what becomes of pixels that the method's frame does not cover. "lowest": they hold the map's
            lowest value and are not in its mask. "exclude": they do not count at all, neither does what the region
            has there.
    """
    frame = evaluation_frame(trial.sample.image_size, kind)
    regions = [region_of(sample, kind, frame.size) for sample in (trial.scored_on, *trial.others)]
    values, covered = grounding.frame.carry(grounding.values, frame)
    values[~covered] = grounding.values.min()
    mask = carried_mask(mixture_mask(grounding.values), grounding.frame, frame) & covered
    seen = _window(covered) if uncovered == "exclude" else (slice(None), slice(None))
    region, *others = (found[seen] for found in regions)
    if region.all() or not region.any():
        place = "what the method covers" if uncovered == "exclude" and regions[0].any() else "the evaluation frame"
        return Scores({}, f"the region {'fills' if region.any() else 'lies outside'} {place}")
    return Scores(score(Scene(values[seen], mask[seen], region, tuple(others)), GTG))


def _window(covered: BoolArray) -> tuple[slice, slice]:
    """The rows and columns that are covered; a frame covers a rectangle."""
    rows, columns = covered.any(1).nonzero()[0], covered.any(0).nonzero()[0]
    if not len(rows):
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def check_map(grounding: GroundingMap, sample: PhraseSample) -> None:
    """Raise SampleError if what a method returned is no map of this image."""
    if not isinstance(grounding, GroundingMap):
        raise SampleError(f"the method returned {type(grounding).__name__}, not a GroundingMap")
    if grounding.frame.image_size != sample.image_size:
        raise SampleError(f"the map's frame is of an image of {grounding.frame.image_size}, not {sample.image_size}")
    if grounding.values.dtype != np.float32:
        raise SampleError(f"the map's values are {grounding.values.dtype}, not float32")
