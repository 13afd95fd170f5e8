"""What every annotated data set gets from its base: a reader of a few lines has sizes, copies, masks and options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import Frame, Mask, boxes_to_mask, region_in
from gtg_bench.benchmark.datasets.base import AnnotatedDataset, Annotation
from gtg_bench.benchmark.datasets.tables import Row, read_rows


class Tiny(AnnotatedDataset):
    """Rows of image, box and phrase; nothing gives the size of an image."""

    name = "tiny"

    def read(self) -> Iterator[Annotation]:
        for row in read_rows(self.root / "t.csv", ["image", "phrase", "x", "y", "w", "h"]):
            yield self.annotation(row)

    def annotation(self, row: Row) -> Annotation:
        image, phrase = row.text("image"), row.text("phrase")
        box = None if phrase == "nowhere" else row.box_xywh("x", "y", "w", "h")
        return Annotation(row.file, row.row, image, Path(image).stem, image[0], "Edema", phrase, box)


class Copied(Tiny):
    """The same, annotated at 100 x 80; half of the rows as masks."""

    rescaled = True

    def annotation(self, row: Row) -> Annotation:
        made = super().annotation(row)
        mask = Mask.of((100, 80), "polygon", "20 10 60 10 60 40 20 40") if made.phrase == "mask" else None
        fields = (made.image, made.image_id, made.patient_id, made.category, made.phrase)
        return Annotation(row.file, row.row, *fields, box=None if mask else made.box, mask=mask, size=(100, 80))


def tree(root: Path, *rows: str, **images: tuple[int, int]) -> Path:
    (root / "t.csv").write_text("\n".join(["image,phrase,x,y,w,h", *rows]))
    for name, size in images.items():
        Image.new("L", size, 99).save(root / f"{name}.png")
    return root


def test_sizes_come_from_the_images_where_no_row_has_them(tmp_path: Path) -> None:
    data = Tiny(tree(tmp_path, "a.png,left,1,2,3,4", "a.png,left,5,5,5,5", "b.png,right,1,1,9,2", a=(10, 12), b=(9, 9)))
    left, right = data.samples("test")
    assert (left.boxes, left.image_size) == (((1, 2, 4, 6), (5, 5, 10, 10)), (10, 12))
    assert "row 4: the box (1, 1, 9, 2)" in data.bad[right.sample_id]
    with pytest.raises(DataError, match="row 4"):
        data.image(right)
    (reason,) = Tiny(tree(tmp_path, "a.png,nowhere,1,1,1,1")).bad.values()
    assert "neither a box nor a mask" in reason


def test_regions_follow_a_reduced_copy(tmp_path: Path) -> None:
    data = Copied(tree(tmp_path, "a.png,box,20,10,40,30", "a.png,mask,0,0,1,1", a=(10, 8)))
    boxed, masked = data.samples("test")
    assert (boxed.boxes, boxed.image_size, masked.image_size) == (((2, 1, 6, 4),), (10, 8), (10, 8))
    frame, wanted = Frame.original((10, 8)), boxes_to_mask([(2, 1, 6, 4)], (10, 8))
    for sample in (boxed, masked):
        np.testing.assert_array_equal(region_in(sample, frame), wanted)


def test_an_original_is_not_opened_for_its_size(tmp_path: Path) -> None:
    tree(tmp_path, "a.dcm,box,20,10,40,30").joinpath("a.dcm").write_bytes(b"no DICOM")
    data = Copied(tmp_path)
    (sample,) = data.samples("test")
    assert (sample.image_size, data.problems) == ((100, 80), [])
    with pytest.raises(DataError, match=r"t\.csv, row 2: its image .*a\.dcm: .*DICOM"):
        data.image(sample)


def test_options_of_every_set(tmp_path: Path) -> None:
    tree(tmp_path, "a.png,x,1,1,1,1", "b.png,x,1,1,1,1", a=(9, 9))
    assert len(Tiny(tmp_path).samples("test")) == 2
    assert len(Tiny(tmp_path, {"present-only": "true"}).samples("test")) == 1
    with pytest.raises(UsageError, match="no option 'image'"):
        Tiny(tmp_path, {"image": "."})
    with pytest.raises(UsageError, match="no split 'train'"):
        Tiny(tmp_path).samples("train")
    with pytest.raises(UsageError, match="--data-root"):
        Tiny(None)


def test_other_sample_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "a.png,x,1,1,1,1", a=(9, 9))
    (sample,) = Tiny(tmp_path).samples("test")
    tree(tmp_path, "a.png,y,1,1,1,1")
    with pytest.raises(DataError, match="not a sample of tiny"):
        Tiny(tmp_path).image(sample)


def test_version_is_of_the_rows_and_not_of_their_order(tmp_path: Path) -> None:
    rows = ("a.png,x,1,1,1,1", "a.png,y,1,1,2,1")
    first = Tiny(tree(tmp_path, *rows, a=(9, 9))).version
    assert Tiny(tree(tmp_path, *rows[::-1])).version == first
    for changed in (("a.png,x,1,1,1,1", "a.png,y,1,1,2,2"), ("a.png,x,1,1,1,1", "a.png,z,1,1,2,1"), rows[:1]):
        assert Tiny(tree(tmp_path, *changed)).version != first
    assert Tiny(tree(tmp_path, *rows, a=(8, 9))).version != first
