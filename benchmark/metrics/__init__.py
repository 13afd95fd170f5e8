"""Metrics: pure functions on arrays in one frame, one quantity per file, and the table of their names.

None means undefined: such a metric is left out of a sample's scores, never written as 0 or NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.ap import ranked_ap
from gtg_bench.benchmark.metrics.auroc import ranked_auroc
from gtg_bench.benchmark.metrics.cnr import cnr
from gtg_bench.benchmark.metrics.iou import iou
from gtg_bench.benchmark.metrics.miou import miou
from gtg_bench.benchmark.metrics.ranking import Ranking, ranked
from gtg_bench.benchmark.metrics.specificity import specificity
from gtg_bench.benchmark.metrics.top1 import top1


@dataclass(frozen=True, eq=False)
class Scene:
    """What there is to score for one sample; all arrays in the same frame.

    Attributes:
        values: float32 [H, W], finite, any range, higher is more relevant.
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes.
        others: bool [H, W] each, the regions of the image's other phrases.
    """

    values: FloatArray
    mask: BoolArray
    region: BoolArray
    others: tuple[BoolArray, ...] = ()

    def __post_init__(self) -> None:
        shapes = {array.shape for array in (self.values, self.mask, self.region, *self.others)}
        if len(shapes) != 1 or self.values.ndim != 2:
            raise ValueError(f"a scene's arrays share one 2-D frame, not the shapes {sorted(shapes)}")
        if any(array.dtype != bool for array in (self.mask, self.region, *self.others)):
            raise ValueError("a scene's masks and regions are boolean")

    @cached_property
    def ranking(self) -> Ranking:
        """The map's pixels in order: sorted once, when the first metric asks, whatever the number of metrics."""
        return ranked(self.values, self.region)


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of a table.

    Attributes:
        summary: one line for `gtg-bench list metrics`.
        compute: the metric of a scene, None where it is undefined.
    """

    summary: str
    compute: Callable[[Scene], float | None]


METRICS: dict[str, Metric] = {
    "miou": Metric("mean of foreground and background IoU of the mask", lambda scene: miou(scene.mask, scene.region)),
    "iou": Metric("foreground IoU of the mask and the boxes", lambda scene: iou(scene.mask, scene.region)),
    "cnr": Metric("signed contrast-to-noise ratio of the map", lambda scene: cnr(scene.values, scene.region)),
    "top1": Metric("the map's maximum lies in a box", lambda scene: top1(scene.values, scene.region)),
    "auroc": Metric("area under the ROC curve of the map's pixels", lambda scene: ranked_auroc(scene.ranking)),
    "ap": Metric("average precision of the map's pixels", lambda scene: ranked_ap(scene.ranking)),
    "specificity": Metric(
        "the named region is hotter than the image's other findings",
        lambda scene: specificity(scene.values, scene.region, scene.others),
    ),
}

GTG = ("miou", "iou", "cnr", "top1", "auroc", "specificity")
"""The metrics of protocol `gtg`, in the order of a table's columns; the others are computed where they are named."""


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
