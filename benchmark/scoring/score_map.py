"""One map against one region: both carried to the evaluation frame, then every metric of the protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, Mask, Size, region_in
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.api.types import GroundingMap, PhraseSample
from gtg_bench.benchmark.metrics import Scene, score
from gtg_bench.benchmark.metrics.coverage import coverage
from gtg_bench.benchmark.metrics.named_masks import mask_of_pixels, named_mask
from gtg_bench.benchmark.scoring.protocols import FRAMES, PROTOCOL, PROTOCOLS, UNCOVERED, Protocol
from gtg_bench.benchmark.scoring.trial import Trial

_, ORIGINAL = FRAMES
_, EXCLUDE = UNCOVERED
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
    return Frame.original(image_size) if kind == ORIGINAL else Frame.center_crop(image_size, EVALUATION_SIZE)


def region_of(sample: PhraseSample, kind: str, size: Size) -> BoolArray:
    """The sample's region, boxes or mask, as bool [height, width] in an evaluation frame of (width, height) `size`.

    A pixel belongs to it whose centre lies in a box, or in a pixel of the mask: a mask that is a filled box is that
    box in every frame.
    """
    return region_in(sample, _own_frame(sample, kind, size))


def _own_frame(sample: PhraseSample, kind: str, size: Size) -> Frame:
    """The evaluation frame of `size` on a sample's own image.

    The image of another sample (a control) is stretched to this one where the frame is the image's own.
    """
    return Frame.stretch(sample.image_size, size) if kind == ORIGINAL else evaluation_frame(sample.image_size, kind)


def facts_of(sample: PhraseSample, kind: str) -> dict[str, float | str]:
    """What subgroups are made of, of a sample as it is, whatever a control changes.

    Args:
        sample: one that passed `check_sample`, or not: what cannot be known of it is absent.
        kind: of the evaluation frame.

    Returns:
        side ("left", "right", "bilateral" or "none") and n_words of its phrase; where it has boxes n_boxes; where its
        region can be made region_share, the region's share of the evaluation frame's pixels.
    """
    found: dict[str, float | str] = {"side": read_phrase(sample.phrase).side or "none"}
    found["n_words"] = len(sample.phrase.split())
    if sample.boxes and sample.mask is None:
        found["n_boxes"] = len(sample.boxes)
    try:
        check_sample(sample)
    except SampleError:
        return found
    share = region_of(sample, kind, evaluation_frame(sample.image_size, kind).size).mean()
    return found | {"region_share": round(float(share), 8)}


@dataclass(frozen=True, eq=False)
class View:
    """A map and the regions of its trial in the part of the evaluation frame that counts.

    Attributes:
        scene: what the metrics see.
        seen: share of the region that the method covers, before anything is cut off; None where there is no region.
    """

    scene: Scene
    seen: float | None


def view(grounding: GroundingMap, trial: Trial, rules: Protocol) -> View:
    """Carry a map and the regions of its trial to the evaluation frame of a protocol.

    Pixels that the method's frame does not cover hold the map's lowest value and are not in its mask. By the rule
    "exclude" the rows and columns where they lie are cut off, with what the region has there, before a mask is made
    of pixels.
    """
    frame = evaluation_frame(trial.sample.image_size, rules.frame)
    regions = [region_of(sample, rules.frame, frame.size) for sample in (trial.scored_on, *trial.others)]
    values, covered = grounding.frame.carry(grounding.values, frame)
    values[~covered] = grounding.values.min()
    seen = _window(covered) if rules.uncovered == EXCLUDE else (slice(None), slice(None))
    region, *others = (found[seen] for found in regions)
    mask = _mask(rules.mask, grounding, frame, values, seen)
    boxes = _boxes(trial.scored_on, rules.frame, frame.size, (seen[1].start or 0, seen[0].start or 0))
    scene = Scene(values[seen], mask & covered[seen], region, tuple(others), boxes, covered[seen])
    return View(scene, coverage(covered, regions[0]))


def _mask(name: str, grounding: GroundingMap, frame: Frame, values: FloatArray, seen: tuple[slice, slice]) -> BoolArray:
    """The mask of a map, carried or made of the pixels that count; empty where there are none."""
    carried = named_mask(name, grounding.values, grounding.frame, frame)
    if carried is not None:
        return carried[seen]
    pixels = values[seen]
    return mask_of_pixels(name, pixels) if pixels.size else np.zeros(pixels.shape, dtype=bool)


def _boxes(sample: PhraseSample, kind: str, size: Size, origin: tuple[int, int]) -> NDArray[np.float64] | None:
    """The sample's boxes, xyxy [N, 4] in pixels of the frame less `origin` (x, y); None where it has a mask."""
    if sample.mask is not None:
        return None
    return _own_frame(sample, kind, size).boxes_from_image(np.asarray(sample.boxes)) - np.array(origin * 2)


def score_map(grounding: GroundingMap, trial: Trial, rules: Protocol = PROTOCOLS[PROTOCOL]) -> Scores:
    """Score a map.

    A region that is empty, or that fills what counts of the frame, makes the sample unscorable; an empty mask scores
    IoU 0.

    Args:
        grounding: the map.
        trial: what it is scored on.
        rules: frame, uncovered pixels, mask and metrics.
    """
    found = view(grounding, trial, rules)
    region = found.scene.region
    if not region.size or region.all() or not region.any():
        cut = rules.uncovered == EXCLUDE and found.seen is not None
        place = "what the method covers" if cut else "the evaluation frame"
        return Scores({}, f"the region {'fills' if region.any() else 'lies outside'} {place}")
    scores = score(found.scene, rules.metrics)
    if "coverage" in scores and found.seen is not None:
        scores["coverage"] = found.seen  # of the whole region: inside the window it would always be 1
    return Scores(scores)


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
