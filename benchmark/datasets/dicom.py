"""Decode DICOM files: stored values, then the modality LUT, then the VOI LUT, then MONOCHROME1's inversion."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Size
from gtg_bench.benchmark.datasets.grey_range import check_pixels, limits, stretched, unreadable

_AGAIN = "download or export it again"
_DECODERS = "install decoders: pip install 'gtg-bench[dicom]'"
_SYNTAX_12_BIT = "1.2.840.10008.1.2.4.51"


def open_dicom(path: Path, pixels: bool = True) -> Any:
    """A DICOM file's data set, with or without its pixels, even if its preamble is missing."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except InvalidDicomError as error:
        wrong = unreadable(path, "is not a DICOM file, despite its name", "rename or export it again")
        try:
            file = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
        except Exception:
            raise wrong from error
        if "Rows" not in file and "SOPClassUID" not in file:
            raise wrong from error
        return file


def transfer_syntax(path: Path, file: Any) -> Any:
    """The transfer syntax, as the file was read if it names none."""
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    syntax = UID(str(file.file_meta.get("TransferSyntaxUID") or ""))
    if not syntax:
        implicit, little = file.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = ImplicitVRLittleEndian if implicit else explicit
        if (file.get("PixelData") or b"").startswith(b"\xfe\xff\x00\xe0"):
            raise unreadable(path, "is compressed, but has no transfer syntax that says how", "export it again")
    elif syntax.is_private or not syntax.is_transfer_syntax:
        raise unreadable(path, f"has the unknown transfer syntax {str(syntax)!r}", "export it again")
    return syntax


def dicom_size(path: Path, header: Any) -> Size:
    """(width, height) from the header of a single grey image."""
    if "Rows" not in header or "Columns" not in header:
        raise unreadable(path, "is a DICOM file without an image (a report?)", "name the image file")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise unreadable(path, f"is a DICOM series of {frames} frames", "save the right frame as one image")
    if header.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        what = f"is a DICOM image in {header.get('PhotometricInterpretation')}, not in MONOCHROME1 or 2"
        raise unreadable(path, what, "convert it to a grey PNG")
    size = int(header.Columns), int(header.Rows)
    check_pixels(path, *size)
    return size


def read_dicom(path: Path, grey_range: str) -> FloatArray:
    """See `images.read_image`. Raises DataError, or whatever pydicom raises."""
    file = open_dicom(path)
    width, height = dicom_size(path, file)
    stored = _stored(path, file)
    values = _modality(stored, file)
    if values.shape != (height, width) or not np.isfinite(values).all():
        raise unreadable(path, "has pixels that do not match its header", _AGAIN)
    padding = _padding(stored, file)
    if grey_range == "file":
        shown = _display(values, values[~padding], file)
    else:
        shown = stretched(values, *limits(values[~padding], grey_range))
    if file.PhotometricInterpretation == "MONOCHROME1":
        shown = np.float32(1) - shown
    shown[padding] = 0
    return shown


def _stored(path: Path, file: Any) -> NDArray[Any]:
    """The stored pixel values [H, W]."""
    from pydicom.pixels import get_decoder

    if not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}.intersection(file.dir()):
        raise unreadable(path, "is a DICOM file without pixel data", _AGAIN)
    file.file_meta.TransferSyntaxUID = syntax = transfer_syntax(path, file)
    compressed = f"is compressed as {syntax.name}, and no decoder for that is installed"
    if syntax.is_encapsulated and not get_decoder(syntax).is_available:
        raise unreadable(path, compressed, _DECODERS)
    try:
        return np.asarray(file.pixel_array)
    except Exception as error:
        if syntax == _SYNTAX_12_BIT and "pylibjpeg" not in get_decoder(syntax).available_plugins:
            raise unreadable(path, compressed, _DECODERS) from error  # Pillow decodes it only if it has 8 bits
        raise


