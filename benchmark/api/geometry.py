"""Geometry: the resize, crop and padding between an image and the input of a method or protocol.

`Frame` is the only place where coordinates change. All boxes are float xyxy, half open, in pixels whose
centres are at half integers: the box (0, 0, 1, 1) is exactly the first pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from gtg_bench.benchmark.api.mask_codes import MAX_PIXELS, Coding, check_code, unpack

Size = tuple[int, int]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle `window` of the image resized to `resized`.

    Attributes:
        image_size: (width, height) of the original image in pixels.
        resized: (width, height) after resizing.
        window: (left, top, width, height) in resized pixels; where it extends beyond the resized image,
            the frame is padded.
    """

    image_size: Size
    resized: Size
    window: tuple[int, int, int, int]

    def __post_init__(self) -> None:
        if min(*self.image_size, *self.resized, *self.window[2:]) < 1:
            raise ValueError(f"a frame needs positive sizes, not {self}")

    @classmethod
    def original(cls, image_size: Size) -> Frame:
        """The whole image in its own pixels."""
        return cls(image_size, image_size, (0, 0, *image_size))

    @classmethod
    def stretch(cls, image_size: Size, size: Size) -> Frame:
        """The whole image stretched to (width, height) `size`, ignoring its aspect ratio."""
        return cls(image_size, size, (0, 0, *size))

    @classmethod
    def center_crop(cls, image_size: Size, resize: int, crop: int | None = None) -> Frame:
        """Shorter side to `resize` pixels, then the central `crop` x `crop` square (default: `resize`).

        Rounds as torchvision's Resize and CenterCrop do (longer side down, offset to the nearest even).
        """
        crop = resize if crop is None else crop
        width, height = image_size
        shorter = min(width, height)
        resized = (int(resize * width / shorter), int(resize * height / shorter))
        left, top = (-((crop - side) // 2) if crop > side else round((side - crop) / 2) for side in resized)
        return cls(image_size, resized, (left, top, crop, crop))

    @property
    def size(self) -> Size:
        """(width, height) of the frame in its own pixels."""
        return self.window[2], self.window[3]

    def boxes_from_image(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Transform float boxes [N, 4] (xyxy) from image pixels to frame pixels, without clipping."""
        scale, offset = self._scale_offset()
        return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale - offset

    def boxes_to_image(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Transform float boxes [N, 4] (xyxy) from frame pixels to image pixels, without clipping."""
        scale, offset = self._scale_offset()
        return (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) + offset) / scale

    def _scale_offset(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        scale = [r / s for r, s in zip(self.resized, self.image_size, strict=True)]
        return np.array(scale * 2), np.array(self.window[:2] * 2, dtype=np.float64)

    def apply(self, image: NDArray[np.floating]) -> FloatArray:
        """Cut the frame out of an image.

        Args:
            image: float [H, W], any range, of this frame's `image_size`.

        Returns:
            float32 [h, w] of this frame's `size`: bilinear, antialiased when shrinking, zero in the padding.

        Raises:
            ValueError: the image is not of this frame's image size.
        """
        height, width = image.shape
        if (width, height) != self.image_size:
            raise ValueError(f"this frame is for an image of {self.image_size}, not {(width, height)}")
        whole = Image.fromarray(np.asarray(image, dtype=np.float32))
        left, top, w, h = self.window
        inside = max(left, 0), max(top, 0), min(left + w, self.resized[0]), min(top + h, self.resized[1])
        if self.resized[0] * self.resized[1] > MAX_PIXELS and inside[0] < inside[2] and inside[1] < inside[3]:
            # A strip whose resized form would not fit into memory: resize only the window.
            x, y = (size / resized for size, resized in zip(self.image_size, self.resized, strict=True))
            box = (inside[0] * x, inside[1] * y, inside[2] * x, inside[3] * y)
            whole = whole.resize((inside[2] - inside[0], inside[3] - inside[1]), Image.Resampling.BILINEAR, box)
            left, top = left - inside[0], top - inside[1]
        elif self.resized != self.image_size:
            whole = whole.resize(self.resized, Image.Resampling.BILINEAR)
        return np.array(whole.crop((left, top, left + w, top + h)), dtype=np.float32)

    def carry(self, values: NDArray[np.floating], to: Frame) -> tuple[FloatArray, BoolArray]:
        """Carry a map that spans this frame to another frame of the same image, bilinearly.

        Args:
            values: float [h, w]; its cells divide this frame's window evenly, for any h and w.
            to: the frame to carry the map to.

        Returns:
            float32 [H, W] of the size of `to`, and bool [H, W]: the pixels that this frame covers. Pixels
            outside hold the nearest covered value.
        """
        if self.image_size != to.image_size:
            raise ValueError(f"frames of different images: {self.image_size} and {to.image_size}")
        rows, covered_rows = self._positions(to, axis=1, cells=values.shape[0])
        columns, covered_columns = self._positions(to, axis=0, cells=values.shape[1])
        carried = _interpolate(_interpolate(np.asarray(values, dtype=np.float32), rows).T, columns).T
        return np.ascontiguousarray(carried), covered_rows[:, None] & covered_columns[None, :]

    def _cells(self, axis: int, cells: int) -> tuple[NDArray[np.intp], BoolArray]:
        """For each pixel centre of this frame, its cell on a grid over the whole image, and whether it is inside."""
        centres = (np.arange(self.window[2 + axis]) + 0.5 + self.window[axis]) / self.resized[axis]
        inside = (centres >= 0) & (centres < 1)
        return np.clip(np.floor(centres * cells), 0, cells - 1).astype(np.intp), inside

    def _positions(self, to: Frame, axis: int, cells: int) -> tuple[NDArray[np.float64], BoolArray]:
        """Positions of the pixel centres of `to` on this frame's grid of `cells`, and which are inside it."""
        centres = np.arange(to.window[2 + axis]) + 0.5 + to.window[axis]
        inside = centres * (self.resized[axis] / to.resized[axis]) - self.window[axis]
        span = self.window[2 + axis]
        position = np.clip(inside * (cells / span) - 0.5, 0, cells - 1)
        return position, (inside >= 0) & (inside < span)


def _interpolate(values: FloatArray, positions: NDArray[np.float64]) -> FloatArray:
    """Linear interpolation along the first axis at fractional `positions`."""
    low = np.floor(positions).astype(np.intp)
    high = np.minimum(low + 1, len(values) - 1)
    weight = (positions - low).astype(np.float32)[:, None]
    found, upper = values[low], values[high]
    found *= 1 - weight  # in place: maps of 8,192 x 8,192 pixels fit into memory a few times only
    upper *= weight
    found += upper
    return found


def boxes_to_mask(boxes: Sequence[Sequence[float]] | NDArray[np.float64], size: Size) -> BoolArray:
    """The union of boxes as a mask.

    Args:
        boxes: float xyxy, half open, in pixels of the mask.
        size: (width, height) of the mask.

    Returns:
        bool [height, width]: pixels whose centre is in a box.
    """
    width, height = size
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    mask = np.zeros((height, width), dtype=bool)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
        mask |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None, :]
    return mask


def bounds(mask: BoolArray) -> tuple[float, float, float, float] | None:
    """The smallest box (xyxy, half open) around the pixels of a mask, bool [H, W]; None if it has none."""
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    if not rows.size:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


@dataclass(frozen=True, slots=True)
class Mask:
    """A region in a data set's own encoding, decoded on use. Hashable; equal if the encodings are equal.

    Attributes:
        size: (width, height) of the encoded grid, which spans the whole original image: the image's own size, unless
            the file on disk is a resized copy.
        parts: (coding, code) of each part, see `api.mask_codes`; the region is their union.
    """

    size: Size
    parts: tuple[tuple[Coding, str], ...]

    @classmethod
    def of(cls, size: Size, coding: Coding, code: str) -> Mask:
        """A mask of one part. Raises ValueError if the code is not valid, empty, or larger than `size`."""
        mask = cls(size, ((coding, code),))
        mask.check()
        return mask

    @classmethod
    def union(cls, masks: Sequence[Mask]) -> Mask:
        """All regions of one image together. Raises ValueError if their sizes differ."""
        if len(sizes := {mask.size for mask in masks}) != 1:
            raise ValueError(f"masks of one image must have one size, not {sorted(sizes)}")
        return cls(masks[0].size, tuple(dict.fromkeys(part for mask in masks for part in mask.parts)))

    @property
    def digest(self) -> str:
        """sha256 of size and code, in hex, for keys that depend on the region."""
        return hashlib.sha256(repr((self.size, self.parts)).encode()).hexdigest()

    def check(self) -> None:
        """Raise ValueError if a part cannot be decoded, has no pixels, or does not fit the grid."""
        for coding, code in self.parts:
            check_code(coding, code, self.size)

    def decode(self) -> BoolArray:
        """bool [H, W] on the grid of `size`: the union of the parts. Raises ValueError if the code is not valid."""
        width, height = self.size
        found = np.zeros((height, width), dtype=bool)
        for coding, code in self.parts:
            found |= unpack(coding, code, self.size)
        return found

    def in_frame(self, frame: Frame) -> BoolArray:
        """bool [h, w] of the frame's size: frame pixels whose centre is in a pixel of the mask."""
        mask = _decoded(self)
        rows, inside_rows = frame._cells(axis=1, cells=self.size[1])
        columns, inside_columns = frame._cells(axis=0, cells=self.size[0])
        return mask[np.ix_(rows, columns)] & inside_rows[:, None] & inside_columns[None, :]


class HasRegion(Protocol):
    """Anything with a region: boxes (xyxy in image pixels), or a mask instead."""

    @property
    def boxes(self) -> Sequence[Sequence[float]]: ...

    @property
    def mask(self) -> Mask | None: ...


def region_in(sample: HasRegion, frame: Frame) -> BoolArray:
    """A sample's region in a frame of its image.

    Args:
        sample: with a mask, or else boxes.
        frame: of the sample's image.

    Returns:
        bool [h, w] of the frame's size: pixels whose centre is in the region.
    """
    if sample.mask is not None:
        return sample.mask.in_frame(frame)
    return boxes_to_mask(frame.boxes_from_image(np.asarray(sample.boxes)), frame.size)


@lru_cache(maxsize=8)
def _decoded(mask: Mask) -> BoolArray:
    """A mask's pixels, read-only, cached for other frames and metrics."""
    found = mask.decode()
    found.flags.writeable = False
    return found
