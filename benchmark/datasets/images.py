"""Radiographs as arrays: PNG, JPEG and DICOM become one kind of image, float32 [H, W], bright is dense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.geometry import FloatArray, Size
from gtg_bench.benchmark.datasets.problems import Fault, fault

_DICOM_SUFFIXES = {".dcm", ".dicom"}
_DICOM_MAGIC = slice(128, 132)
_FORMATS = ("PNG", "JPEG")
_ORIENTATION_TAG = 0x0112
_TURNED = {5, 6, 7, 8}
"""EXIF orientations that swap width and height."""

_MAX_PIXELS = 150_000_000
_PNG_END, _JPEG_END, _DICOM_END = b"IEND\xaeB`\x82", b"\xff\xd9", b"\xfe\xff\xdd\xe0"
_TAIL = 4096
_DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or gtg-bench[dicom]"
_AGAIN = "download or export it again"


def read_image(path: Path) -> FloatArray:
    """Read a radiograph as a radiologist would see it.

    Args:
        path: a PNG or JPEG of any mode, or a DICOM file (by its suffix or its DICM mark).

    Returns:
        float32 [H, W] in [0, 1], bright is dense. 8 and 16 bit PNG and JPEG are divided by 255 and 65535,
        colours become luma, an alpha channel is dropped (ChestX-ray14 has RGBA files whose alpha means
        nothing), a JPEG is turned as its EXIF says. DICOM goes through its modality LUT and its first VOI LUT
        or window, or without one by its own smallest and largest value; MONOCHROME1 is inverted.

    Raises:
        DataError: the file is missing, damaged, or no single grey image; the text says which and the fix.
    """
    with _named(path):
        if _is_dicom(path, _head(path)):
            return _read_dicom(path)
        with _open(path) as image:
            upright = ImageOps.exif_transpose(image) if _has_orientation(image) else image
            return _grey(upright)


def image_size(path: Path) -> Size:
    """(width, height) of what `read_image` would return, from the file's header alone.

    Raises:
        DataError: as `read_image`; damage behind the header goes unnoticed.
    """
    with _named(path):
        if _is_dicom(path, _head(path)):
            return _dicom_size(path, _dicom(path, pixels=False))
        with _open(path) as image:
            turned = _has_orientation(image) and image.getexif().get(_ORIENTATION_TAG) in _TURNED
            return (image.height, image.width) if turned else image.size


def is_copy(path: Path) -> bool:
    """Whether a file's name says that it was converted: what comes from a hospital is DICOM."""
    return path.suffix.lower() not in _DICOM_SUFFIXES


def looks_whole(path: Path) -> bool:
    """Whether a file whose header can be read also ends as its kind does: a quick look for broken downloads.

    False is a suspicion (bytes may follow the end of an image), to be settled by `read_image`; so is True.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
            length = file.seek(0, 2)
            file.seek(max(0, length - _TAIL))
            tail = file.read()
    except OSError:
        return False
    if _is_dicom(path, head):
        return _dicom_looks_whole(path, length, tail)
    return (_PNG_END if head.startswith(b"\x89PNG") else _JPEG_END) in tail


def _dicom_looks_whole(path: Path, length: int, tail: bytes) -> bool:
    header = _dicom(path, pixels=False)
    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        return _DICOM_END in tail
    return length >= int(header.Rows) * int(header.Columns) * int(header.get("BitsAllocated", 8)) // 8


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever a decoder raises becomes a DataError of one line that names the file."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise _fault(path, "is not a PNG, JPEG or DICOM image", "convert it to one of these") from error
    except Exception as error:
        raise _fault(path, f"cannot be read as an image ({error or type(error).__name__})", _AGAIN) from error


def _fault(path: Path, what: str, fix: str) -> Fault:
    return fault(path, what, fix, kind="unreadable")


def _head(path: Path) -> bytes:
    """The file's first bytes, after the checks that need no decoder."""
    if path.is_dir():
        raise _fault(path, "is a folder, not an image", "name a file")
    if not path.exists():
        raise _fault(path, "there is no such file", "check the data folder, or download the image")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise _fault(path, "is empty", _AGAIN)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise _fault(path, "holds a web page (often a log-in page), not an image", "download it again, logged in")
    return head


def _is_dicom(path: Path, head: bytes) -> bool:
    return path.suffix.lower() in _DICOM_SUFFIXES or head[_DICOM_MAGIC] == b"DICM"


