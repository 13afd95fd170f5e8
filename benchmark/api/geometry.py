"""Geometry: the resize, crop and pad between an image and what a method or a protocol sees of it.

`Frame` is the only place where coordinates change. All boxes are float xyxy, half open, in pixels whose
centres lie at half integers: the box (0, 0, 1, 1) is exactly the first pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Size = tuple[int, int]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Frame:
    """The image, resized to `resized`, of which the rectangle `window` is seen.

    Attributes:
        image_size: (width, height) of the original image in pixels.
        resized: (width, height) after resizing.
        window: (left, top, width, height) in resized pixels; where it sticks out of the resized image, the
            frame is padded.
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
        """The whole image stretched to (width, height) `size`, whatever its aspect."""
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
        """(width, height) of what is seen, in frame pixels."""
        return self.window[2], self.window[3]

    def boxes_from_image(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Carry float boxes [N, 4] (xyxy) from image pixels to frame pixels; nothing is clipped."""
        scale, offset = self._scale_offset()
        return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale - offset

    def boxes_to_image(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Carry float boxes [N, 4] (xyxy) from frame pixels to image pixels; nothing is clipped."""
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
            float32 [h, w] of this frame's `size`: bilinear, antialiased where it shrinks, zero in the padding.

        Raises:
            ValueError: the image is not of this frame's image size.
        """
        height, width = image.shape
        if (width, height) != self.image_size:
            raise ValueError(f"this frame is for an image of {self.image_size}, not {(width, height)}")
        whole = Image.fromarray(np.asarray(image, dtype=np.float32))
        if self.resized != self.image_size:
            whole = whole.resize(self.resized, Image.Resampling.BILINEAR)
        left, top, w, h = self.window
        return np.array(whole.crop((left, top, left + w, top + h)), dtype=np.float32)

    def carry(self, values: NDArray[np.floating], to: Frame) -> tuple[FloatArray, BoolArray]:
        """Carry a map that spans this frame to another frame of the same image, bilinearly.

        Args:
            values: float [h, w]; its cells divide this frame's window evenly, whatever h and w are.
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

    def _positions(self, to: Frame, axis: int, cells: int) -> tuple[NDArray[np.float64], BoolArray]:
        """Where the pixel centres of `to` lie on this frame's grid of `cells`, and which lie inside it."""
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
    return values[low] * (1 - weight) + values[high] * weight


def boxes_to_mask(boxes: Sequence[Sequence[float]] | NDArray[np.float64], size: Size) -> BoolArray:
    """The union of boxes as a mask.

    Args:
        boxes: float xyxy, half open, in pixels of the mask.
        size: (width, height) of the mask.

    Returns:
        bool [height, width]: pixels whose centre lies in a box.
    """
    width, height = size
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    mask = np.zeros((height, width), dtype=bool)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
        mask |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None, :]
    return mask
