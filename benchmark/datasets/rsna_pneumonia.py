"""RSNA Pneumonia Detection Challenge 2018 (Shih et al., Radiology: Artificial Intelligence, 2019): boxes of opacities.

The images are a part of ChestX-ray14, stored anew in 1024 x 1024 pixels.
"""

from __future__ import annotations

from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.datasets.annotated import Annotation
from gtg_bench.benchmark.datasets.counts import Published
from gtg_bench.benchmark.datasets.labelled import LabelledDataset
from gtg_bench.benchmark.datasets.problems import Faults
from gtg_bench.benchmark.datasets.rows import Row

LABEL = "Pneumonia"
"""What a Target of 1 stands for by the challenge's own description: evidence of pneumonia, which the boxes outline. Its
table of classes calls the same 6,012 images "Lung Opacity"."""

PUBLISHED = Published(
    pairs={LABEL: 6012},
    source="counted in the challenge's stage_2_train_labels.csv",
    boxes=9555,
    images=6012,
)

BOX_SPACE: Size = (1024, 1024)
"""The images that the file's coordinates belong to, whatever size the image on disk has."""

_BOX = ("x", "y", "width", "height")


class RsnaPneumoniaDataset(LabelledDataset):
    """The challenge's stage 2 training images with pneumonia; one sample is an image with all its boxes.

    The file's patientId is one an image (26,684 of each), although ChestX-ray14 has several images of many patients:
    confidence bounds by patient are bounds by image here.
    """

    name = "rsna-pneumonia"
    needs = "the folder with stage_2_train_images/ (and stage_2_train_labels.csv, else torchxrayvision's copy is read)"
    published = PUBLISHED
    tables = ("stage_2_train_labels.csv",)
    carried = "kaggle_stage_2_train_labels.csv.zip"
    columns = ("patientId", *_BOX, "Target")
    subfolders = ("stage_2_train_images", "images")

    def is_negative(self, row: Row) -> bool:
        """A Target of 0 without a box."""
        return row.text("Target") in ("0", "0.0") and not any(map(row.has, _BOX))

    def annotation(self, row: Row) -> Annotation:
        """A box, of a Target of 1."""
        faults = Faults()
        target = row.text("Target")
        if target not in ("1", "1.0"):
            faults.append(row.problem(f"has a box, but its Target is {target!r}, not 1", kind="category"))
        box = faults.get(row.box_xywh, *_BOX)
        return self.made(row, LABEL, faults, box=box, size=BOX_SPACE)