def _open(path: Path) -> Image.Image:
    """A PNG or JPEG whose pixels are not decoded yet."""
    image = Image.open(path, formats=_FORMATS)
    _check_pixels(path, image.width, image.height)
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        image.close()
        raise _fault(path, "is an animation of several frames", "save the frame that counts as one image")
    return image


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > _MAX_PIXELS:
        what = f"claims {width} x {height} pixels, more than any radiograph ({_MAX_PIXELS:,} at most)"
        raise _fault(path, what, "check where it comes from, or shrink it")


def _has_orientation(image: Image.Image) -> bool:
    """Only JPEG: for a PNG, looking for EXIF would decode the image."""
    return image.format != "PNG"


def _grey(image: Image.Image) -> FloatArray:
    """float32 [H, W] in [0, 1] of a PNG's or JPEG's image, whatever its mode."""
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.float32) / np.float32(65535)
    colour = image.mode not in ("1", "L", "LA")
    grey = (image.convert("RGB") if colour else image).convert("L")
    return np.asarray(grey).astype(np.float32) / np.float32(255)


def _dicom(path: Path, pixels: bool = True) -> Any:
    """A DICOM file's data set, with or without its pixels."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except InvalidDicomError as error:
        raise _fault(path, "is not a DICOM file, whatever its name says", "rename or export it again") from error


def _dicom_size(path: Path, header: Any) -> Size:
    """(width, height) from the header of a single grey image."""
    if "Rows" not in header or "Columns" not in header:
        raise _fault(path, "is a DICOM file without an image (a report?)", "name the image's file")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise _fault(path, f"is a DICOM series of {frames} frames", "save the frame that counts as one image")
    if header.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        what = f"is a DICOM image in {header.get('PhotometricInterpretation')}, not in MONOCHROME1 or 2"
        raise _fault(path, what, "convert it to a grey PNG")
    size = int(header.Columns), int(header.Rows)
    _check_pixels(path, *size)
    return size


def _read_dicom(path: Path) -> FloatArray:
    from pydicom.pixels import apply_modality_lut

    file = _dicom(path)
    width, height = _dicom_size(path, file)
    values = np.asarray(apply_modality_lut(_stored(path, file), file))
    if values.shape != (height, width) or not np.isfinite(values).all():
        raise _fault(path, "holds pixels that do not fit its header", _AGAIN)
    shown = _display(values, file)
    return np.float32(1) - shown if file.PhotometricInterpretation == "MONOCHROME1" else shown


def _stored(path: Path, file: Any) -> NDArray[Any]:
    """The stored pixels [H, W], before any LUT."""
    from pydicom.pixels import get_decoder

    if not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}.intersection(file.dir()):
        raise _fault(path, "is a DICOM file without pixel data", _AGAIN)
    syntax = file.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and not get_decoder(syntax).is_available:
        raise _fault(path, f"is compressed as {syntax.name}, and no decoder for that is installed", _DECODERS)
    return file.pixel_array


def _display(values: NDArray[Any], file: Any) -> FloatArray:
    """float32 [H, W] in [0, 1]: by the first VOI LUT, else the first window, else smallest to largest value."""
    if file.get("VOILUTSequence"):
        return _looked_up(values, file.VOILUTSequence[0])
    center, width = _first(file.get("WindowCenter")), _first(file.get("WindowWidth"))
    if center is not None and width is not None:
        return _windowed(values, center, width, str(file.get("VOILUTFunction") or "LINEAR").upper())
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low or 1.0)).astype(np.float32)


def _first(value: Any) -> float | None:
    """The first of one or several numbers, None where there is none."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        return None if value in (None, "") else float(value)
    return float(value[0]) if len(value) else None


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


def _looked_up(values: NDArray[Any], item: Any) -> FloatArray:
    """A VOI LUT's [0, 1]: DICOM PS3.3 C.11.2.1.1; values beyond the table take its first or last entry."""
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries, data = entries or 2**16, item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, dtype=np.uint8 if len(data) < 2 * entries else "<u2")
    table = np.asarray(data, dtype=np.float32)[:entries] / np.float32(2**bits - 1)
    index = np.rint(values).astype(np.int64) - first
    return np.clip(table, 0, 1)[np.clip(index, 0, len(table) - 1)]
