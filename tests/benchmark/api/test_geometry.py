"""Frames, maps carried between them, and boxes turned into masks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import functional as vision

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, Size, boxes_to_mask

SIDES = (5, 6, 7, 8, 13, 20, 31, 48)
RADIOGRAPHS = [(2544, 3056), (3056, 2544), (2022, 2022), (1024, 1025), (513, 512), (3, 1000)]


def numbers(*rows: list[float]) -> FloatArray:
    return np.array(rows, dtype=np.float32)


def grid(*rows: str) -> BoolArray:
    return np.array([[cell == "#" for cell in row] for row in rows])


@pytest.mark.parametrize("size", [(7, 900), (900, 7)])
def test_a_strip_is_resized_in_its_window_only(size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large as a whole: the same pixels, to rounding; and 2 x 60,000 pixels need no more than the window."""
    image = np.random.default_rng(0).random(size[::-1], dtype=np.float32)
    frames = [Frame.center_crop(size, 64), Frame.center_crop(size, 64, 80), Frame(size, (99, 101), (-7, 50, 60, 70))]
    whole = [frame.apply(image) for frame in frames]
    monkeypatch.setattr("gtg_bench.benchmark.api.geometry.MAX_PIXELS", 1)
    for frame, wanted in zip(frames, whole, strict=True):
        np.testing.assert_allclose(frame.apply(image), wanted, atol=1e-5)
    monkeypatch.undo()
    assert Frame.center_crop((2, 60_000), 512).apply(np.zeros((60_000, 2))).shape == (512, 512)


def random_frame(random: np.random.Generator, image_size: Size) -> Frame:
    """Any frame of an image: other aspect, window inside, across the border or around the image."""
    width, height, w, h = (int(side) for side in random.integers(1, 60, 4))
    left, top = (int(offset) for offset in random.integers(-20, 40, 2))
    return Frame(image_size, (width, height), (left, top, w, h))


# Frames


def test_frames_of_a_wide_image() -> None:
    assert Frame.original((8, 4)) == Frame((8, 4), (8, 4), (0, 0, 8, 4))
    assert Frame.stretch((8, 4), (3, 5)) == Frame((8, 4), (3, 5), (0, 0, 3, 5))
    assert Frame.center_crop((8, 4), 2) == Frame((8, 4), (4, 2), (1, 0, 2, 2))
    assert Frame.center_crop((8, 4), 6, 4) == Frame((8, 4), (12, 6), (4, 1, 4, 4))
    assert (Frame.center_crop((30, 70), 20, 16).size, Frame.stretch((8, 4), (3, 5)).size) == ((16, 16), (3, 5))


