"""RSNA Pneumonia Detection Challenge 2018 (Shih et al., Radiology: Artificial Intelligence, 2019): opacity boxes.

The images come from ChestX-ray14, resampled to 1024 x 1024 pixels.
"""

from __future__ import annotations

from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.datasets.base import Annotation, Published
from gtg_bench.benchmark.datasets.class_labels import ClassLabelDataset
from gtg_bench.benchmark.datasets.tables import Faults, Row

LABEL = "Pneumonia"
"""What Target 1 means according to the challenge: evidence of pneumonia, outlined by boxes. The challenge's table of
classes calls the same 6,012 images "Lung Opacity"."""

BOX_SPACE: Size = (1024, 1024)
"""The image size that the boxes refer to, whatever the size of the file on disk."""

_BOX = ("x", "y", "width", "height")


class RsnaPneumoniaDataset(ClassLabelDataset):
    """The challenge's stage 2 training images with pneumonia; one sample is an image with all its boxes.

    The table has one patientId per image (26,684 of each) although ChestX-ray14 has several images of many patients, so
    patient-level confidence intervals are image-level intervals here.
    """

    name = "rsna-pneumonia"
    needs = "the folder with stage_2_train_images/ (stage_2_train_labels.csv defaults to torchxrayvision's copy)"
    published = Published(
        pairs={LABEL: 6012},
        source="counted in the challenge's stage_2_train_labels.csv",
        boxes=9555,
        images=6012,
    )
    tables = ("stage_2_train_labels.csv",)
    packaged = "kaggle_stage_2_train_labels.csv.zip"
    columns = ("patientId", *_BOX, "Target")
    subfolders = ("stage_2_train_images", "images")

    def is_negative(self, row: Row) -> bool:
        """Target 0 and no box."""
        return row.text("Target") in ("0", "0.0") and not any(map(row.has, _BOX))

    def annotation(self, row: Row) -> Annotation:
        """A box with Target 1."""
        faults = Faults()
        target = row.text("Target")
        if target not in ("1", "1.0"):
            faults.append(row.problem(f"has a box, but its Target is {target!r}, not 1", kind="category"))
        box = faults.get(row.box_xywh, *_BOX)
        return self.made(row, LABEL, faults, box=box, size=BOX_SPACE)
