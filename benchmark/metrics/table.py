"""The table of metrics by name, and the scene that they are computed on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.api.types import BoxAnswer
from gtg_bench.benchmark.metrics.answered_boxes import box_ap10, box_ap30, box_ap50, box_top1, matched_iou
from gtg_bench.benchmark.metrics.arrays import check_arrays
from gtg_bench.benchmark.metrics.bounding_box_iou import box_iou, box_iou_full, box_miou
from gtg_bench.benchmark.metrics.centre_distance import distance
from gtg_bench.benchmark.metrics.contrast_to_noise import cnr, cnr_abs
from gtg_bench.benchmark.metrics.discrimination import phrase_discrimination
from gtg_bench.benchmark.metrics.generalized_cnr import gcnr
from gtg_bench.benchmark.metrics.matched_boxes import Matching, match_boxes
from gtg_bench.benchmark.metrics.overlap import coverage, dice, iou, miou
from gtg_bench.benchmark.metrics.pointing_game import top1, top1_tolerance
from gtg_bench.benchmark.metrics.ranking import Ranking, ranked
from gtg_bench.benchmark.metrics.rectangles import Boxes, clipped_boxes, part_boxes, scored_parts
from gtg_bench.benchmark.metrics.thresholded_iou import dice_sweep, iou_sweep, miou_thresholds, miou_thresholds_minmax


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that is needed to score one sample; all arrays in the same frame.

    Attributes:
        values: float32 [H, W], finite, any range, higher is more relevant.
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes.
        others: bool [H, W] each, the regions of the image's other phrases.
        boxes: float64 [N, 4], the sample's boxes, xyxy in pixels of the frame; None if its region is a mask.
        covered: bool [H, W], the pixels that the method saw; None if unknown, in which case `coverage` is undefined.
        answer: the boxes of a method that returns boxes, in pixels of the frame; `mask` is then their union, and
            metrics of the map are undefined. None for a map.
    """

    values: FloatArray
    mask: BoolArray
    region: BoolArray
    others: tuple[BoolArray, ...] = ()
    boxes: NDArray[np.float64] | None = None
    covered: BoolArray | None = None
    answer: BoxAnswer | None = None

    def __post_init__(self) -> None:
        covered = () if self.covered is None else (self.covered,)
        check_arrays(self.mask, self.region, *self.others, *covered, values=self.values)

    @cached_property
    def ranking(self) -> Ranking:
        """The map's sorted pixels, shared by all metrics that consider every threshold."""
        return ranked(self.values, self.region)

    @cached_property
    def matching(self) -> Matching:
        """The matching of predicted and true boxes, shared by precision and recall."""
        return match_boxes(self.mask, self.region, self.boxes)

    @cached_property
    def true(self) -> Boxes:
        """The true boxes in the frame; those around its components if the region is a mask."""
        return part_boxes(self.region) if self.boxes is None else clipped_boxes(self.boxes, self.region.shape)

    @cached_property
    def predicted(self) -> BoxAnswer:
        """The answered boxes in the frame; of a map those around the mask's components, each with the map's maximum in
        its component as score."""
        if self.answer is not None:
            height, width = self.region.shape
            inside = np.clip(self.answer.boxes, 0, [width, height, width, height])
            kept = (inside[:, 2:] > inside[:, :2]).all(axis=1)
            return BoxAnswer(inside[kept], self.answer.scores[kept])
        return BoxAnswer(*scored_parts(self.mask, self.values))


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of a table.

    Attributes:
        summary: one line for `gtg-bench list metrics`.
        compute: the metric of a scene, None where it is undefined.
        higher_is_better: False for a distance.
        partial: undefined for some scenes whose region is neither empty nor fills the frame, so that its mean needs a
            count of its own.
        of_map: needs a map, so that it is undefined for a box answer.
    """

    summary: str
    compute: Callable[[Scene], float | None]
    higher_is_better: bool = True
    partial: bool = False
    of_map: bool = False


def _of_map(summary: str, metric: Callable[[FloatArray, BoolArray], float | None], partial: bool = False) -> Metric:
    return Metric(summary, lambda scene: metric(scene.values, scene.region), partial=partial, of_map=True)


def _of_boxes(summary: str, metric: Callable[[Boxes, NDArray[np.float64], Boxes], float | None]) -> Metric:
    return Metric(summary, lambda scene: metric(scene.predicted.boxes, scene.predicted.scores, scene.true))


def _pointed(scene: Scene) -> float | None:
    named = scene.answer or scene.predicted
    return box_top1(named.boxes, named.scores, scene.region)


def _of_mask(metric: Callable[[BoolArray, BoolArray], float | None]) -> Callable[[Scene], float | None]:
    return lambda scene: metric(scene.mask, scene.region)


METRICS: dict[str, Metric] = {
    "miou": Metric("mean of the foreground and background IoU of the mask", _of_mask(miou)),
    "iou": Metric("foreground IoU of the mask and the region", _of_mask(iou)),
    "cnr": _of_map("signed contrast-to-noise ratio of the map", cnr, partial=True),
    "top1": Metric(
        "share of maps whose maximum is inside the region (pointing game); box_top1 of a box answer",
        lambda scene: top1(scene.values, scene.region) if scene.answer is None else _pointed(scene),
    ),
    "auroc": Metric("area under the ROC curve of the map's pixels", lambda scene: scene.ranking.auroc, of_map=True),
    "ap": Metric("average precision of the map's pixels", lambda scene: scene.ranking.ap, of_map=True),
    "phrase_discrimination": Metric(
        "share of the image's other findings in which the map is colder than in the named region; 0.5 is chance",
        lambda scene: phrase_discrimination(scene.values, scene.region, scene.others),
        partial=True,
        of_map=True,
    ),
    "dice": Metric("Dice coefficient of the mask and the region", _of_mask(dice)),
    "miou_thresholds": _of_map(
        "BioViL's mIoU: foreground IoU averaged over thresholds 0.1 to 0.5 on a cosine map", miou_thresholds
    ),
    "miou_thresholds_minmax": _of_map(
        "foreground IoU averaged over thresholds 0.1 to 0.5 on the min-max normalised map", miou_thresholds_minmax
    ),
    "iou_sweep": _of_map(
        "foreground IoU averaged over thresholds 0.1 to 0.5 on the map rescaled to [-1, 1]", iou_sweep
    ),
    "dice_sweep": _of_map(
        "Dice coefficient averaged over thresholds 0.1 to 0.5 on the map rescaled to [-1, 1]", dice_sweep
    ),
    "cnr_abs": _of_map("absolute contrast-to-noise ratio of the map", cnr_abs, partial=True),
    "gcnr": _of_map("generalized CNR: 1 - overlap of the map's histograms inside and outside", gcnr),
    "top1_tolerance": _of_map(
        "share of maps whose maximum is inside the region or at most 15 pixels from it", top1_tolerance
    ),
    "box_iou": Metric("IoU of the mask's bounding box and the region, as in the released code", _of_mask(box_iou)),
    "box_miou": Metric("mean of box_iou and the IoU of the complements", _of_mask(box_miou)),
    "box_iou_full": Metric("box_iou with the bounding box's last row and column", _of_mask(box_iou_full)),
    "box_precision": Metric(
        "share of the mask's components whose bounding box matches a true box at IoU 0.5",
        lambda scene: scene.matching.precision,
        partial=True,
    ),
    "box_recall": Metric(
        "share of the true boxes that a component of the mask matches at IoU 0.5",
        lambda scene: scene.matching.recall,
    ),
    "distance": Metric(
        "pixels between the centres of the mask's bounding box and the box",
        lambda scene: distance(scene.mask, scene.region, scene.boxes),
        higher_is_better=False,
        partial=True,
    ),
    "matched_iou": Metric(
        "IoU of boxes matched one to one; a surplus or missing box counts 0; a map has the boxes of its mask",
        lambda scene: matched_iou(scene.predicted.boxes, scene.true),
    ),
    "box_ap10": _of_boxes("average precision of a phrase's boxes at IoU 0.1", box_ap10),
    "box_ap30": _of_boxes("average precision of a phrase's boxes at IoU 0.3", box_ap30),
    "box_ap50": _of_boxes("average precision of a phrase's boxes at IoU 0.5", box_ap50),
    "box_top1": Metric("share of phrases whose best box is centred in the region", _pointed),
    "coverage": Metric(
        "share of the region inside the method's field of view",
        lambda scene: None if scene.covered is None else coverage(scene.covered, scene.region),
    ),
}


def compute(scene: Scene, names: Iterable[str]) -> dict[str, float]:
    """Compute the named metrics of a scene, in the order of `names`, without those that are undefined for it.

    Raises:
        UsageError: a name is not in METRICS.
    """
    names = list(names)
    if unknown := [name for name in names if name not in METRICS]:
        raise UsageError(f"unknown metrics: {', '.join(unknown)}; choose from {', '.join(METRICS)}")
    defined = [name for name in names if scene.answer is None or not METRICS[name].of_map]
    values = {name: METRICS[name].compute(scene) for name in defined}
    return {name: value for name, value in values.items() if value is not None}
