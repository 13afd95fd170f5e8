"""Metrics: pure functions on arrays in one frame, one kind of quantity per file.

Every published name of METRICS is a function of this package: metrics of the map, such as `cnr(values, region)`, take
the map and the region, metrics of the mask, such as `iou(mask, region)`, a binary mask and the region, metrics of
boxes, such as `matched_iou(predicted, true)`, predicted and true boxes. All return None
where they are undefined; an undefined metric is left out of a sample's scores, never written as 0 or NaN.
"""

from __future__ import annotations

from gtg_bench.benchmark.metrics.answered_boxes import box_ap10, box_ap30, box_ap50, box_top1, matched_iou
from gtg_bench.benchmark.metrics.bounding_box_iou import box_iou, box_iou_full, box_miou
from gtg_bench.benchmark.metrics.centre_distance import distance
from gtg_bench.benchmark.metrics.contrast_to_noise import cnr, cnr_abs
from gtg_bench.benchmark.metrics.discrimination import phrase_discrimination
from gtg_bench.benchmark.metrics.generalized_cnr import gcnr
from gtg_bench.benchmark.metrics.matched_boxes import box_precision, box_recall
from gtg_bench.benchmark.metrics.overlap import coverage, dice, iou, miou
from gtg_bench.benchmark.metrics.pointing_game import top1, top1_tolerance
from gtg_bench.benchmark.metrics.ranking import ap, auroc
from gtg_bench.benchmark.metrics.table import METRICS, Metric, Scene, compute
from gtg_bench.benchmark.metrics.thresholded_iou import dice_sweep, iou_sweep, miou_thresholds, miou_thresholds_minmax

__all__ = [
    "METRICS",
    "Metric",
    "Scene",
    "ap",
    "auroc",
    "box_ap10",
    "box_ap30",
    "box_ap50",
    "box_iou",
    "box_iou_full",
    "box_miou",
    "box_precision",
    "box_recall",
    "box_top1",
    "cnr",
    "cnr_abs",
    "compute",
    "coverage",
    "dice",
    "dice_sweep",
    "distance",
    "gcnr",
    "iou",
    "iou_sweep",
    "matched_iou",
    "miou",
    "miou_thresholds",
    "miou_thresholds_minmax",
    "phrase_discrimination",
    "top1",
    "top1_tolerance",
]
