"""How a chest is recorded: devices on it, collimation, exposure, and a side marker."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.datasets.phantom.anatomy import CENTRES, SIZE, Chest, Field, disc, ramp
from gtg_bench.benchmark.datasets.phantom.stream import Stream

_F = np.float32
_LETTERS = {
    "L": ("1...", "1...", "1...", "1...", "1...", "1111"),
    "R": ("111.", "1..1", "1..1", "111.", "1.1.", "1..1"),
}
"""Side markers; a character is two by two pixels."""


def devices(chest: Chest, stream: Stream) -> Field:
    """Density of tubes, lines, leads and a pacemaker, float32 [128, 128]; patients in bed have more of them."""
    u, often, parts = stream.uniform, 0.35 if chest.in_bed else 0.03, [np.zeros_like(chest.coarse)]
    if stream.chance(often):  # a tube in the trachea
        parts.append(_F(u(0.10, 0.16)) * chest.line([(u(-0.02, 0.02), -1.3), (0.0, u(-0.5, -0.35))], 0.026))
    if stream.chance(often):  # a tube to the stomach
        points = [(u(-0.03, 0.03), -1.3), (u(0.0, 0.04), 0.3), (u(0.1, 0.2), 0.62), (u(0.28, 0.4), u(0.7, 0.85))]
        parts.append(_F(u(0.08, 0.14)) * chest.line(points, 0.018))
    if stream.chance(often):  # a central venous line
        side = stream.choice((-1, 1))
        points = [(side * 0.55, u(-0.85, -0.7)), (side * 0.2, -0.66), (-0.07, -0.45), (-0.09, u(-0.2, 0.0))]
        parts.append(_F(u(0.10, 0.16)) * chest.line(points, 0.014))
    for _ in range(3 if stream.chance(often) else 0):  # leads with electrodes
        (x, y), side = (u(-0.6, 0.6), u(-0.6, 0.5)), stream.choice((-1, 1))
        points = [(side * 1.1, y + u(-0.5, 0.5)), ((side + x) / 2, y + u(-0.2, 0.2)), (x, y)]
        parts.append(_F(u(0.08, 0.14)) * chest.line(points, 0.010))
        parts.append(_F(0.2) * disc(chest.x - _F(x), chest.y - _F(y), 0.035, 0.035, 4.0))
    if stream.chance(0.04):  # a pacemaker
        x, y = u(0.45, 0.6), u(-0.72, -0.58)
        case = ramp((_F(0.09) - np.abs(chest.x - _F(x))) * _F(40)) * ramp((_F(0.07) - np.abs(chest.y - _F(y))) * _F(40))
        parts += [_F(0.4) * case, _F(0.16) * chest.line([(x, y), (-0.06, -0.5), (-0.05, 0.1), (0.2, 0.42)], 0.012)]
    return np.asarray(np.max(parts, axis=0))


def expose(image: Field, stream: Stream) -> NDArray[np.uint8]:
    """Collimation, marker, exposure, tilt and noise, then 8 bits: the image as a detector would record it."""
    u = stream.uniform
    if stream.chance(0.3):
        left, right, top, bottom = (int(u(0.0, 0.09) * SIZE) for _ in range(4))
        seen = np.zeros((SIZE, SIZE), np.float32)
        seen[top : SIZE - bottom, left : SIZE - right] = 1
        image = image * seen
    gain, offset, bend = u(0.80, 1.15), u(-0.06, 0.08), u(-0.60, 0.50)
    tilt_x, tilt_y = u(-0.06, 0.06), u(-0.06, 0.06)
    image = image + _F(tilt_x) * CENTRES[None, :] + _F(tilt_y) * CENTRES[:, None]
    image = np.minimum(np.maximum(image * _F(gain) + _F(offset), _F(0)), _F(1))
    image = image + _F(bend) * image * (_F(1) - image)
    if stream.chance(0.8):
        _mark(image, stream)
    image = image + _F(u(0.006, 0.020)) * stream.field(SIZE, SIZE)
    return np.floor(np.minimum(np.maximum(image, _F(0)), _F(1)) * _F(255) + _F(0.5)).astype(np.uint8)


def _mark(image: Field, stream: Stream) -> None:
    """Put a side marker into an upper corner; the patient's left is at the image's right."""
    letter = stream.choice(("L", "R"))
    cells = np.array([[c == "1" for c in row] for row in _LETTERS[letter]]).repeat(2, 0).repeat(2, 1)
    (height, width), top, edge = cells.shape, int(stream.uniform(4, 14)), int(stream.uniform(4, 14))
    left = SIZE - edge - width if letter == "L" else edge
    part = image[top : top + height, left : left + width]
    part[cells] = np.maximum(part[cells], _F(stream.uniform(0.8, 1.0)))
