"""COCO-style files: boxes, polygons and run lengths, phrases from texts or categories, and how masks are written."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.measure import grid_points_in_poly

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import Frame, Mask, boxes_to_mask, region_in
from gtg_bench.benchmark.api.mask_codes import Coding
from gtg_bench.benchmark.api.types import sample_id
from gtg_bench.benchmark.datasets.check import check
from gtg_bench.benchmark.datasets.coco import CocoDataset

CATEGORIES = [{"id": 1, "name": "Nodule"}, {"id": 2, "name": "Mass"}]
SQUARE = [2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]
BOX = [2.0, 1.0, 4.0, 3.0]


def annotation(image: int, category: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": BOX} | more


def tree(root: Path, annotations: Sequence[Any], images: Sequence[dict[str, Any]] | None = None, **more: Any) -> Path:
    """A COCO file for two images of 10 x 8 pixels, and the images."""
    images = images or [{"id": n, "file_name": f"{n}.png", "width": 10, "height": 8} for n in (1, 2)]
    whole = {"images": images, "annotations": list(annotations), "categories": CATEGORIES} | more
    (root / "mine.json").write_text(json.dumps(whole))
    for n in (1, 2):
        Image.new("L", (10, 8), 40 * n).save(root / f"{n}.png")
    return root


def test_samples_by_hand(tmp_path: Path) -> None:
    rows = [
        annotation(1, label_text="a left nodule"),
        annotation(2, 2),
        annotation(1, caption="a left nodule", bbox=[0, 0, 1.5, 2]),
        annotation(1, 2, phrase="a left nodule"),
    ]
    data = CocoDataset(tree(tmp_path, rows))
    first, second, third = data.samples("test")
    assert first.sample_id == sample_id("1", "Nodule", "a left nodule")
    assert (first.boxes, first.image_size, first.mask) == (((2, 1, 6, 4), (0, 0, 1.5, 2)), (10, 8), None)
    assert (second.phrase, second.category, second.image_id, second.patient_id) == ("Mass", "Mass", "2", "2")
    assert (third.category, third.phrase) == ("Mass", "a left nodule")
    assert (data.problems, data.splits, list(data.samples("all"))) == ([], ("test", "all"), [first, second, third])
    assert data.image(second).max() == pytest.approx(80 / 255)


def test_regions_are_masks_where_every_part_has_one(tmp_path: Path) -> None:
    run_lengths = {"size": [8, 10], "counts": [0, 4, 76]}
    rows = [
        annotation(1, segmentation=[SQUARE, [7, 5, 9, 5, 9, 7, 7, 7]]),
        annotation(1, segmentation=run_lengths),
        annotation(2, segmentation=[SQUARE]),
        annotation(2, segmentation=[]),
    ]
    data = CocoDataset(tree(tmp_path, rows))
    masked, boxed = data.samples("test")
    wanted = boxes_to_mask([(2, 1, 6, 4), (7, 5, 9, 7), (0, 0, 1, 4)], (10, 8))
    assert (masked.boxes, boxed.mask, len(boxed.boxes)) == ((), None, 2)
    assert masked.mask is not None
    np.testing.assert_array_equal(masked.mask.decode(), wanted)
    np.testing.assert_array_equal(region_in(masked, Frame.original((10, 8))), wanted)
    assert len({masked, boxed}) == 2  # hashable
    only_boxes = CocoDataset(tmp_path, {"region": "box"}).samples("test")[0]
    assert (only_boxes.mask, len(only_boxes.boxes)) == (None, 2)
    assert CocoDataset(tmp_path, {"region": "box"}).version != data.version


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_id": 9}, "unknown image 9"),
        ({"category_id": 9}, "unknown category 9"),
        ({"bbox": [1, 2, 3]}, "bbox is [1, 2, 3]"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox is nan"),
        ({"bbox": [8, 2, 4, 4]}, "10 x 8"),
        ({"bbox": None}, "bbox is None"),
        ({"label_text": ["a"]}, "label_text is ['a']"),
        ({"label_text": "a \ud800"}, "invalid characters"),
        ({"segmentation": [[1, 2, 3]]}, "three corners"),
        ({"segmentation": [[1, 1, 2, 2, 3, 3]]}, "area"),
        ({"segmentation": [[1, 1, 2, 2, 99, 3]]}, "image"),
        ({"segmentation": "polygon"}, "not a valid mask"),
        ({"segmentation": {"size": [8, 10], "counts": [1, 999]}}, "pixels"),
        ({"segmentation": {"size": [8, 10], "counts": [80]}}, "pixel"),
        ({"segmentation": {"size": [8, 10], "counts": "\u00e9"}}, "RLE"),
        ({"segmentation": {"counts": [1, 2]}}, "'size'"),
        ({"segmentation": {"size": [9, 10], "counts": [1, 2]}}, "(10, 9)"),
    ],
)
def test_a_bad_annotation_fails_its_own_sample_alone(
    changes: dict[str, Any], said: str, tmp_path: Path, only_bad: Callable
) -> None:
    rows = [annotation(1, label_text="good"), annotation(1, label_text="bad") | changes, annotation(2)]
    data = CocoDataset(tree(tmp_path, rows))
    assert len(data.samples("test")) == 3
    only_bad(data, f"{tmp_path / 'mine.json'}, annotations[1]", said)


LINE, GOOD = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0], {"size": [8.0, 10.0], "counts": [17.0, 3, 5, 3, 5, 3, 5, 3, 36]}


@pytest.mark.parametrize(
    "changes",
    [
        {"image_id": 1.0, "category_id": 1.0},
        {"image_id": "1"},
        {"bbox": []},
        {"bbox": None},
        {"bbox": [0, 0, 0, 0]},
        {"bbox": [2.0, 1.0, 0.0, 3.0]},
        {"segmentation": [LINE, SQUARE, [1, 1], []]},
        {"segmentation": GOOD},
        {"segmentation": {"size": [8, 10], "counts": "a03500000o0"}},
        {"segmentation": {"size": [8, 10], "counts": "a03500000o0"}, "bbox": []},
    ],
)
@pytest.mark.parametrize("region", ["auto", "box"])
def test_annotations_as_tools_write_them(changes: dict[str, Any], region: str, tmp_path: Path) -> None:
    """All of them are the box (2, 1) to (6, 4), or the mask of its 12 pixels."""
    data = CocoDataset(tree(tmp_path, [annotation(1, segmentation=[SQUARE]) | changes]), {"region": region})
    (sample,) = data.samples("test")
    assert (data.problems, sample.image_id) == ([], "1")
    np.testing.assert_array_equal(region_in(sample, Frame.original((10, 8))), boxes_to_mask([(2, 1, 6, 4)], (10, 8)))
    assert (sample.mask is None) == (region == "box")


def test_a_mask_counts_as_its_box_beside_a_box(tmp_path: Path) -> None:
    rows = [annotation(1, segmentation=[SQUARE], bbox=[]), annotation(1, bbox=[7, 5, 2, 2])]
    (sample,) = CocoDataset(tree(tmp_path, rows)).samples("test")
    assert (sample.mask, sample.boxes) == (None, ((2, 1, 6, 4), (7, 5, 9, 7)))


@pytest.mark.parametrize(
    ("size", "segmentation"),
    [
        ((1e308, 1e308), None),
        ((10**7, 10**7), None),
        ((10, 8), {"size": [99_999, 99_999], "counts": [0, 5]}),
        ((10, 8), {"size": [10**9, 10**9], "counts": "05"}),
    ],
)
def test_sizes_have_a_bound(size: tuple[float, float], segmentation: Any, tmp_path: Path, only_bad: Callable) -> None:
    images = [{"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "2.png", "width": size[0], "height": size[1]}]
    rows = [annotation(1), annotation(2, **({"segmentation": segmentation} if segmentation else {}))]
    data = CocoDataset(tree(tmp_path, rows, images))
    only_bad(
        data,
        f"{tmp_path / 'mine.json'}, annotations[1]" if segmentation else str(data.problems[0]).split(": ")[0],
        "radiograph",
    )
    assert {problem.kind for problem in check("coco", tmp_path, {}).problems} == {"region" if segmentation else "size"}


def test_names_of_images(tmp_path: Path) -> None:
    """Backslashes, composed and decomposed accents, and names that differ in one character only."""
    names = ["scan 1.png", "scan_1.png", "scan+1.png", "sub\\3.png", unicodedata.normalize("NFC", "é.png"), "è.png"]
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    tree(tmp_path, [annotation(n) for n in range(len(names))], images)
    (tmp_path / "sub").mkdir()
    for n, name in enumerate(names):
        Image.new("L", (10, 8), n).save(tmp_path / unicodedata.normalize("NFD", name.replace("\\", "/")))
    data = CocoDataset(tmp_path)
    assert data.problems == []
    assert [round(float(data.image(s).max()) * 255) for s in data.everything] == list(range(len(names)))
    ids = [sample.image_id for sample in data.everything]
    assert (len(set(ids)), ids[1], ids[3:5]) == (len(ids), "scan_1", ["3", "é"])
    assert CocoDataset(tmp_path).everything == data.everything


def test_invalid_entries(tmp_path: Path) -> None:
    """An annotation that is a number, an image twice, an image without a size or a name."""
    images = [
        {"id": 1, "file_name": "1.png", "width": 10, "height": 8},
        {"id": 2, "file_name": "2.png"},
        {"id": 3, "file_name": "1.png"},
        {"id": 3, "file_name": "2.png"},
        {"id": 4},
        {"id": 5, "file_name": "../1.png", "width": 10, "height": 8},
    ]
    data = CocoDataset(tree(tmp_path, [annotation(1), 7, annotation(2), *map(annotation, (3, 4, 5))], images))
    good = [s for s in data.samples("all") if s.sample_id not in data.bad]
    assert [(s.image_id, s.image_size) for s in good] == [("1", (10, 8)), ("2", (10, 8))]
    said = " ".join(map(str, data.problems))
    for text in ("annotations[1]: is 7", "images[3] repeats the id 3 of images[2]"):
        assert text in said
    assert "'../1.png' is not a valid image name" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("[1, 2]", "list"),
        ("{}", "has no list 'images'"),
        ('{"images": [], "annotations": {}}', "has no list 'annotations'"),
        ('{"images": [], "annotations": []}', "has no annotations"),
        ('{"images": [\n1,', "row 2: "),
        ("[" * 100_000, "JSON"),
    ],
)
def test_damaged_file(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(DataError) as caught:
        CocoDataset(tmp_path)
    assert str(tmp_path / "mine.json") in str(caught.value)
    assert said in str(caught.value)


def test_options_and_files(tmp_path: Path) -> None:
    tree(tmp_path, [annotation(1)])
    with pytest.raises(UsageError, match=r"region.*'mask'"):
        CocoDataset(tmp_path, {"region": "mask"})
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match=r"2 JSON files.*other\.json.*annotations=FILE"):
        CocoDataset(tmp_path)
    assert len(CocoDataset(tmp_path, {"annotations": "mine.json"}).samples("test")) == 1


def test_splits_and_patients(tmp_path: Path) -> None:
    images = [
        {"id": n, "file_name": f"{n}.png", "width": 10, "height": 8, "patient_id": 77, "split": "val"} for n in (1, 2)
    ]
    data = CocoDataset(tree(tmp_path, [annotation(1), annotation(2, split="train")], images))
    assert data.splits == ("val", "train", "all")
    assert [s.patient_id for s in data.samples("all")] == ["77", "77"]
    assert [s.image_id for s in data.samples("train")] == ["2"]
    with pytest.raises(UsageError, match=r"no split 'test'.*val, train, all"):
        data.samples("test")


def test_images_of_one_name_in_two_folders(tmp_path: Path) -> None:
    tree(tmp_path, [annotation(1), annotation(2)], [{"id": n, "file_name": f"{'ab'[n - 1]}/x.png"} for n in (1, 2)])
    for n, folder in enumerate("ab", start=1):
        (tmp_path / folder).mkdir()
        (tmp_path / f"{n}.png").rename(tmp_path / folder / "x.png")
    assert [s.image_id for s in CocoDataset(tmp_path).samples("test")] == ["a_x.png", "b_x.png"]


def test_real_files(real_files: Path) -> None:
    """Three images of TBX11K with boxes, and 44 radiographs with masks."""
    data = CocoDataset(real_files / "cxr_samples")
    active, obsolete = data.samples("test")
    assert (active.image_id, active.phrase, active.image_size) == ("tb0005", "ActiveTuberculosis", (512, 512))
    np.testing.assert_allclose(active.boxes, [(381.83371, 126.87339, 422.07062, 171.43916)], atol=1e-4)
    assert len(obsolete.boxes) == 2
    assert data.problems == []
    assert all(data.image(sample).shape == (512, 512) for sample in (active, obsolete))
    masks = CocoDataset(real_files / "masks44", {"annotations": "instances.json"})
    assert (len(masks.everything), len({s.patient_id for s in masks.everything}), masks.problems) == (60, 37, [])
    assert all(sample.mask is not None and sample.mask.decode().any() for sample in masks.everything)


def compressed(counts: Sequence[int]) -> str:
    """COCO's text for counts, one number after the other as its definition says."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = not (value == -1 if bits & 16 else value == 0)
            text += chr(48 + (bits | 32 if more else bits))
            if not more:
                break
    return text


