"""Decode radiographs: PNG, JPEG and DICOM files, PIL images and arrays become float32 [H, W], bright is dense."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Size
from gtg_bench.benchmark.datasets.problems import Fault, fault

_DICOM_SUFFIXES = {".dcm", ".dicom"}
_DICOM_MAGIC = slice(128, 132)
_ORIENTATION_TAG = 0x0112
_TURNED = {5, 6, 7, 8}
"""EXIF orientations that swap width and height."""

_MAX_PIXELS = 150_000_000
_PNG_END, _JPEG_END, _DICOM_END = b"IEND\xaeB`\x82", b"\xff\xd9", b"\xfe\xff\xdd\xe0"
_TAIL = 4096
_DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or gtg-bench[dicom]"
_AGAIN = "download or export it again"
_ACCEPTED = (
    "pass a path, a PIL image, or an array: float [H, W] in [0, 1], uint8 or uint16 [H, W], or RGB uint8 [H, W, 3]"
)


ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any]
"""What `as_image` accepts."""


def as_image(value: ImageLike) -> FloatArray:
    """Convert any common form of a radiograph to the one that methods take; anything ambiguous is refused.

    Args:
        value: the path of a PNG, JPEG or DICOM file; a PIL image of any mode; or an array: float [H, W] in [0, 1],
            uint8 [H, W] (divided by 255), uint16 [H, W] (divided by 65535), RGB or RGBA uint8 [H, W, 3 or 4] (becomes
            luma; alpha is dropped). Arrays are taken as they are: invert MONOCHROME1 pixels before you pass them.

    Returns:
        float32 [H, W] in [0, 1], bright is dense; the same as `read_image` for a file, however it was opened.

    Raises:
        UsageError: an array or PIL image of another kind, or with values outside its range.
        DataError: as `read_image`.
    """
    if isinstance(value, (str, os.PathLike)):
        return read_image(value)
    if isinstance(value, Image.Image):
        return _from_pil(value)
    if not hasattr(value, "__array__") or isinstance(value, np.ma.MaskedArray):
        raise UsageError(f"cannot use a {type(value).__name__} as an image; {_ACCEPTED}")
    try:
        array = np.asarray(value)
    except Exception as error:
        raise UsageError(f"cannot convert a {type(value).__name__} to an array ({error}); {_ACCEPTED}") from error
    return _from_array(array)


def _from_pil(image: Image.Image) -> FloatArray:
    if image.width < 1 or image.height < 1 or getattr(image, "n_frames", 1) > 1:
        raise UsageError(f"a PIL image must have pixels and a single frame; {_ACCEPTED}")
    try:
        image = _upright(image)
        if image.mode == "F":
            return _from_array(np.asarray(image))
        if image.mode == "I" and ((values := np.asarray(image)).min() < 0 or values.max() > 65535):
            raise UsageError(f"a PIL image of mode I must hold 16-bit values, 0 to 65535; {_ACCEPTED}")
        return _grey(image)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot convert a PIL image of mode {image.mode} ({error}); {_ACCEPTED}") from error


def _from_array(array: NDArray[Any]) -> FloatArray:
    kind = f"a {array.dtype} array of shape {array.shape}"
    if array.size and array.ndim == 2 and array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UsageError(f"{kind} has values outside [0, 1] or NaN: rescale it; {_ACCEPTED}")
        return array.astype(np.float32)
    if array.size and array.ndim == 2 and array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    if array.size and array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8:
        return _grey(Image.fromarray(np.ascontiguousarray(array)))
    raise UsageError(f"cannot use {kind} as an image; {_ACCEPTED}")


def read_image(path: str | os.PathLike[str]) -> FloatArray:
    """Read a radiograph as a radiologist would see it.

    Args:
        path: a PNG or JPEG of any mode, or a DICOM file (recognised by its suffix or its DICM mark).

    Returns:
        float32 [H, W] in [0, 1], bright is dense. 8 and 16 bit PNG and JPEG are divided by 255 and 65535, colours
        become luma, an alpha channel is dropped (it is meaningless in the RGBA files of ChestX-ray14), and a JPEG is
        rotated according to its EXIF tag. DICOM goes through its modality LUT and its first VOI LUT or window, or is
        scaled from its smallest to its largest value if it has neither; MONOCHROME1 is inverted.

    Raises:
        DataError: the file is missing, damaged, or not a single grey image; says which, and the fix.
    """
    path = Path(path)
    with _named(path):
        if _is_dicom(path, _head(path)):
            return _read_dicom(path)
        with _open(path) as image:
            return _grey(_upright(image))


def image_size(path: str | os.PathLike[str]) -> Size:
    """(width, height) of what `read_image` would return, from the file's header alone.

    Raises:
        DataError: as `read_image`, except for damage behind the header.
    """
    path = Path(path)
    with _named(path):
        if _is_dicom(path, _head(path)):
            return _dicom_size(path, _dicom(path, pixels=False))
        with _open(path) as image:
            turned = image.format != "PNG" and image.getexif().get(_ORIENTATION_TAG) in _TURNED
            return (image.height, image.width) if turned else image.size


def is_copy(path: Path) -> bool:
    """Whether a file was converted, judging by its name: hospitals export DICOM."""
    return path.suffix.lower() not in _DICOM_SUFFIXES


def looks_whole(path: Path) -> bool:
    """Whether a file with a readable header also ends as its format does: a quick test for broken downloads.

    The answer is only a guess (bytes may follow the end of an image); `read_image` gives the proof.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
            length = file.seek(0, 2)
            file.seek(max(0, length - _TAIL))
            tail = file.read()
    except OSError:
        return False
    if not _is_dicom(path, head):
        return (_PNG_END if head.startswith(b"\x89PNG") else _JPEG_END) in tail
    header = _dicom(path, pixels=False)
    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        return _DICOM_END in tail
    return length >= int(header.Rows) * int(header.Columns) * int(header.get("BitsAllocated", 8)) // 8


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn every decoder's exception into a DataError of one line that names the file."""
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
        raise _fault(path, "file not found", "check the data folder, or download the image")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise _fault(path, "is empty", _AGAIN)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise _fault(path, "is a web page (often a login page), not an image", "log in and download it again")
    return head


