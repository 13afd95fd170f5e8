"""Which cross-attention layers are chosen, against a search that is written out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gtg_bench.benchmark.api import Frame, boxes_to_mask
from gtg_bench.benchmark.metrics import cnr
from gtg_bench.training.evaluation import choose_layers

SIZE, LAYERS = (24, 24), 4


class Studies:
    """Six images with a box each."""

    def samples(self, split: str) -> list[Any]:
        boxes = [(2 + k, 4 + k, 10 + 2 * k, 11 + k) for k in range(6)]
        facts: dict[str, Any] = {"phrase": "nodule", "image_size": SIZE}
        return [SimpleNamespace(sample_id=f"{split}-{box}", boxes=[box], **facts) for box in boxes]

    def image(self, sample: Any) -> Any:
        return np.zeros(SIZE, np.float32)


class Maps:
    """Layers whose maps are the box under ever more noise, and one that is blurred and displaced."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.maps = []
        for sample in Studies().samples("validate"):
            box = boxes_to_mask(sample.boxes, SIZE).astype(np.float32)
            noisy = [box + strength * rng.random(SIZE, dtype=np.float32) for strength in (1.0, 2.0, 6.0)]
            self.maps.append(np.stack([*noisy, gaussian_filter(np.roll(box, 3, 1), 3)]).astype(np.float32))

    def layer_maps(self, queries: list[Any]) -> tuple[Any, Any]:
        return self.maps, [Frame.original(SIZE)] * len(queries)


@pytest.mark.parametrize("sigma", ["0", "0.05", "0.2"])
def test_layers_are_added_while_the_cnr_of_the_smoothed_mean_grows(sigma: str) -> None:
    method = Maps()
    regions = [boxes_to_mask(sample.boxes, SIZE) for sample in Studies().samples("validate")]

    def score(layers: list[int]) -> float:
        means = [maps[layers].mean(0) for maps in method.maps]
        smooth = [gaussian_filter(mean, float(sigma) * 24, mode="nearest") if float(sigma) else mean for mean in means]
        return float(np.mean([cnr(mean, region) for mean, region in zip(smooth, regions, strict=True)]))

    chosen, best, added = list[int](), -np.inf, list[int]()
    while True:
        left = {layer: score([*chosen, layer]) for layer in range(LAYERS) if layer not in chosen}
        if not left or max(left.values()) <= best:
            break
        layer = max(left, key=lambda each: left[each])
        chosen, best, added = [*chosen, layer], left[layer], [*added, layer]
    layers, trace = choose_layers(method, Studies(), "validate", sigma)
    assert layers == ",".join(map(str, sorted(chosen)))
    assert [row["added"] for row in trace] == added
    assert trace[-1]["cnr"] == pytest.approx(best, abs=1e-3)


def test_smoothing_changes_the_choice() -> None:
    assert choose_layers(Maps(), Studies(), "validate")[0] != choose_layers(Maps(), Studies(), "validate", "0.2")[0]
