"""Changes of an image or phrase that the probes of an audit make (see `scoring.probes`); all are deterministic.

An edit gets the sample's image, float32 [H, W] in [0, 1], and returns one of the same shape and range.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
from PIL import Image

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, region_in
from gtg_bench.benchmark.api.types import PhraseSample, seed_for

VERSION = 1
"""Increases whenever an edit's pixels change; part of the run's key and of the name of an edited image's map."""

SHIFT = 0.03
"""Shift to the right and down, as a fraction of the image's shorter side."""

_CONTRAST, _NOISE, _QUALITY = 0.8, 0.02, 50
_MARGIN = 0.02
"""How far an occlusion extends beyond the region, as a fraction of the shorter side: lesions fade out beyond a box."""

_SOLVED = 160
"""Longer side in pixels of the grid on which an occlusion is filled."""

_GRID = 32
"""Places per side that are tried for an equally large other area."""

_THERE = re.compile(r"^there (is|are) (an? )?", re.IGNORECASE)


def occluded(image: FloatArray, area: BoolArray) -> FloatArray:
    """Fill an area smoothly from its border: the harmonic function with the image's values around it.

    Source: Perez et al., Poisson Image Editing, SIGGRAPH 2003 (membrane interpolation). Solved on a grid of at most
    160 pixels a side and interpolated.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    height, width = image.shape
    scale = min(1.0, _SOLVED / max(image.shape))
    size = max(2, round(width * scale)), max(2, round(height * scale))
    frame = Frame.stretch((width, height), size)
    small = frame.apply(image).astype(np.float64)
    hole = frame.apply(area.astype(np.float32)) > 0
    if hole.all() or not hole.any():
        return np.full_like(image, image.mean()) if hole.all() else image
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(hole.sum())
    rows, columns, right, degree = [], [], np.zeros(hole.sum()), np.zeros(hole.sum())
    y, x = np.nonzero(hole)
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        v, u = y + dy, x + dx
        inside = (v >= 0) & (v < hole.shape[0]) & (u >= 0) & (u < hole.shape[1])
        here, there = number[y[inside], x[inside]], number[v[inside], u[inside]]
        degree[here] += 1
        known = there < 0
        right[here[known]] += small[v[inside], u[inside]][known]
        rows.append(here[~known])
        columns.append(there[~known])
    n, i, j = len(right), np.concatenate(rows), np.concatenate(columns)
    values = np.concatenate([degree, -np.ones(len(i))])
    matrix = coo_matrix((values, (np.r_[np.arange(n), i], np.r_[np.arange(n), j])), shape=(n, n)).tocsc()
    small[hole] = spsolve(matrix, right)
    filled, _ = frame.carry(small, Frame.original((width, height)))
    return np.where(area, filled, image).astype(np.float32)


def region_area(sample: PhraseSample) -> BoolArray:
    """The sample's region with a narrow margin, bool [H, W] in the image's pixels."""
    from scipy.ndimage import maximum_filter

    margin = round(_MARGIN * min(sample.image_size))
    found: BoolArray = maximum_filter(region_in(sample, Frame.original(sample.image_size)), 2 * margin + 1)
    return found


def other_area(sample: PhraseSample, others: tuple[PhraseSample, ...] = ()) -> BoolArray | None:
    """The region moved to another place of the image, bool [H, W]; None if it has no room beside itself.

    The mirror image on the other side is taken if it touches no region of the image, else the nearest place.
    """
    area = region_area(sample)
    taken = area.copy()
    for other in others:
        taken |= region_in(other, Frame.original(other.image_size))
    height, width = area.shape
    (top, bottom), (left, right) = (np.flatnonzero(area.any(axis))[[0, -1]] for axis in (1, 0))
    mirror = area[:, ::-1]
    if not (mirror & taken).any():
        return mirror
    steps_y = range(-top, height - bottom, max(1, height // _GRID))
    steps_x = range(-left, width - right, max(1, width // _GRID))
    cut = area[top : bottom + 1, left : right + 1]
    for dy, dx in sorted(((y, x) for y in steps_y for x in steps_x), key=lambda step: step[0] ** 2 + step[1] ** 2):
        place = (slice(top + dy, bottom + 1 + dy), slice(left + dx, right + 1 + dx))
        if not (cut & taken[place]).any():
            found = np.zeros_like(area)
            found[place] = cut
            return found
    return None


def _shifted(image: FloatArray, sample: PhraseSample) -> FloatArray:
    """Moved to the right and down; the first row and column are repeated."""
    by = shift_of(sample.image_size)
    return np.pad(image, ((by, 0), (by, 0)), mode="edge")[: image.shape[0], : image.shape[1]]


def shift_of(image_size: tuple[int, int]) -> int:
    """Pixels by which an image of (width, height) is shifted in both directions."""
    return max(1, round(SHIFT * min(image_size)))


def _flatter(image: FloatArray, sample: PhraseSample) -> FloatArray:
    mean = image.mean()
    return mean + np.float32(_CONTRAST) * (image - mean)


def _noisy(image: FloatArray, sample: PhraseSample) -> FloatArray:
    noise = np.random.default_rng(seed_for("noise", sample.image_id)).normal(0, _NOISE, image.shape)
    return np.clip(image + noise, 0, 1).astype(np.float32)


def _compressed(image: FloatArray, sample: PhraseSample) -> FloatArray:
    file = io.BytesIO()
    Image.fromarray(np.round(image * 255).astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
    return np.asarray(Image.open(file), dtype=np.float32) / np.float32(255)


PIXELS: dict[str, Callable[[FloatArray, PhraseSample], FloatArray]] = {
    "shift": _shifted,
    "contrast": _flatter,
    "noise": _noisy,
    "jpeg": _compressed,
}
"""Edit -> function of an image and its sample: shifted by 3 %, contrast 0.8, noise of deviation 0.02, JPEG of quality
50."""


def paraphrased(phrase: str) -> str:
    """The same statement in other words: with "there is" or without, and with or without a full stop.

    "Small left pleural effusion." becomes "There is small left pleural effusion", and the other way round.
    """
    text = phrase.strip()
    stop = "" if text.endswith(".") else "."
    text = text.rstrip(". ")
    if _THERE.match(text):
        text = _THERE.sub("", text)
        text = text[:1].upper() + text[1:]
    else:
        first = text.split(" ", 1)[0]
        text = f"There is {text if first.isupper() and len(first) > 1 else text[:1].lower() + text[1:]}"
    return text + stop
