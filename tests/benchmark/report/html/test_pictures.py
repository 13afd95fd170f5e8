"""What the page draws: outlines, maps and maxima in the image's coordinates."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api.geometry import Frame, Mask
from gtg_bench.benchmark.api.types import GroundingMap, PhraseSample
from gtg_bench.benchmark.report.html.pictures import Album, outlined, region_of, similarity
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS
from gtg_bench.benchmark.scoring.trial import Trial


def trial(size: tuple[int, int], **region: Any) -> Trial:
    sample = PhraseSample("s", "i", "p", None, "effusion", "Effusion", image_size=size, **{"boxes": (), **region})
    return Trial(sample, sample.phrase, sample.category, sample, ())


def decoded(found: dict[str, Any]) -> np.ndarray:
    values = np.arange(len(found["runs"])) % 2 == 1
    cells = np.repeat(values, found["runs"])
    rest = np.zeros(found["w"] * found["h"] - len(cells), dtype=bool)
    return np.concatenate([cells, rest]).reshape(found["h"], found["w"])


def test_an_outline_keeps_every_cell_of_a_small_mask() -> None:
    mask = np.random.default_rng(0).random((7, 11)) < 0.5
    for cells in (mask, ~mask, np.ones((3, 2), dtype=bool)):
        found = outlined(cells, (0, 0, 1, 1))
        assert found is not None
        assert (decoded(found) == cells).all()
    assert outlined(np.zeros((4, 4), dtype=bool), (0, 0, 1, 1)) is None


@pytest.mark.parametrize("uncovered", ["lowest", "exclude"])
@pytest.mark.parametrize("size", [(200, 100), (100, 200)])
def test_map_mask_and_maximum_are_where_the_method_saw_them(size: tuple[int, int], uncovered: str) -> None:
    """A map of the central 100 x 100 square of the image with one hot cell."""
    values = np.zeros((10, 10), dtype=np.float32)
    values[2, 7] = 3
    grounding = GroundingMap(values, Frame.center_crop(size, 100))
    rules = PROTOCOLS["gtg"].changed(mask="0.5", frame="original", uncovered=uncovered)
    album = Album()
    found = album.heat(grounding, trial(size, boxes=((0.0, 0.0, 10.0, 10.0),)), rules)
    left, top = (0.25, 0.0) if size[0] > size[1] else (0.0, 0.25)
    wide, tall = (0.5, 1.0) if size[0] > size[1] else (1.0, 0.5)
    assert found["at"] == [left, top, wide, tall]
    assert found["peak"] == pytest.approx([left + 0.75 * wide, top + 0.25 * tall], abs=0.006), "centre of cell (7, 2)"
    stored = album.maps[found["map"]]
    grey = np.frombuffer(b64decode(stored["data"]), dtype=np.uint8).reshape(stored["h"], stored["w"])
    assert (grey == values * 85).all()
    mask = found["mask"]
    rows, columns = decoded(mask).nonzero()
    x = mask["at"][0] + mask["at"][2] * (columns.mean() + 0.5) / mask["w"]
    y = mask["at"][1] + mask["at"][3] * (rows.mean() + 0.5) / mask["h"]
    assert (x, y) == pytest.approx(tuple(found["peak"]), abs=0.01)
    assert album.heat(grounding, trial(size, boxes=((5.0, 5.0, 9.0, 9.0),)), rules) is found, "each map is drawn once"


def test_regions_are_shares_of_the_image() -> None:
    boxes = trial((200, 100), boxes=((20.0, 10.0, 60.0, 100.0),)).sample
    assert region_of(boxes) == {"boxes": [[0.1, 0.1, 0.2, 0.9]]}
    mask = Mask.of((4, 2), "counts", "2 2 2 2")  # by column: the second and the fourth
    found = region_of(trial((4, 2), mask=mask).sample)["mask"]
    assert decoded(found).tolist() == [[False, True, False, True]] * 2


@pytest.mark.parametrize(
    ("other", "wanted"), [([[1, 2], [3, 4]], 1), ([[4, 3], [2, 1]], -1), ([[1, 1], [1, 1]], None), ([[1, 2, 3]], None)]
)
def test_similarity(other: list[list[float]], wanted: float | None) -> None:
    found = similarity(np.array([[1.0, 2], [3, 4]], dtype=np.float32), np.array(other, dtype=np.float32))
    assert found == (wanted if wanted is None else pytest.approx(wanted))
