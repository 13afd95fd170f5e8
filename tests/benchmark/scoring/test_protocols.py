"""Protocols: what each selects, and its numbers for a stored run against a literal recomputation."""

from __future__ import annotations

import itertools
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from sklearn.metrics import average_precision_score, roc_auc_score
from torchvision.ops import box_iou as torchvision_box_iou

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.metrics.masks import mixture_mask
from gtg_bench.benchmark.metrics.named_masks import BEST
from gtg_bench.benchmark.runs import runner
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.scoring.protocols import FRAMES, PROTOCOLS, UNCOVERED, definition, find_protocol
from gtg_bench.benchmark.scoring.score_map import score
from gtg_bench.benchmark.scoring.trial import Trial
from gtg_bench.benchmark.statistics import AVERAGES

Array = NDArray[Any]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_consistent(name: str) -> None:
    protocol = find_protocol(name)
    assert protocol.name == name
    assert set(protocol.metrics) <= set(METRICS)
    assert len(set(protocol.metrics)) == len(protocol.metrics)
    assert protocol.primary in protocol.metrics
    assert protocol.average in AVERAGES
    assert protocol.frame in FRAMES
    assert protocol.uncovered in UNCOVERED
    assert protocol.notes
    assert protocol.changed() == protocol


def test_what_defines_the_numbers_of_a_protocol_changes_only_with_its_version() -> None:
    gtg, strict = PROTOCOLS["gtg"], PROTOCOLS["strict"]
    assert gtg.metrics == ("miou", "iou", "cnr", "top1", "auroc", "phrase_discrimination")
    assert (gtg.version, gtg.frame, gtg.uncovered, gtg.mask, gtg.average) == (
        *(2, "crop512", "lowest", "mixture"),
        "overall",
    )
    assert (strict.version, strict.primary, strict.smooth) == (4, "gcnr", "best"), "3 did not smooth, 1 binned by rank"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("strickt", {}, "strict"),
        ("gtg", {"mask": "otzu"}, "--mask 'otzu'"),
        ("gtg", {"mask": "nan"}, "--mask"),
        ("gtg", {"mask": "best"}, "--tune-on"),
        ("biovil", {"mask": "otsu"}, "biovil"),
    ],
)
def test_unknown_names_are_refused(name: str, changes: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_protocol(name).changed(**changes)


def described(protocol: str, version: int, frame: str, uncovered: str, mask: str, smooth: str = "0") -> dict[str, Any]:
    rules = {"frame": frame, "uncovered": uncovered, "mask": mask, "smooth": smooth}
    return {"protocol": protocol, "protocol_version": version, **rules}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (("gtg", 1, "crop512", "lowest", "mixture"), "gtg"),
        (("gtg", 1, "original", "lowest", "mixture"), "gtg+original"),
        (("gtg", 2, "crop512", "exclude", "0.5"), "gtg@2+exclude+0.5"),
        (("strict", 3, "original", "lowest", "mixture"), "strict@3"),
        (("strict", 3, "original", "lowest", "mixture", "best:0.06"), "strict@3+smooth-best"),
        (("strict", 4, "original", "lowest", "mixture", "best:0.06"), "strict@4"),
        (("strict", 4, "original", "lowest", "mixture", "0"), "strict@4+smooth0"),
        (("strict", 1, "crop512", "lowest", "best:0.37"), "strict+crop512+best"),
        (("chexlocalize", 1, "original", "lowest", "otsu"), "chexlocalize"),
        (("gtg", 2, "crop512", "lowest", "0.06", "0.06"), "gtg@2+0.06+smooth0.06"),
        (("gtg", 2, "crop512", "lowest", "best:0.1", "best:0.06"), "gtg@2+best+smooth-best"),
    ],
)
def test_definitions_by_hand(fields: Any, name: str) -> None:
    assert definition(described(*fields)) == name
    assert definition({key: str(value) for key, value in described(*fields).items()}) == name