def _modality(stored: NDArray[Any], file: Any) -> NDArray[Any]:
    """Stored values after the modality LUT, else after rescaling (DICOM PS3.3 C.11.1)."""
    for item in file.get("ModalityLUTSequence") or ():
        table, index = _looked_up(stored, item)
        if table.size:
            return table[index]
    slope, intercept = (_numbers(file, name)[0] for name in ("RescaleSlope", "RescaleIntercept"))
    return stored if slope is None and intercept is None else stored * (slope or 1.0) + (intercept or 0.0)


def _padding(stored: NDArray[Any], file: Any) -> BoolArray:
    """bool [H, W]: pixels of the padding value, or between it and the range limit (DICOM PS3.3 C.7.5.1.1.2)."""
    first = _numbers(file, "PixelPaddingValue", "FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue")[0]
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = _numbers(file, "PixelPaddingRangeLimit")[0]
    ends = np.array([first, first if last is None else last])
    if stored.dtype.kind in "iu":
        ends = ends.astype(np.int64).astype(stored.dtype)  # an unsigned value in a signed image wraps around
    return (stored >= ends.min()) & (stored <= ends.max())


def _display(values: NDArray[Any], real: NDArray[Any], file: Any) -> FloatArray:
    """float32 [H, W] in [0, 1] by the first VOI LUT, else the first window, else over the range of the `real` values.

    pydicom's own `apply_voi_lut` gives values in units of the stored bits, with other rounding.
    """
    for item in file.get("VOILUTSequence") or ():
        table, index = _looked_up(values, item)
        if table.size:
            bits, needed = int(item.LUTDescriptor[2]), max(8, int(table.max()).bit_length())
            bits = needed if needed <= bits - 2 or bits < 1 else bits  # 12-bit entries that claim to have 16 bits
            return np.clip(table / np.float32(2**bits - 1), 0, 1)[index]
    for center, width in zip_longest(_numbers(file, "WindowCenter"), _numbers(file, "WindowWidth")):
        if center is not None and width is not None:
            return _windowed(values, center, width, str(file.get("VOILUTFunction") or "LINEAR").upper())
    return stretched(values, *limits(real, "file"))


def _numbers(file: Any, *names: str) -> list[float | None]:
    """The values of the first of these elements that is not empty; None for each that is missing."""
    value: Any = next((found for name in names if (found := file.get(name)) not in (None, "", [])), None)
    values = [value] if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") else list(value)
    return [None if each in (None, "") else float(each) for each in values]


def _windowed(values: NDArray[Any], center: float, width: float, function: str) -> FloatArray:
    """A window's [0, 1]: DICOM PS3.3 C.11.2.1.2 (linear) and C.11.2.1.3 (sigmoid, exact linear)."""
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or width < (1 if function == "LINEAR" else 1e-9):
        raise ValueError(f"its window ({function}, centre {center}, width {width}) is not valid")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return (1 / (1 + np.exp(-4 * (values - center) / width))).astype(np.float32)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float32)
    return np.clip((values - center) / width + 0.5, 0, 1).astype(np.float32)


def _looked_up(values: NDArray[Any], item: Any) -> tuple[FloatArray, NDArray[np.int64]]:
    """The entries of a LUT, and the entry of each value (DICOM PS3.3 C.11.2.1.1): values beyond the table have its
    first or last one. The table is empty if the LUT is; it may have fewer entries than its descriptor says."""
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or data is None or len(descriptor) < 3:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    entries, first = int(descriptor[0]) % 2**16 or 2**16, int(descriptor[1])
    if first >= 2**15 and values.min() < 0:
        first -= 2**16  # written as unsigned
    if isinstance(data, bytes):
        wide = len(data) not in (entries, entries + 1)  # 8-bit entries are padded to an even length
        data = np.frombuffer(data[: len(data) // 2 * 2] if wide else data, dtype="<u2" if wide else np.uint8)
    table = np.atleast_1d(np.asarray(data, dtype=np.float32))[:entries]
    return table, np.clip(np.rint(values).astype(np.int64) - first, 0, max(0, len(table) - 1))