@pytest.mark.parametrize("broken", [((0, 4), (4, 4), (0, 0, 4, 4)), ((4, 4), (4, 0), (0, 0, 4, 4))])
def test_a_frame_needs_positive_sizes(broken: tuple[Size, Size, tuple[int, int, int, int]]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Frame(*broken)
    with pytest.raises(ValueError, match="positive"):
        Frame((4, 4), (4, 4), (0, 0, 4, 0))


def torchvision_frame(image_size: Size, resize: int, crop: int) -> Frame:
    """Size and offset read off pixels that hold their own coordinates, 1-based, through torchvision."""
    width, height = vision.resize(Image.new("L", image_size), resize).size
    columns, rows = torch.meshgrid(torch.arange(1, width + 1), torch.arange(1, height + 1), indexing="xy")
    column, row = vision.center_crop(torch.stack((columns, rows)), [crop, crop])
    y, x = (int(index) for index in torch.nonzero(column)[0])
    return Frame(image_size, (width, height), (int(column[y, x]) - 1 - x, int(row[y, x]) - 1 - y, crop, crop))


CROPS = [
    *(
        (size, resize, resize - less)
        for size in product(SIDES, repeat=2)
        for resize in (5, 16, 17)
        for less in (0, 1, 4)
    ),
    *((size, 5, crop) for size in product((5, 6, 9), repeat=2) for crop in (6, 7, 8, 9)),  # larger than the image
    *((size, resize, resize - k) for size in RADIOGRAPHS for resize in (113, 224) for k in (0, 2, 28)),
]


def test_center_crop_is_torchvisions() -> None:
    for crop in CROPS:
        assert Frame.center_crop(*crop) == torchvision_frame(*crop), crop


# Boxes


def test_boxes_by_hand() -> None:
    frame = Frame((8, 4), (4, 2), (1, 0, 2, 2))
    assert frame.boxes_from_image([(2, 0, 6, 4), (0, 1, 8, 3)]).tolist() == [[0, 0, 2, 2], [-1, 0.5, 3, 1.5]]
    assert frame.boxes_to_image([(0, 0, 2, 2)]).tolist() == [[2, 0, 6, 4]]
    assert frame.boxes_from_image([]).shape == (0, 4)


@pytest.mark.parametrize("seed", range(40))
def test_boxes_come_back(seed: int) -> None:
    random = np.random.default_rng(seed)
    frame = random_frame(random, (37, 23))
    boxes = random.uniform(-5, 50, (6, 4))
    np.testing.assert_allclose(frame.boxes_to_image(frame.boxes_from_image(boxes)), boxes, atol=1e-9)
    np.testing.assert_allclose(frame.boxes_from_image(frame.boxes_to_image(boxes)), boxes, atol=1e-9)


def test_box_corners_follow_the_pixels_that_apply_cuts_out() -> None:
    image = boxes_to_mask([(4, 8, 12, 16)], (32, 24)).astype(np.float32)
    frame = Frame.center_crop((32, 24), 12)
    seen = frame.apply(image) > 0.5
    assert (seen == boxes_to_mask(frame.boxes_from_image([(4, 8, 12, 16)]), frame.size)).all()


def test_a_mask_by_hand() -> None:
    assert (boxes_to_mask([(1, 0, 3, 1)], (4, 2)) == grid(".##.", "....")).all()
    assert (boxes_to_mask([(0.5, 0, 1.5, 2)], (3, 2)) == grid("#..", "#..")).all()  # a centre on the left edge is in
    assert (boxes_to_mask([(0.6, 0, 2.6, 2)], (3, 2)) == grid(".##", ".##")).all()
    assert (boxes_to_mask([(0, 0, 1, 1), (2, 1, 9, 9)], (3, 2)) == grid("#..", "..#")).all()
    assert not boxes_to_mask([], (3, 2)).any()
    assert not boxes_to_mask([(-5, -5, 0, 0), (0.6, 0, 1.4, 2), (2, 0, 1, 2)], (3, 2)).any()


@pytest.mark.parametrize("seed", range(10))
def test_a_mask_by_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    width, height = (int(side) for side in random.integers(1, 20, 2))
    start = random.uniform(-3, 18, (3, 2))
    boxes = np.round(np.concatenate((start, start + random.uniform(0, 9, (3, 2))), axis=1) * 4) / 4
    mask = boxes_to_mask(boxes, (width, height))
    assert mask.shape == (height, width)
    for y, x in product(range(height), range(width)):
        inside = any(x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1 for x0, y0, x1, y1 in boxes)
        assert mask[y, x] == inside


# Images


@pytest.mark.parametrize(("resize", "crop"), [(10, 10), (10, 7), (40, 33)])
@pytest.mark.parametrize("image_size", [(31, 19), (19, 31), (20, 20)])
def test_apply_is_torchvisions_resize_and_crop(image_size: Size, resize: int, crop: int) -> None:
    image = np.random.default_rng(0).random(image_size[::-1]).astype(np.float32)
    wanted = vision.center_crop(vision.resize(Image.fromarray(image), resize), [crop, crop])
    found = Frame.center_crop(image_size, resize, crop).apply(image)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.asarray(wanted))


def test_apply_pads_with_zeros() -> None:
    image = np.arange(1, 7, dtype=np.float64).reshape(2, 3)
    found = Frame((3, 2), (3, 2), (-1, 1, 3, 2)).apply(image)
    assert found.tolist() == [[0, 4, 5], [0, 0, 0]]


