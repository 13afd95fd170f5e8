"""One map against one region: both carried to the evaluation frame, then every metric of the protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.benchmark.api.geometry import BoolArray, Frame, boxes_to_mask
from gtg_bench.benchmark.api.types import GroundingMap, PhraseSample
from gtg_bench.benchmark.controls import Trial
from gtg_bench.benchmark.metrics import GTG, Scene, score
from gtg_bench.benchmark.metrics.masks import carried_mask, mixture_mask

EVALUATION_SIZE = 512
_SLACK = 0.5
"""Boxes may stick out of their image by half a pixel, as rounding makes them do."""


@dataclass(frozen=True)
class Scores:
    """`metrics` without those that are undefined; `unscorable` says why there are none at all."""

    metrics: dict[str, float]
    unscorable: str = ""


def check_sample(sample: PhraseSample) -> None:
    """Raise SampleError if a sample cannot be used: no phrase, no box, or a box outside its image."""
    if not sample.phrase.strip():
        raise SampleError("the phrase is empty; give it one in the annotation file")
    if not sample.boxes:
        raise SampleError("the sample has no box; give it one in the annotation file")
    width, height = sample.image_size
    for x0, y0, x1, y1 in sample.boxes:
        inside = -_SLACK <= x0 < x1 <= width + _SLACK and -_SLACK <= y0 < y1 <= height + _SLACK
        if not inside:
            raise SampleError(
                f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) does not lie in its image of {width} x {height} pixels; "
                "correct it in the annotation file"
            )


def evaluation_frame(sample: PhraseSample) -> Frame:
    """The paper's: shorter side to 512 pixels, centre crop."""
    return Frame.center_crop(sample.image_size, EVALUATION_SIZE)


def region_of(sample: PhraseSample) -> BoolArray:
    """The sample's boxes as bool [512, 512] in the evaluation frame."""
    frame = evaluation_frame(sample)
    return boxes_to_mask(frame.boxes_from_image(sample.boxes), frame.size)


def score_map(grounding: GroundingMap, trial: Trial) -> Scores:
    """Score a map.

    Pixels that the method's frame does not cover hold the map's lowest value and are not in its mask. An empty
    region, or one that fills the frame, makes the sample unscorable; an empty mask scores IoU 0.
    """
    region = region_of(trial.scored_on)
    if region.all() or not region.any():
        return Scores({}, f"the region {'fills' if region.any() else 'lies outside'} the evaluation frame")
    frame = evaluation_frame(trial.sample)
    values, covered = grounding.frame.carry(grounding.values, frame)
    values[~covered] = grounding.values.min()
    mask = carried_mask(mixture_mask(grounding.values), grounding.frame, frame) & covered
    others = tuple(region_of(other) for other in trial.others)
    return Scores(score(Scene(values, mask, region, others), GTG))


def check_map(grounding: GroundingMap, sample: PhraseSample) -> None:
    """Raise SampleError if what a method returned is no map of this image."""
    if not isinstance(grounding, GroundingMap):
        raise SampleError(f"the method returned {type(grounding).__name__}, not a GroundingMap")
    if grounding.frame.image_size != sample.image_size:
        raise SampleError(f"the map's frame is of an image of {grounding.frame.image_size}, not {sample.image_size}")
    if grounding.values.dtype != np.float32:
        raise SampleError(f"the map's values are {grounding.values.dtype}, not float32")
