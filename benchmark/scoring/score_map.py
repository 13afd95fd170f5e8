"""Score a map: carry it and its region to the evaluation frame, then compute every metric of the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gtg_bench.benchmark.api.errors import SampleError, UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, Mask, Size, boxes_to_mask, region_in
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.api.types import Box, BoxAnswer, GroundingMap, PhraseSample, is_transposed
from gtg_bench.benchmark.metrics import Scene, compute, coverage
from gtg_bench.benchmark.metrics.named_masks import BEST, named_mask
from gtg_bench.benchmark.scoring.protocols import (
    EXCLUDE,
    ORIGINAL,
    PADDED,
    PROTOCOL,
    PROTOCOLS,
    Protocol,
    find_protocol,
)
from gtg_bench.benchmark.scoring.smoothing import smoothed
from gtg_bench.benchmark.scoring.trial import Trial

EVALUATION_SIZE = 512
PADDED_SIZE, PADDED_CENTRE = 518, 453
"""Sides of the square that the frame "pad518" pads the image to, and of the central square that is scored."""

_SLACK = 0.5
"""Pixels by which a box may exceed its image, because of rounding."""


@dataclass(frozen=True)
class Scores:
    """`metrics` without the undefined ones; `unscorable` is the reason if the sample cannot be scored at all."""

    metrics: dict[str, float]
    unscorable: str = ""


def check_sample(sample: PhraseSample) -> None:
    """Raise SampleError if a sample cannot be used: no phrase, no region, a box outside its image, a broken mask."""
    if not sample.phrase.strip():
        raise SampleError("the phrase is empty; give it one in the annotation file")
    if sample.mask is None and not sample.boxes:
        raise SampleError("the sample has no box and no mask; give it one in the annotation file")
    try:
        if sample.mask is None:
            check_boxes(sample.boxes, sample.image_size)
        else:
            sample.mask.check()
    except ValueError as error:
        reason = str(error) if sample.mask is None else f"the mask cannot be used: {error}"
        raise SampleError(f"{reason}; correct it in the annotation file") from error


def check_trial(trial: Trial) -> None:
    """Raise SampleError if a trial cannot be used; one of an absent finding needs no region."""
    if not trial.absent:
        check_sample(trial.sample)
        check_sample(trial.scored_on)
    elif not trial.phrase.strip():
        raise SampleError("the phrase is empty; give it one in the annotation file")


def check_boxes(boxes: Sequence[Box], image_size: Size) -> None:
    """Raise ValueError if a box is empty or exceeds its image of (width, height) `image_size`."""
    width, height = image_size
    for x0, y0, x1, y1 in boxes:
        if not (-_SLACK <= x0 < x1 <= width + _SLACK and -_SLACK <= y0 < y1 <= height + _SLACK):
            box = f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
            raise ValueError(f"{box} is empty or outside its image of {width} x {height} pixels")


def check_map(grounding: GroundingMap, sample: PhraseSample) -> None:
    """Raise SampleError if a method's return value is not a map of the sample's image, with the fix."""
    if not isinstance(grounding, GroundingMap):
        raise SampleError(f"the method returned {type(grounding).__name__}, not a GroundingMap")
    if grounding.frame.image_size != sample.image_size:
        raise SampleError(f"the map's frame is of an image of {grounding.frame.image_size}, not {sample.image_size}")
    if grounding.values.dtype != np.float32:
        raise SampleError(f"the map's values are {grounding.values.dtype}: return values.astype(np.float32)")
    if is_transposed(grounding):
        raise SampleError("the map is [width, height]: return values.T")


def evaluation_frame(image_size: Size, kind: str) -> Frame:
    """The frame in which maps and regions are compared.

    Args:
        image_size: (width, height) of the image in pixels.
        kind: "crop512", the paper's (shorter side to 512 pixels, centre crop); "original", the original pixels; or
            "pad518" (longer side to 518 pixels, padded evenly to a square, the central 453 x 453 pixels of it).
    """
    if kind == PADDED:
        width, height = (max(round(PADDED_SIZE * side / max(image_size)), 1) for side in image_size)
        cut = (PADDED_SIZE - PADDED_CENTRE) // 2
        left, top = cut - (PADDED_SIZE - width) // 2, cut - (PADDED_SIZE - height) // 2
        return Frame(image_size, (width, height), (left, top, PADDED_CENTRE, PADDED_CENTRE))
    return Frame.original(image_size) if kind == ORIGINAL else Frame.center_crop(image_size, EVALUATION_SIZE)


def region_of(sample: PhraseSample, kind: str, size: Size) -> BoolArray:
    """The sample's region, boxes or mask, as bool [height, width] in an evaluation frame of (width, height) `size`.

    A pixel belongs to the region if its centre is inside a box or a pixel of the mask, so a mask that is a filled box
    equals that box in every frame.
    """
    return region_in(sample, _own_frame(sample, kind, size))


def _own_frame(sample: PhraseSample, kind: str, size: Size) -> Frame:
    """The evaluation frame of (width, height) `size` on the sample's own image.

    Under image-swap it is the frame of another image; in the frame "original" the sample's image is stretched to it.
    """
    return Frame.stretch(sample.image_size, size) if kind == ORIGINAL else evaluation_frame(sample.image_size, kind)


def facts_of(sample: PhraseSample, kind: str) -> dict[str, float | str]:
    """The facts that subgroups are formed by, of the sample itself, whatever a control changes.

    Args:
        sample: need not pass `check_sample`; facts that cannot be determined are absent.
        kind: of the evaluation frame.

    Returns:
        side ("left", "right", "bilateral" or "none") and n_words of the phrase; n_boxes if the region is made of
        boxes; region_share, the region's share of the evaluation frame's pixels, if the sample is valid; the sample's
        traits.
    """
    found: dict[str, float | str] = {**dict(sample.traits), "side": read_phrase(sample.phrase).side or "none"}
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
    """A map and the regions of its trial, in the part of the evaluation frame that counts.

    Attributes:
        scene: the input of the metrics.
        seen: share of the whole region that the method covers; None if the region is empty.
    """

    scene: Scene
    seen: float | None


def view(grounding: GroundingMap, trial: Trial, rules: Protocol) -> View:
    """Smooth a map, and carry it with the regions of its trial to the evaluation frame of a protocol.

    Pixels outside the method's frame hold the map's minimum and are not in its mask. Under the rule "exclude" their
    rows and columns are cut off, together with the region there, before a mask is made from pixels. The mask of a box
    answer is the union of its boxes, whatever the protocol's mask is.
    """
    grounding = smoothed(grounding, rules.smooth, of_longer=rules.frame == PADDED)
    frame = evaluation_frame(trial.sample.image_size, rules.frame)
    regions = [region_of(sample, rules.frame, frame.size) for sample in (trial.scored_on, *trial.others)]
    values, covered = grounding.frame.carry(grounding.values, frame)
    values[~covered] = grounding.values.min()
    window = _window(covered) if rules.uncovered == EXCLUDE else (slice(None), slice(None))
    region, *others = (found[window] for found in regions)
    origin = np.array([window[1].start or 0, window[0].start or 0] * 2)
    answer = grounding.answer
    if answer is not None:
        answer = BoxAnswer(frame.boxes_from_image(answer.boxes) - origin, answer.scores)
        mask = boxes_to_mask(answer.boxes, (values[window].shape[1], values[window].shape[0]))
    else:
        mask = named_mask(rules.mask, grounding, frame, values, window)
    boxes = None
    if trial.scored_on.mask is None:
        own = _own_frame(trial.scored_on, rules.frame, frame.size)
        boxes = own.boxes_from_image(np.asarray(trial.scored_on.boxes)) - origin
    scene = Scene(values[window], mask & covered[window], region, tuple(others), boxes, covered[window], answer)
    return View(scene, coverage(covered, regions[0]))


def _window(covered: BoolArray) -> tuple[slice, slice]:
    """The rows and columns of the covered rectangle, empty if nothing is covered."""
    rows, columns = covered.any(1).nonzero()[0], covered.any(0).nonzero()[0]
    if not len(rows):
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def score_map(grounding: GroundingMap, trial: Trial, rules: Protocol = PROTOCOLS[PROTOCOL]) -> Scores:
    """Score the map of a trial by a protocol.

    A region that is empty in the evaluation frame, or fills it, makes the sample unscorable. An empty mask has IoU 0.
    """
    if trial.absent:
        return Scores({}, "the image does not show what the phrase names, so there is no region")
    found = view(grounding, trial, rules)
    region = found.scene.region
    if not region.size or region.all() or not region.any():
        cut = rules.uncovered == EXCLUDE and found.seen is not None
        frame = "the method's field of view" if cut else "the evaluation frame"
        return Scores({}, f"the region {'fills' if region.any() else 'is outside'} {frame}")
    scores = compute(found.scene, rules.metrics)
    if "coverage" in scores and found.seen is not None:
        scores["coverage"] = found.seen  # of the whole region: inside the window it would always be 1
    return Scores(scores)


def score(
    map: ArrayLike | GroundingMap,
    region: Sequence[Sequence[float]] | NDArray[np.floating] | BoolArray,
    protocol: str | Protocol = PROTOCOL,
    image_size: Size | None = None,
) -> dict[str, float]:
    """Score one map against one region, as `gtg-bench run` scores a sample.

    Args:
        map: float [h, w], finite, any range, higher is more relevant; its cells divide the whole image evenly,
            whatever h and w are. Pass a map of a part of the image as a `GroundingMap` with its frame.
        region: boxes, float xyxy [N, 4], half open, in pixels of the original image; or a mask, bool [H, W], with one
            element per pixel of the original image.
        protocol: a name listed by `gtg-bench list protocols`, or a `Protocol`, such as
            `find_protocol("gtg").changed(mask="otsu")`.
        image_size: (width, height) of the original image in pixels. Needed only for boxes with a map that is an array.

    Returns:
        Metric name -> value, in the protocol's order, without undefined metrics. `phrase_discrimination` is always
        absent, because it needs the image's other regions.

    Raises:
        UsageError: an unknown protocol, one that chooses its smoothing on a validation split, or an argument of the
            wrong shape, type or size.
        SampleError: the region is empty, exceeds the image, or is outside the evaluation frame or fills it.
    """
    rules = protocol if isinstance(protocol, Protocol) else find_protocol(protocol)
    if rules.smooth == BEST:
        raise UsageError(
            f"protocol {rules.name} chooses its smoothing on a validation split, which a single map does not have; "
            f'pass protocol=find_protocol("{rules.name}").changed(smooth="0")'
        )
    found = np.asarray(region)
    is_mask = found.dtype == bool
    if not found.size or (is_mask and not found.any()):
        raise SampleError("the region is empty: pass at least one box, or a mask with at least one pixel")
    if found.ndim != 2 or not (is_mask or (found.shape[1] == 4 and found.dtype.kind in "fiu")):
        raise UsageError(
            "the region must be boxes of shape [N, 4] or a boolean mask [H, W], not "
            f"{found.dtype} of shape {found.shape}"
        )
    size = _image_size(map, found, image_size)
    boxes = () if is_mask else tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in found.astype(float).tolist())
    try:
        check_boxes(boxes, size)
    except ValueError as error:
        raise SampleError(str(error)) from error
    sample = PhraseSample("", "", "", None, "", "", boxes, size, _mask(found) if is_mask else None)
    grounding = map if isinstance(map, GroundingMap) else GroundingMap(_values(map), Frame.original(size))
    scores = score_map(grounding, Trial(sample, "", "", sample, ()), rules)
    if scores.unscorable:
        raise SampleError(f"{scores.unscorable} of protocol {rules.name}")
    return scores.metrics


def _image_size(map: object, region: NDArray, given: Size | None) -> Size:
    """The image size that `image_size`, the map's frame and the mask agree on, as far as they are given."""
    sizes = {} if given is None else {"image_size": (int(given[0]), int(given[1]))}
    if isinstance(map, GroundingMap):
        sizes["the map's frame"] = map.frame.image_size
    if region.dtype == bool:
        sizes["the mask"] = (region.shape[1], region.shape[0])
    if not sizes:
        raise UsageError("boxes need the size of their image: pass image_size=(width, height)")
    if len(set(sizes.values())) > 1:
        named = ", ".join(f"{width} x {height} ({source})" for source, (width, height) in sizes.items())
        raise UsageError(f"map and region must belong to one image, but their sizes differ: {named}")
    return next(iter(sizes.values()))


def _values(map: ArrayLike) -> FloatArray:
    values = np.asarray(map)
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiu":
        raise UsageError(f"the map must be a 2-D array of numbers, not {values.dtype} of shape {values.shape}")
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise UsageError("the map has NaN or infinite values; pass a GroundingMap whose frame leaves them out")
    return values


def _mask(pixels: BoolArray) -> Mask:
    """A mask, bool [H, W] and not empty, in run lengths: column by column, pixels outside first."""
    starts = np.flatnonzero(np.diff(pixels.T.ravel(), prepend=False))
    lengths = np.diff(starts, prepend=0, append=pixels.size)
    return Mask.of((pixels.shape[1], pixels.shape[0]), "counts", " ".join(str(length) for length in lengths))
