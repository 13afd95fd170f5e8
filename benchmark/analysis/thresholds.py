"""IoU and Dice of stored maps over the threshold, beside what the protocol's own mask scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import GroundingMap
from gtg_bench.benchmark.metrics.arrays import minmax
from gtg_bench.benchmark.metrics.masks import mixture_threshold
from gtg_bench.benchmark.metrics.named_masks import BEST, MIXTURE, NONE, OTSU
from gtg_bench.benchmark.metrics.thresholded_iou import ious_above
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.runs.rescore import Place, Rules, prepare_stored
from gtg_bench.benchmark.scoring.score_map import view
from gtg_bench.benchmark.statistics import Estimate, bootstrap

THRESHOLDS = tuple(percent / 100 for percent in range(0, 100, 2))
"""On the min-max normalised map; a pixel is in the mask if its value is greater."""


@dataclass(frozen=True)
class ThresholdCurve:
    """Scores of a run's maps over the threshold.

    Attributes:
        thresholds: of the min-max normalised map, in rising order.
        iou, dice: average and 95 % CI at each threshold, over the scored samples with a stored map.
        own: IoU and Dice of the protocol's own mask on these samples.
        own_thresholds: first quartile, median and third quartile of the thresholds that the protocol's mask has on
            these maps; all equal for a fixed threshold.
        mask: name of the protocol's mask.
    """

    thresholds: tuple[float, ...]
    iou: tuple[Estimate, ...]
    dice: tuple[Estimate, ...]
    own: tuple[Estimate, Estimate]
    own_thresholds: tuple[float, float, float]
    mask: str


def threshold_curve(
    runs_dir: Path,
    run: FinishedRun,
    average: str = "overall",
    place: Place | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ThresholdCurve:
    """Score the stored maps of a run at every threshold.

    Args:
        runs_dir: folder of the runs.
        run: a single run whose protocol scores IoU.
        average: "overall", "macro" or "frequency2".
        place: where the data are now.
        thresholds: in [0, 1), rising.
        progress: called with (samples done, samples in all).

    Raises:
        UsageError: a mean of several runs, a protocol without IoU, or data that differ from the run's.
        DataError: no map is stored.
    """
    if run.parts:
        raise UsageError(f"{run.name}: name one of its runs, {' or '.join(run.keys)}")
    scored = {r.sample_id: r.metrics["iou"] for r in run.records if r.status == "ok" and "iou" in r.metrics}
    if not scored:
        raise UsageError(f"protocol {run.spec.protocol} does not score iou; name a run of another one, such as gtg")
    prepared = prepare_stored(runs_dir, run.spec, Rules(), place or Place())
    maps = prepared.maps(runs_dir)
    curves, own, cuts, groups = [], [], [], []
    for number, trial in enumerate(prepared.trials):
        progress(number, len(prepared.trials))
        name = trial.sample.sample_id
        if name not in scored or not maps.holds(name):
            continue
        grounding = maps.load(name)
        scene = view(grounding, trial, replace(prepared.rules, mask=NONE)).scene
        curves.append(ious_above(minmax(scene.values), scene.region, thresholds))
        own.append(scored[name])
        cuts.append(_cut(grounding, scene.values, run.spec.mask))
        groups.append((trial.sample.category, trial.sample.patient_id))
    if not curves:
        raise DataError(f"run {run.spec.key} has no stored map of a scored sample; rerun it with `gtg-bench run`")
    categories, patients = ([group[i] for group in groups] for i in (0, 1))

    def estimated(values: NDArray[np.float64]) -> Estimate:
        return bootstrap(values, categories, patients, average)

    iou, at_own = np.array(curves), np.array(own)
    low, middle, high = np.quantile([cut for cut in cuts if cut is not None] or [np.nan], (0.25, 0.5, 0.75)).tolist()
    return ThresholdCurve(
        tuple(thresholds),
        tuple(estimated(column) for column in iou.T),
        tuple(estimated(column) for column in _dice(iou).T),
        (estimated(at_own), estimated(_dice(at_own))),
        (low, middle, high),
        run.spec.mask,
    )


def _dice(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dice from IoU, sample by sample: 2 J / (1 + J)."""
    return 2 * iou / (1 + iou)


def _cut(grounding: GroundingMap, pixels: NDArray[np.floating], mask: str) -> float | None:
    """The threshold of a protocol's mask on the min-max normalised map; None for a constant map."""
    native, carried = minmax(grounding.values), minmax(pixels)
    if not native.any() or not carried.any():
        return None
    if mask == MIXTURE:
        return mixture_threshold(native)
    if mask == OTSU:
        from skimage.filters import threshold_otsu

        return float(threshold_otsu(carried, nbins=256))
    return float(mask.removeprefix(f"{BEST}:"))