def test_apply_leaves_the_image_alone() -> None:
    image = np.ones((2, 3), dtype=np.float32)
    Frame.original((3, 2)).apply(image)[:] = 7
    assert (image == 1).all()


def test_apply_refuses_another_image() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\), not \(2, 3\)"):
        Frame.original((3, 2)).apply(np.zeros((3, 2), dtype=np.float32))


# Maps


@pytest.mark.parametrize("seed", range(10))
def test_carrying_a_map_to_its_own_frame_changes_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    frame = random_frame(random, (29, 17))
    values = random.standard_normal(frame.size[::-1]).astype(np.float32)
    carried, covered = frame.carry(values, frame)
    np.testing.assert_array_equal(carried, values)
    assert covered.all()


def interpolated(values: FloatArray, size: Size) -> NDArray[np.float32]:
    tensor = torch.from_numpy(values)[None, None]
    return torch.nn.functional.interpolate(tensor, size[::-1], mode="bilinear", align_corners=False)[0, 0].numpy()


@pytest.mark.parametrize("cells", [(1, 1), (1, 7), (3, 5), (16, 16), (64, 48)])
@pytest.mark.parametrize("size", [(1, 1), (9, 4), (32, 32), (50, 71)])
def test_within_one_frame_a_map_is_carried_as_torch_interpolates(cells: tuple[int, int], size: Size) -> None:
    values = np.random.default_rng(0).standard_normal(cells).astype(np.float32)
    carried, covered = Frame.stretch((40, 60), (10, 10)).carry(values, Frame.stretch((40, 60), size))
    np.testing.assert_allclose(carried, interpolated(values, size), atol=2e-5)
    assert carried.dtype == np.float32
    assert carried.flags.c_contiguous
    assert covered.all()


WHOLE, PADDED = Frame.original((6, 2)), Frame((3, 2), (3, 2), (-1, -1, 5, 4))
CARRIED: list[tuple[Frame, Frame, list, list, tuple[str, ...]]] = [
    (Frame.stretch((2, 1), (2, 1)), Frame.stretch((2, 1), (4, 1)), [[0, 4]], [[0, 1, 3, 4]], ("####",)),
    (Frame.stretch((2, 2), (2, 2)), Frame.stretch((2, 2), (1, 4)), [[0], [4]], [[0], [1], [3], [4]], ("#",) * 4),
    (WHOLE, Frame.center_crop((6, 2), 2), [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]], [[2, 3], [8, 9]], ("##",) * 2),
    # a crop to the whole image; also with columns 2 to 6 of the image on a grid of two cells
    (Frame.center_crop((6, 2), 2), WHOLE, [[1, 2], [3, 4]], [[1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 4]], ("..##..",) * 2),
    (Frame((6, 2), (12, 4), (4, 0, 8, 4)), WHOLE, [[0, 4]], [[0, 0, 0, 1, 3, 4]] * 2, ("..####",) * 2),
    (PADDED, Frame.original((3, 2)), np.arange(20).reshape(4, 5).tolist(), [[6, 7, 8], [11, 12, 13]], ("###",) * 2),
    (
        *(Frame.original((3, 2)), PADDED, [[6, 7, 8], [11, 12, 13]]),
        [[6, 6, 7, 8, 8], [6, 6, 7, 8, 8], [11, 11, 12, 13, 13], [11, 11, 12, 13, 13]],
        (".....", ".###.", ".###.", "....."),
    ),
]


@pytest.mark.parametrize(("frame", "to", "values", "expected", "seen"), CARRIED)
def test_carrying_by_hand(frame: Frame, to: Frame, values: list, expected: list, seen: tuple[str, ...]) -> None:
    carried, covered = frame.carry(numbers(*values), to)
    assert carried.tolist() == expected
    assert (covered == grid(*seen)).all()


def test_frames_of_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match="different images"):
        Frame.original((3, 2)).carry(np.zeros((2, 3), dtype=np.float32), Frame.original((2, 3)))