def counted(mask: np.ndarray) -> list[int]:
    """Pixels outside and inside in turn, column by column."""
    counts, inside = [0], False
    for pixel in mask.T.ravel():
        if pixel != inside:
            counts, inside = [*counts, 0], not inside
        counts[-1] += 1
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_both_ways(seed: int) -> None:
    mask = np.random.default_rng(seed).random((37, 53)) < (0.5, 0.02, 0.98, 0.2)[seed]
    counts = counted(mask)
    codes: tuple[tuple[Coding, str], ...] = (("counts", " ".join(map(str, counts))), ("coco", compressed(counts)))
    for coding, code in codes:
        np.testing.assert_array_equal(Mask.of((53, 37), coding, code).decode(), mask)


def test_polygon_is_the_pixels_whose_centre_lies_in_it() -> None:
    corners = np.array([(3.2, 1.1), (30.7, 8.4), (22.3, 25.9), (14.6, 12.2), (5.1, 28.8)])  # (x, y), not convex
    found = Mask.of((33, 31), "polygon", " ".join(map(str, corners.ravel()))).decode()
    wanted = grid_points_in_poly((31, 33), corners[:, ::-1] - 0.5)
    np.testing.assert_array_equal(found, wanted)


def test_an_empty_box_is_an_absent_finding_and_enters_no_sample(tmp_path: Path) -> None:
    rows = [annotation(1, label_text="seen"), annotation(2, label_text="no mass", bbox=[], split="validate")]
    data = CocoDataset(tree(tmp_path, rows))
    assert (data.problems, [sample.phrase for sample in data.samples("all")]) == ([], ["seen"])
    (absent,) = data.absent_samples("validate")
    assert (absent.phrase, absent.boxes, absent.mask) == ("no mass", (), None)
    assert data.image(absent).shape == (8, 10)
    assert data.absent_samples("test") == []
