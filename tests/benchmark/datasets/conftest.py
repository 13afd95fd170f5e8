"""What the tests of several readers share: DICOM files, real radiographs, and the check that damage stays local."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.datasets.base import AnnotatedDataset


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., Path]:
    """(path, pixels [H, W], **tags) -> the path of a small uncompressed grey DICOM file with those tags."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    def write(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
        file = Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
        file.Rows, file.Columns = pixels.shape
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated = file.BitsStored = pixels.dtype.itemsize * 8
        file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(pixels.dtype.kind == "i")
        file.PixelData = pixels.tobytes()
        for name, value in tags.items():
            setattr(file, name, value)
        file.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture(scope="session")
def real_files() -> Path:
    """The folder of real radiographs that may be beside a checkout."""
    folder = Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real radiographs are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def only_bad() -> Callable[[AnnotatedDataset, str, str], PhraseSample]:
    """(data, place, said) -> the one bad sample, whose reason starts with file and row and contains `said`; every other
    sample can be read."""

    def check(data: AnnotatedDataset, place: str, said: str) -> PhraseSample:
        reasons = {}
        for sample in data.everything:
            try:
                data.image(sample)
            except DataError as error:
                reasons[sample] = str(error)
        ((bad, reason),) = reasons.items()
        assert reason.startswith(f"{place}: "), reason
        assert said in reason
        assert "; " in reason
        assert "\n" not in reason
        assert not (bad.boxes or bad.mask) or bad.sample_id not in data.bad
        return bad

    return check
