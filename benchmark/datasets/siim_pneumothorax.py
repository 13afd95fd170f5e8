"""SIIM-ACR Pneumothorax Segmentation 2019: masks of pneumothoraces on images of ChestX-ray14."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from gtg_bench.benchmark.api.geometry import Mask, Size
from gtg_bench.benchmark.datasets.annotated import Annotation
from gtg_bench.benchmark.datasets.counts import Published
from gtg_bench.benchmark.datasets.labelled import LabelledDataset
from gtg_bench.benchmark.datasets.problems import Faults
from gtg_bench.benchmark.datasets.rows import Row

LABEL = "Pneumothorax"
PUBLISHED = Published(
    pairs={LABEL: 2669},
    source="counted in the training table that torchxrayvision carries, with 3,576 masks",
    images=2669,
)
"""A row is a mask; the masks of one image are united."""

MASK_SPACE: Size = (1024, 1024)
"""The images that the run lengths belong to, whatever size the image on disk has."""

_NONE = "-1"
_CODE = "EncodedPixels"
_NESTED = ("dicom-images-train/*/*/*.dcm", "1.*/*/*.dcm")
"""The publisher's tree: a folder for each study and in it one for each series, which the table does not name."""


class SiimPneumothoraxDataset(LabelledDataset):
    """The stage 2 training images with a pneumothorax; one sample is an image with the union of its masks.

    The run lengths go down the columns of the image from its upper left corner: pixels to skip since the last run (for
    the first since the corner), pixels of the run, and so on. The file names no patients.
    """

    name = "siim-pneumothorax"
    needs = "the folder with dicom-images-train/ (and stage_2_train.csv, else torchxrayvision's copy is read)"
    published = PUBLISHED
    tables = ("stage_2_train.csv", "train-rle.csv", "siim-pneumothorax-train-rle.csv")
    carried = "siim-pneumothorax-train-rle.csv.gz"
    columns = ("ImageId", _CODE)
    subfolders = ("images", "dicom-images-train")

    def is_negative(self, row: Row) -> bool:
        """The code -1."""
        return row.text(_CODE) == _NONE

    def annotation(self, row: Row) -> Annotation:
        """A mask."""
        faults = Faults()
        return self.made(row, LABEL, faults, mask=faults.get(_mask, row), size=MASK_SPACE)

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The image's id with each suffix, then where it lies in the folders of studies and series."""
        nested = self._nested.get(row.image)
        return [*super().image_names(row), *([nested] if nested else [])]

    @cached_property
    def _nested(self) -> dict[str, str]:
        """Image -> its path in the folders of studies and series, relative to its base."""
        found = [(base, path) for base in self.bases for tree in _NESTED for path in sorted(base.glob(tree))]
        return {path.stem: str(path.relative_to(base)) for base, path in reversed(found)}


def _mask(row: Row) -> Mask:
    """The row's mask. Raises Fault where its code cannot be read, is empty, or does not fit the image."""
    code = row.text(_CODE)
    if len(code.split()) % 2 or not code:
        what = f"{_CODE} holds {len(code.split())} numbers, not pairs of a gap and a length, or -1 for no pneumothorax"
        raise row.fault(what, kind="region")
    try:
        return Mask.of(MASK_SPACE, "counts", code)
    except ValueError as error:
        raise row.fault(f"its mask cannot be used: {error}", kind="region") from error
