"""Metrics: pure functions on arrays in one frame, one quantity per file, and the table of their names.

None means undefined: such a metric is left out of a sample's scores, never written as 0 or NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.ap import ranked_ap
from gtg_bench.benchmark.metrics.auroc import ranked_auroc
from gtg_bench.benchmark.metrics.box_iou import box_iou, box_iou_full, box_miou
from gtg_bench.benchmark.metrics.box_matching import Matching, box_matching
from gtg_bench.benchmark.metrics.cnr import cnr
from gtg_bench.benchmark.metrics.cnr_abs import cnr_abs
from gtg_bench.benchmark.metrics.coverage import coverage
from gtg_bench.benchmark.metrics.dice import dice
from gtg_bench.benchmark.metrics.distance import distance
from gtg_bench.benchmark.metrics.gcnr import ranked_gcnr
from gtg_bench.benchmark.metrics.iou import iou
from gtg_bench.benchmark.metrics.miou import miou
from gtg_bench.benchmark.metrics.miou_thresholds import miou_thresholds, miou_thresholds_minmax
from gtg_bench.benchmark.metrics.phrase_discrimination import phrase_discrimination
from gtg_bench.benchmark.metrics.ranking import Ranking, ranked
from gtg_bench.benchmark.metrics.top1 import top1
from gtg_bench.benchmark.metrics.top1_tolerance import top1_tolerance


@dataclass(frozen=True, eq=False)
class Scene:
    """What there is to score for one sample; all arrays in the same frame.

    Attributes:
        values: float32 [H, W], finite, any range, higher is more relevant.
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes.
        others: bool [H, W] each, the regions of the image's other phrases.
        boxes: float64 [N, 4], the sample's boxes, xyxy in pixels of the frame; None where it has no boxes but a mask.
        covered: bool [H, W], what the method saw of the frame; None where nobody says, then `coverage` is undefined.
    """

    values: FloatArray
    mask: BoolArray
    region: BoolArray
    others: tuple[BoolArray, ...] = ()
    boxes: NDArray[np.float64] | None = None
    covered: BoolArray | None = None

    def __post_init__(self) -> None:
        masks = [self.mask, self.region, *self.others, *([] if self.covered is None else [self.covered])]
        shapes = {self.values.shape, *(mask.shape for mask in masks)}
        if len(shapes) != 1 or self.values.ndim != 2:
            raise ValueError(f"a scene's arrays share one 2-D frame, not the shapes {sorted(shapes)}")
        if any(mask.dtype != bool for mask in masks):
            raise ValueError("a scene's masks and regions are boolean")

    @cached_property
    def ranking(self) -> Ranking:
        """The map's pixels in order: sorted once, when the first metric asks, whatever the number of metrics."""
        return ranked(self.values, self.region)

    @cached_property
    def matching(self) -> Matching:
        """The mask's boxes matched to the sample's: once for both of the metrics that ask."""
        return box_matching(self.mask, self.region, self.boxes)


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of a table.

    Attributes:
        summary: one line for `gtg-bench list metrics`.
        compute: the metric of a scene, None where it is undefined.
        higher_is_better: False for a distance.
        partial: undefined for some scenes whose region is neither empty nor fills the frame, so that its mean needs a
            count of its own.
    """

    summary: str
    compute: Callable[[Scene], float | None]
    higher_is_better: bool = True
    partial: bool = False


METRICS: dict[str, Metric] = {
    "miou": Metric("mean of foreground and background IoU of the mask", lambda scene: miou(scene.mask, scene.region)),
    "iou": Metric("foreground IoU of the mask and the boxes", lambda scene: iou(scene.mask, scene.region)),
    "cnr": Metric(
        "signed contrast-to-noise ratio of the map", lambda scene: cnr(scene.values, scene.region), partial=True
    ),
    "top1": Metric("the map's maximum lies in a box", lambda scene: top1(scene.values, scene.region)),
    "auroc": Metric("area under the ROC curve of the map's pixels", lambda scene: ranked_auroc(scene.ranking)),
    "ap": Metric("average precision of the map's pixels", lambda scene: ranked_ap(scene.ranking)),
    "phrase_discrimination": Metric(
        "the named region is hotter than the image's other findings",
        lambda scene: phrase_discrimination(scene.values, scene.region, scene.others),
        partial=True,
    ),
    "dice": Metric("Dice coefficient of the mask and the boxes", lambda scene: dice(scene.mask, scene.region)),
    "miou_thresholds": Metric(
        "BioViL's mIoU: foreground IoU averaged over thresholds 0.1 to 0.5 of a cosine map",
        lambda scene: miou_thresholds(scene.values, scene.region),
    ),
    "miou_thresholds_minmax": Metric(
        "foreground IoU averaged over thresholds 0.1 to 0.5 of the min-max normalised map",
        lambda scene: miou_thresholds_minmax(scene.values, scene.region),
    ),
    "cnr_abs": Metric(
        "contrast-to-noise ratio of the map, absolute",
        lambda scene: cnr_abs(scene.values, scene.region),
        partial=True,
    ),
    "gcnr": Metric("1 - overlap of the map's histograms inside and outside", lambda scene: ranked_gcnr(scene.ranking)),
    "top1_tolerance": Metric(
        "the map's maximum lies in a box or at most 15 pixels off",
        lambda scene: top1_tolerance(scene.values, scene.region),
    ),
    "box_iou": Metric(
        "IoU of the mask's bounding rectangle and the boxes, as released",
        lambda scene: box_iou(scene.mask, scene.region),
    ),
    "box_miou": Metric(
        "mean of foreground and background IoU of that rectangle", lambda scene: box_miou(scene.mask, scene.region)
    ),
    "box_iou_full": Metric(
        "box_iou with the rectangle's last row and column", lambda scene: box_iou_full(scene.mask, scene.region)
    ),
    "box_precision": Metric(
        "share of the mask's parts that match a box at IoU 0.5", lambda scene: scene.matching.precision, partial=True
    ),
    "box_recall": Metric(
        "share of the boxes that a part of the mask matches at IoU 0.5", lambda scene: scene.matching.recall
    ),
    "distance": Metric(
        "pixels between the centres of the mask's rectangle and the box",
        lambda scene: distance(scene.mask, scene.region, scene.boxes),
        higher_is_better=False,
        partial=True,
    ),
    "coverage": Metric(
        "share of the region that the method's frame saw",
        lambda scene: None if scene.covered is None else coverage(scene.covered, scene.region),
    ),
}

GTG = ("miou", "iou", "cnr", "top1", "auroc", "phrase_discrimination")
"""The paper's metrics, in the order of a table's columns: those of protocol `gtg`, see `benchmark.protocols`."""


def score(scene: Scene, names: Iterable[str] = GTG) -> dict[str, float]:
    """The named metrics of a scene, in the order of `names`; those that are undefined for it are absent.

    Raises:
        UsageError: a name is not in METRICS.
    """
    names = list(names)
    if unknown := [name for name in names if name not in METRICS]:
        raise UsageError(f"unknown metrics: {', '.join(unknown)}; there are {', '.join(METRICS)}")
    values = {name: METRICS[name].compute(scene) for name in names}
    return {name: value for name, value in values.items() if value is not None}
