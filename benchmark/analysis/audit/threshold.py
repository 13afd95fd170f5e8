"""7. Does the result hold whatever the threshold?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.analysis.audit.absence import confidence
from gtg_bench.benchmark.analysis.audit.finding import Finding, above, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import Subject
from gtg_bench.benchmark.metrics.arrays import minmax
from gtg_bench.benchmark.metrics.named_masks import NONE
from gtg_bench.benchmark.metrics.thresholded_iou import ious_above
from gtg_bench.benchmark.scoring.score_map import view
from gtg_bench.benchmark.statistics import Estimate, bootstrap, bounds_of

TITLE = "Does the result hold whatever the threshold?"
THRESHOLDS = tuple(percent / 100 for percent in range(5, 96, 5))
"""On the min-max normalised map."""


def ask(subject: Subject) -> list[Finding]:
    """IoU at the protocol's mask, at the best threshold and at the region's own area; AURC of the maximum."""
    curves, at_area, maxima, names = [], [], [], []
    rules = replace(subject.request.rules, mask=NONE)
    for name, grounding in sorted(subject.plain.maps.items()):
        if subject.plain.records[name].status == "ok":
            scene = view(grounding, subject.plain.trials[name], rules).scene
            curves.append(ious_above(minmax(scene.values), scene.region, THRESHOLDS))
            at_area.append(_iou_at_own_area(scene.values, scene.region))
            maxima.append(confidence(grounding))
            names.append(name)
    if not names:
        return [impossible("thresholds that hold", "share", "no map is stored")]
    records = [subject.plain.records[name] for name in names]
    patients, rows = np.unique([record.patient_id for record in records], return_inverse=True)
    iou = np.array(curves)
    best = float(iou.mean(axis=0).max())
    groups = [r.category for r in records], [r.patient_id for r in records]
    width = _width(iou, rows, len(patients))
    rule = "yes if the CI is above 0.3, no if all of it is below"
    found = [
        finding(
            "thresholds that hold",
            "share",
            width,
            floor=0.0,
            ceiling=1.0,
            verdict=above(width, 0.3),
            rule=rule,
            note="thresholds 0.05 to 0.95 with at least half the IoU of the best",
        ),
        finding("at the region's own area", "IoU", bootstrap(at_area, *groups), ceiling=1.0, decides=False),
    ]
    for threshold in (0.25, 0.5, 0.75):
        column = iou[:, THRESHOLDS.index(threshold)]
        found.append(finding(f"above {threshold}", "IoU", bootstrap(column, *groups), ceiling=best, decides=False))
    own = [record.metrics.get("iou") for record in records]
    if any(value is not None for value in own):
        estimate = bootstrap(own, *groups)
        note = "ceiling: the best single threshold"
        found.append(finding("of the protocol's mask", "IoU", estimate, ceiling=best, note=note, decides=False))
        found.append(_aurc(np.array(maxima), own, rows, len(patients)))
    return found


def _iou_at_own_area(values: NDArray[np.floating], region: NDArray[np.bool_]) -> float:
    """IoU of the hottest pixels, as many as the region has; ties are broken in the map's order."""
    hot = np.argsort(-values, axis=None, kind="stable")[: region.sum()]
    hits = int(region.ravel()[hot].sum())
    return hits / (2 * int(region.sum()) - hits)


def _width(iou: NDArray[np.float64], rows: NDArray[np.intp], n_patients: int) -> Estimate:
    """Share of the thresholds whose mean IoU is at least half that of the best one, 0 if none finds anything."""
    sums = np.zeros((n_patients, iou.shape[1]))
    np.add.at(sums, rows, iou)

    def share(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        curve = weights @ sums
        best = curve.max(axis=1, keepdims=True)
        return np.asarray(((curve >= best / 2) & (best > 0)).mean(axis=1), dtype=np.float64)

    low, high = bounds_of(share, n_patients)
    return Estimate(float(share(np.ones((1, n_patients)))[0]), low, high, len(iou), 0, n_patients)


def _aurc(confidence: NDArray[np.float64], own: list[float | None], rows: NDArray[np.intp], n_patients: int) -> Finding:
    """Area under the risk-coverage curve, risk 1 - IoU, maps in the order of their maximum.

    Source: Geifman et al., Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019.
    """
    risk = 1 - np.array([np.nan if value is None else value for value in own])
    kept = ~np.isnan(risk)
    confidence, risk, rows = confidence[kept], risk[kept], rows[kept]

    def area(order: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        each = weights[:, rows[order]]
        so_far = np.cumsum(each * risk[order], axis=1) / np.maximum(np.cumsum(each, axis=1), 1e-12)
        return np.asarray((each * so_far).sum(axis=1) / each.sum(axis=1), dtype=np.float64)

    def gain(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        each = weights[:, rows]
        return (each * risk).sum(axis=1) / each.sum(axis=1) - area(order, weights)

    order, once = np.argsort(-confidence, kind="stable"), np.ones((1, n_patients))
    low, high = bounds_of(gain, n_patients)
    found = Estimate(float(gain(once)[0]), low, high, int(kept.sum()), int((~kept).sum()), n_patients)
    most = float(risk.mean()) - float(area(np.argsort(risk, kind="stable"), once)[0])
    facts = {"floor": 0.0, "ceiling": most, "verdict": above(found, 0.0), "decides": False}
    rule = "yes if the CI is above 0, no if all of it is below"
    return finding("gain by confidence", "AURC", found, rule=rule, **facts)
