"""Decode radiographs: PNG, JPEG and DICOM files, PIL images and arrays become float32 [H, W], bright is dense."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose as Turn

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Size
from gtg_bench.benchmark.datasets.dicom import dicom_size, open_dicom, read_dicom, transfer_syntax
from gtg_bench.benchmark.datasets.grey_range import check_pixels, limits, stretched, unreadable

_DICOM_SUFFIXES = {".dcm", ".dicom"}
_DICOM_MAGIC = slice(128, 132)
_ORIENTATION_TAG = 0x0112
_TURNS = dict(
    zip(
        range(2, 9),
        (
            Turn.FLIP_LEFT_RIGHT,
            Turn.ROTATE_180,
            Turn.FLIP_TOP_BOTTOM,
            Turn.TRANSPOSE,
            Turn.ROTATE_270,
            Turn.TRANSVERSE,
            Turn.ROTATE_90,
        ),
        strict=True,
    )
)
"""EXIF orientation -> what undoes it; from 5 on, width and height are swapped."""

_PNG_NOTES = {b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"}
"""PNG chunks that do not change the pixels; Pillow refuses images with large or damaged ones."""

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_PNG_END, _JPEG_END, _DICOM_END = b"IEND\xaeB`\x82", b"\xff\xd9", b"\xfe\xff\xdd\xe0"
_TAIL = 4096
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
        return _file_range(*_levels(image))
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
        return _file_range(*_levels(Image.fromarray(np.ascontiguousarray(array))))
    raise UsageError(f"cannot use {kind} as an image; {_ACCEPTED}")


def read_image(path: str | os.PathLike[str], grey_range: str = "file") -> FloatArray:
    """Read a radiograph as a radiologist would see it.

    Args:
        path: a PNG or JPEG of any mode, or a DICOM file (recognised by its suffix or its DICM mark).
        grey_range: one of `grey_range.RANGES`.

    Returns:
        float32 [H, W] in [0, 1], bright is dense. 8 and 16 bit PNG and JPEG are divided by 255 and 65535, colours
        become luma, an alpha channel is dropped (it is meaningless in the RGBA files of ChestX-ray14), and a JPEG is
        rotated according to its EXIF tag. DICOM goes through its modality LUT or rescale, then its first VOI LUT or
        window, or is scaled from its smallest to its largest value if it has neither; then MONOCHROME1 is inverted.
        Padding does not count for the range, and is black.

    Raises:
        DataError: the file is missing, damaged, or not a single grey image; says which, and the fix.
    """
    path = Path(path)
    with _named(path):
        head = _head(path)
        if _is_dicom(path, head):
            return read_dicom(path, grey_range)
        with _open(path, head) as image:
            levels, white = _levels(_upright(image))
        if grey_range == "file":
            return _file_range(levels, white)
        return stretched(levels, *limits(levels, grey_range))


def image_size(path: str | os.PathLike[str]) -> Size:
    """(width, height) of what `read_image` would return, from the file's header alone.

    Raises:
        DataError: as `read_image`, except for damage behind the header.
    """
    path = Path(path)
    with _named(path):
        head = _head(path)
        if _is_dicom(path, head):
            return dicom_size(path, open_dicom(path, pixels=False))
        with _open(path, head, pixels=False) as image:
            return (image.height, image.width) if _orientation(image) >= 5 else image.size


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
        if not _is_dicom(path, head):
            return (_PNG_END if head.startswith(_PNG) else _JPEG_END) in tail
        header = open_dicom(path, pixels=False)
        if transfer_syntax(path, header).is_encapsulated:
            return _DICOM_END in tail
        return length >= int(header.Rows) * int(header.Columns) * int(header.get("BitsAllocated", 8)) // 8
    except Exception:
        return False


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn every decoder's exception into a DataError of one line that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise unreadable(path, f"cannot be read as an image ({error or type(error).__name__})", _AGAIN) from error


def _head(path: Path) -> bytes:
    """The file's first bytes, after the checks that need no decoder."""
    if not path.exists():
        raise unreadable(path, "file not found", "check the data folder, or download the image")
    if not path.is_file():
        kind = "folder" if path.is_dir() else "device or pipe"
        raise unreadable(path, f"is a {kind}, not an image", "name a file")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise unreadable(path, "is empty", _AGAIN)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise unreadable(path, "is a web page (often a login page), not an image", "log in and download it again")
    return head


def _is_dicom(path: Path, head: bytes) -> bool:
    return path.suffix.lower() in _DICOM_SUFFIXES or head[_DICOM_MAGIC] == b"DICM"


def _open(path: Path, head: bytes, pixels: bool = True) -> Image.Image:
    """Open a PNG or JPEG; without `pixels`, only its size and orientation can be read."""
    try:
        file = _without_notes(path, pixels) if head.startswith(_PNG) else path
        image = Image.open(file, formats=("PNG", "JPEG"))
    except UnidentifiedImageError as error:
        if head.startswith(_JPEG):
            what = "is a damaged JPEG, or one with more than 8 bits per pixel"
            raise unreadable(path, what, "download it again, or convert it to a 16-bit PNG") from error
        raise unreadable(path, "is not a PNG, JPEG or DICOM image", "convert it to one of these") from error
    check_pixels(path, image.width, image.height)
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        image.close()
        raise unreadable(path, "is an animation of several frames", "save the right frame as one image")
    return image


def _without_notes(path: Path, pixels: bool) -> BytesIO:
    """A PNG file without its texts, colour profile and EXIF; without `pixels`, its chunks before the first IDAT."""
    with path.open("rb") as file:
        kept = [file.read(len(_PNG))]
        while len(start := file.read(8)) == 8:
            length, name = int.from_bytes(start[:4], "big"), start[4:]
            if name in _PNG_NOTES:
                file.seek(length + 4, os.SEEK_CUR)
            elif name == b"IDAT" and not pixels:
                kept.append(start)
                break
            else:
                kept += [start, file.read(length + 4)]
    return BytesIO(b"".join(kept))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 for PNG and if the EXIF data is damaged."""
    try:
        found = 1 if image.format == "PNG" else int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return 1
    return found if found in _TURNS else 1


def _upright(image: Image.Image) -> Image.Image:
    """Rotated as EXIF says. `ImageOps.exif_transpose` would fail on EXIF data that cannot be written again."""
    orientation = _orientation(image)
    return image if orientation == 1 else image.transpose(_TURNS[orientation])


def _levels(image: Image.Image) -> tuple[NDArray[Any], int]:
    """Grey levels [H, W] of a PIL image and the level of white; modes beyond 8 bits count as 16 bit."""
    if image.mode.startswith("I"):
        return np.asarray(image), 65535
    colour = image.mode not in ("1", "L", "LA")
    return np.asarray((image.convert("RGB") if colour else image).convert("L")), 255


def _file_range(levels: NDArray[Any], white: int) -> FloatArray:
    values = levels.astype(np.float32)
    values /= np.float32(white)
    return values
