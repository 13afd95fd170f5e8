"""SIIM-ACR Pneumothorax Segmentation 2019: pneumothorax masks on images of ChestX-ray14."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from gtg_bench.benchmark.api.geometry import Mask, Size
from gtg_bench.benchmark.datasets.base import Annotation, Published
from gtg_bench.benchmark.datasets.class_labels import ClassLabelDataset
from gtg_bench.benchmark.datasets.tables import Faults, Row

LABEL = "Pneumothorax"
MASK_SPACE: Size = (1024, 1024)
"""The image size that the run lengths refer to, whatever the size of the file on disk."""

_CODE = "EncodedPixels"
_NESTED = ("dicom-images-train/*/*/*.dcm", "1.*/*/*.dcm")
"""The publisher's tree: a folder per study and per series, which the table does not name."""


class SiimPneumothoraxDataset(ClassLabelDataset):
    """The stage 2 training images with a pneumothorax; one sample is an image with the union of its masks.

    The run lengths run down the image's columns from the upper left corner: pixels to skip since the last run (for the
    first, since the corner), pixels in the run, and so on. A row is one mask. The table does not name patients.
    """

    name = "siim-pneumothorax"
    needs = "the folder with dicom-images-train/ (stage_2_train.csv defaults to torchxrayvision's copy)"
    published = Published(
        pairs={LABEL: 2669},
        source="counted in torchxrayvision's copy of the training table, with 3,576 masks",
        images=2669,
    )
    tables = ("stage_2_train.csv", "train-rle.csv", "siim-pneumothorax-train-rle.csv")
    packaged = "siim-pneumothorax-train-rle.csv.gz"
    columns = ("ImageId", _CODE)
    subfolders = ("images", "dicom-images-train")

    def is_negative(self, row: Row) -> bool:
        """The code -1."""
        return row.text(_CODE) == "-1"

    def annotation(self, row: Row) -> Annotation:
        """A mask."""
        faults = Faults()
        return self.made(row, LABEL, faults, mask=faults.get(_mask, row), size=MASK_SPACE)

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The image id with each suffix, then its path in the folders of studies and series."""
        nested = self._nested.get(row.image)
        return [*super().image_names(row), *([nested] if nested else [])]

    @cached_property
    def _nested(self) -> dict[str, str]:
        """Image id -> path in the folders of studies and series, relative to its base."""
        found = [(base, path) for base in self.bases for tree in _NESTED for path in sorted(base.glob(tree))]
        return {path.stem: str(path.relative_to(base)) for base, path in reversed(found)}


def _mask(row: Row) -> Mask:
    """The row's mask. Raises Fault if its code cannot be read, is empty, or does not fit the image."""
    code = row.text(_CODE)
    if len(code.split()) % 2 or not code:
        what = f"{_CODE} has {len(code.split())} numbers, not pairs of skip and run length, or -1 for no pneumothorax"
        raise row.fault(what, kind="region")
    try:
        return Mask.of(MASK_SPACE, "counts", code)
    except ValueError as error:
        raise row.fault(f"its mask cannot be used: {error}", kind="region") from error