def _is_dicom(path: Path, head: bytes) -> bool:
    return path.suffix.lower() in _DICOM_SUFFIXES or head[_DICOM_MAGIC] == b"DICM"


def _open(path: Path) -> Image.Image:
    """Open a PNG or JPEG without decoding its pixels."""
    image = Image.open(path, formats=("PNG", "JPEG"))
    _check_pixels(path, image.width, image.height)
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        image.close()
        raise _fault(path, "is an animation of several frames", "save the right frame as one image")
    return image


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > _MAX_PIXELS:
        what = f"claims {width} x {height} pixels, more than any radiograph has ({_MAX_PIXELS:,} at most)"
        raise _fault(path, what, "check where it comes from, or shrink it")


def _upright(image: Image.Image) -> Image.Image:
    """Rotated as EXIF says, except for PNG, where looking for EXIF would decode the image."""
    return image if image.format == "PNG" else ImageOps.exif_transpose(image)


def _grey(image: Image.Image) -> FloatArray:
    """float32 [H, W] in [0, 1] from a PIL image of any mode; every integer mode beyond 8 bits counts as 16 bit."""
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
        raise _fault(path, "is not a DICOM file, despite its name", "rename or export it again") from error


def _dicom_size(path: Path, header: Any) -> Size:
    """(width, height) from the header of a single grey image."""
    if "Rows" not in header or "Columns" not in header:
        raise _fault(path, "is a DICOM file without an image (a report?)", "name the image file")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise _fault(path, f"is a DICOM series of {frames} frames", "save the right frame as one image")
    if header.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        what = f"is a DICOM image in {header.get('PhotometricInterpretation')}, not in MONOCHROME1 or 2"
        raise _fault(path, what, "convert it to a grey PNG")
    size = int(header.Columns), int(header.Rows)
    _check_pixels(path, *size)
    return size


def _read_dicom(path: Path) -> FloatArray:
    from pydicom.pixels import apply_modality_lut, get_decoder

    file = _dicom(path)
    width, height = _dicom_size(path, file)
    if not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}.intersection(file.dir()):
        raise _fault(path, "is a DICOM file without pixel data", _AGAIN)
    syntax = file.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and not get_decoder(syntax).is_available:
        raise _fault(path, f"is compressed as {syntax.name}, and no decoder for that is installed", _DECODERS)
    values = np.asarray(apply_modality_lut(file.pixel_array, file))
    if values.shape != (height, width) or not np.isfinite(values).all():
        raise _fault(path, "has pixels that do not match its header", _AGAIN)
    shown = _display(values, file)
    return np.float32(1) - shown if file.PhotometricInterpretation == "MONOCHROME1" else shown


def _display(values: NDArray[Any], file: Any) -> FloatArray:
    """float32 [H, W] in [0, 1] by the first VOI LUT, else the first window, else from smallest to largest value.

    pydicom's own `apply_voi_lut` gives values in units of the stored bits, with other rounding.
    """
    if file.get("VOILUTSequence"):
        return _looked_up(values, file.VOILUTSequence[0])
    center, width = _first(file.get("WindowCenter")), _first(file.get("WindowWidth"))
    if center is not None and width is not None:
        return _windowed(values, center, width, str(file.get("VOILUTFunction") or "LINEAR").upper())
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low or 1.0)).astype(np.float32)


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None if there is none."""
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