def test_two_definitions_never_share_a_name() -> None:
    masks = ("mixture", "otsu", "0.3", "0.35", "best:0.2")
    choices = list(itertools.product([*PROTOCOLS, "later"], (1, 4), FRAMES, UNCOVERED, masks, ("0", "0.3", "best:0.3")))
    assert len({definition(described(*choice)) for choice in choices}) == len(choices)
    assert definition(described("gtg", 1, "crop512", "lowest", "best:0.4")) == definition(
        described("gtg", 1, "crop512", "lowest", "best:0.2")
    )


# The numbers


def carried(native: Array, size: int) -> tuple[Array, Array]:
    """A map that covers pixels 8 to 120 of 128, on size x size pixels of the whole image; and which it covers."""
    centres = (np.arange(size) + 0.5) * 128 / size
    inside = (centres >= 8) & (centres < 120)
    at = np.clip((centres - 8) * native.shape[0] / 112 - 0.5, 0, native.shape[0] - 1)
    values = map_coordinates(native.astype(float), np.meshgrid(at, at, indexing="ij"), order=1)
    return values, inside[:, None] & inside[None, :]


def drawn(boxes: Any, size: int) -> Array:
    centres, found = (np.arange(size) + 0.5) * 128 / size, np.zeros((size, size), bool)
    for x0, y0, x1, y1 in boxes:
        rows, columns = (centres >= y0) & (centres < y1), (centres >= x0) & (centres < x1)
        found |= rows[:, None] & columns[None, :]
    return found


def literal(native: Array, trial: Trial, name: str) -> dict[str, float]:
    """Every metric, written out from its definition."""
    size = {"gtg": 512, "gtg-released": 512, "threshold-sweep": 518}.get(name, 128)
    if name == "threshold-sweep":  # 1.5 of 37 patches; a cell of the map is 7 of 128 pixels
        native = gaussian_filter(native, 1.5 / 37 * 128 / 7, mode="nearest")
    values, covered = carried(native, size)
    values[~covered] = native.min()
    if name == "chexlocalize":
        spread = (values - values.min()) / np.ptp(values)
        mask = spread > threshold_otsu(spread, nbins=256)
    else:
        mask = (carried(mixture_mask(native), size)[0] > 0.5) & covered
    region, *others = (drawn(sample.boxes, size) for sample in (trial.sample, *trial.others))
    if name == "threshold-sweep":
        values, covered, mask, region = (one[32:485, 32:485] for one in (values, covered, mask, region))
        others = []
    inside, outside, spread = values[region], values[~region], (values - values.min()) / np.ptp(values)

    def iou(one: Array, other: Array) -> float:
        return float((one & other).sum() / (one | other).sum())

    def thresholds(found: Array) -> float:
        return float(np.mean([iou(found > level / 10, region) for level in range(1, 6)]))

    def dice(one: Array, other: Array) -> float:
        return float(2 * (one & other).sum() / (one.sum() + other.sum()))

    parts = regionprops(label(mask, connectivity=2), intensity_image=values)
    ranked = sorted(parts, key=lambda part: -part.max_intensity)
    found_boxes = [(part.bbox[1], part.bbox[0], part.bbox[3], part.bbox[2]) for part in ranked]
    pairs = torchvision_box_iou(torch.tensor(found_boxes).double(), torch.tensor(trial.sample.boxes).double()).numpy()

    def box_ap(least: float) -> float:
        allowed = [(pairs[: k + 1] >= least).astype(int) for k in range(len(pairs))]
        hits = [int((maximum_bipartite_matching(csr_matrix(one)) >= 0).sum()) for one in allowed]
        best = [max(hits[j] / (j + 1) for j in range(k, len(hits))) for k in range(len(hits))]
        return sum((now - then) / pairs.shape[1] * best[k] for k, (then, now) in enumerate(pairwise([0, *hits])))

    long = pairs if pairs.shape[0] >= pairs.shape[1] else pairs.T
    orders = itertools.permutations(range(long.shape[0]), long.shape[1])
    centre = [int((found_boxes[0][k] + found_boxes[0][k + 2]) / 2) for k in (1, 0)] if found_boxes else [0, 0]
    rows, columns = (mask.any(axis).nonzero()[0] for axis in (1, 0))
    short, whole = np.zeros_like(mask), np.zeros_like(mask)
    short[rows[0] : rows[-1], columns[0] : columns[-1]] = True
    whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    hits, misses = (np.histogram(spread[side], 256, (0, 1))[0] / side.sum() for side in (region, ~region))
    contrast = (inside.mean() - outside.mean()) / math.sqrt(inside.var(ddof=1) + outside.var(ddof=1))
    found = {
        "miou": (iou(mask, region) + iou(~mask, ~region)) / 2,
        "iou": iou(mask, region),
        "cnr": contrast,
        "cnr_abs": abs(contrast),
        "gcnr": 1 - np.minimum(hits, misses).sum(),
        "top1": float(region.ravel()[values.argmax()]),
        "auroc": roc_auc_score(region.ravel(), values.ravel()),
        "ap": average_precision_score(region.ravel(), values.ravel()),
        "box_iou": iou(short, region),
        "box_miou": (iou(short, region) + iou(~short, ~region)) / 2,
        "box_iou_full": iou(whole, region),
        "miou_thresholds": thresholds(values),
        "miou_thresholds_minmax": thresholds(spread),
        "matched_iou": max(sum(long[i, j] for j, i in enumerate(order)) for order in orders) / long.shape[0],
        **{f"box_ap{percent}": box_ap(percent / 100) for percent in (10, 30, 50)},
        "box_top1": float(region[tuple(centre)]),
        "iou_sweep": np.mean([iou(2 * spread - 1 > level / 10, region) for level in range(1, 6)]),
        "dice_sweep": np.mean([dice(2 * spread - 1 > level / 10, region) for level in range(1, 6)]),
        "coverage": (covered & region).sum() / region.sum(),
    }
    if len(trial.sample.boxes) == 1:
        (y, x), (v, u) = (
            [(where[0] + where[-1] + 1) / 2 for where in axes] for axes in ((rows, columns), ends(region))
        )
        found["distance"] = math.hypot(y - v, x - u)
    ranks = []
    for theirs in others:
        own, theirs = region & ~theirs, theirs & ~region
        if own.any() and theirs.any():
            ranks.append(float(values[own].mean() > values[theirs].mean()))
    return {name: float(value) for name, value in found.items()} | (
        {"phrase_discrimination": np.mean(ranks)} if ranks else {}
    )


def ends(region: Array) -> tuple[Array, Array]:
    return region.any(1).nonzero()[0], region.any(0).nonzero()[0]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_numbers_of_a_stored_run(name: str, toy: Any) -> None:
    """Values differ by up to 4e-7: a pixel at a threshold or at the edge of a bin may change sides."""
    toy.run(limit=7, control="image-swap")
    toy.forbidden = True
    smooth = "0" if PROTOCOLS[name].smooth == BEST else None  # there is no validation split here
    result = toy.run(limit=7, protocol=name, smooth=smooth)
    trials = plan(open_dataset("phantom", None, {}).samples("test"), "none", 7)
    assert result.reused == 7
    assert {len(trial.sample.boxes) for trial in trials} > {1}
    optional = {"phrase_discrimination", "distance"}
    for record, trial in zip(result.records, trials, strict=True):
        grounding = MapStore.of_run(result.folder).load(record.sample_id)
        expected = literal(grounding.values, trial, name)
        columns = [m for m in PROTOCOLS[name].metrics if m not in optional or m in expected]
        assert list(record.metrics) == columns
        assert record.metrics == pytest.approx({m: expected[m] for m in columns}, abs=4e-3)
        alone = score(grounding, trial.sample.boxes, PROTOCOLS[name].changed(smooth=smooth))
        assert alone == pytest.approx(
            {m: v for m, v in record.metrics.items() if m != "phrase_discrimination"}, abs=1e-8
        )


def test_a_protocol_is_part_of_the_runs_key(toy: Any) -> None:
    keys = {runner.prepare(toy.request(protocol=name)).spec.key for name in PROTOCOLS}
    keys |= {runner.prepare(toy.request(mask=mask)).spec.key for mask in ("otsu", "0.3")}
    assert len(keys) == len(PROTOCOLS) + 2
    assert runner.prepare(toy.request(mask="0.30")).spec == runner.prepare(toy.request(mask="0.3")).spec
    assert runner.prepare(toy.request(mask="mixture", frame="crop512")).spec == runner.prepare(toy.request()).spec
