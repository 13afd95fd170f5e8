"""The eight MS-CXR findings on the phantom's chest: their place, appearance and exact boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.datasets.phantom.anatomy import VESSEL, Chest, Field, ramp
from gtg_bench.benchmark.datasets.phantom.stream import Stream

_F = np.float32
Box = tuple[float, float, float, float]
SIDES = {"right": (-1,), "left": (1,), "bilateral": (-1, 1)}
ZONE_Y = {"upper": (-0.58, -0.36), "mid": (-0.26, -0.02), "lower": (0.08, 0.34)}
SIZE_RADIUS = {"small": (0.10, 0.13), "moderate": (0.15, 0.19), "large": (0.21, 0.27)}
CATEGORY_WEIGHTS = {
    "Atelectasis": 12,
    "Cardiomegaly": 14,
    "Consolidation": 14,
    "Edema": 12,
    "Lung Opacity": 12,
    "Pleural Effusion": 13,
    "Pneumonia": 13,
    "Pneumothorax": 14,
}
BOX_LEVEL = _F(0.5)


@dataclass(frozen=True)
class Finding:
    """A finding before it is drawn. `side` and `zone` are None if they do not apply."""

    category: str
    side: str | None
    zone: str | None
    size: str

    @classmethod
    def draw(cls, stream: Stream, category: str | None = None, side: str | None = None) -> Finding:
        """A finding of a random or a given category and side."""
        category = category or stream.choice(list(CATEGORY_WEIGHTS), list(CATEGORY_WEIGHTS.values()))
        size = stream.choice(("small", "moderate", "large"), (3, 4, 3))
        if category == "Cardiomegaly":
            return cls(category, None, None, size)
        bilateral = {"Edema": 14, "Pleural Effusion": 4, "Atelectasis": 4}.get(category, 0)
        side = side or stream.choice(("left", "right", "bilateral"), (10, 10, bilateral))
        zones = {"Edema": None, "Pleural Effusion": None, "Atelectasis": (2, 4, 9)}.get(category, (5, 4, 5))
        zone = stream.choice(("upper", "mid", "lower"), zones) if zones else None
        if category == "Pneumothorax":
            zone = "upper" if size != "large" else None
        if category == "Atelectasis" and side == "bilateral":
            zone = "lower"
        return cls(category, side, zone, size)


@dataclass(frozen=True)
class Lesion:
    """A drawn finding on one side: opacity [128, 128] in [0, 1], and the density it adds to the image."""

    alpha: Field
    density: Field

    def box(self) -> Box | None:
        """The box of the pixels with at least half opacity (xyxy, half open); None if there are too few."""
        return box_of(self.alpha >= BOX_LEVEL)


def box_of(mask: NDArray[np.bool_]) -> Box | None:
    """The bounding box of a mask; None if it is less than 4 pixels wide or high."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0 or rows[-1] - rows[0] < 3 or columns[-1] - columns[0] < 3:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def heart_growth(finding: Finding, stream: Stream) -> float:
    """The width of the heart in a cardiomegaly, relative to a normal one."""
    low, high = {"small": (1.22, 1.32), "moderate": (1.36, 1.48), "large": (1.52, 1.68)}[finding.size]
    return stream.uniform(low, high)


def draw_lesions(finding: Finding, chest: Chest, stream: Stream) -> list[Lesion]:
    """The lesions of a finding, one per side. Cardiomegaly is part of the chest, so its density is zero."""
    if finding.category == "Cardiomegaly":
        alpha = ramp((_F(1) - chest.heart_level) * _F(8))
        return [Lesion(alpha, np.zeros_like(alpha))]
    paint, hidden = _PAINTERS[finding.category], _F(1) - _F(0.6) * chest.heart
    lesions = [paint(finding, chest, side, stream) for side in SIDES[finding.side or "left"]]
    return [Lesion(lesion.alpha, lesion.density * hidden) for lesion in lesions]


def _place(finding: Finding, chest: Chest, side: int, stream: Stream) -> tuple[float, float, float]:
    x = chest.lung_axis(side) + stream.uniform(-0.13, 0.13)
    y = stream.uniform(*ZONE_Y[finding.zone or "mid"])
    return x, y, stream.uniform(*SIZE_RADIUS[finding.size])


def _blob(chest: Chest, x: float, y: float, rx: float, ry: float, ragged: float, soft: float) -> Field:
    dx, dy = (chest.x - _F(x)) / _F(rx), (chest.y - _F(y)) / _F(ry)
    level = dx * dx + dy * dy + _F(ragged) * (chest.coarse + _F(0.3) * chest.fine)
    return ramp((_F(1) - level) * _F(soft) + _F(0.2))


def _consolidation(finding: Finding, chest: Chest, side: int, stream: Stream) -> Lesion:
    x, y, r = _place(finding, chest, side, stream)
    rx, ry = r * stream.uniform(0.85, 1.15), r * stream.uniform(0.85, 1.15)
    alpha = _blob(chest, x, y, rx, ry, 0.35, 1.1)
    if stream.chance(0.25):  # it ends at a fissure
        wide = _blob(chest, x, y, 1.4 * rx, 1.1 * ry, 0.35, 1.1)
        fissure = _F(y + 0.3 * r) + _F(stream.uniform(-0.2, 0.2)) * (chest.x - _F(x))
        alpha = wide * ramp((fissure - chest.y) * _F(14))
    alpha = alpha * chest.lungs[side]
    bronchi = _F(1) - _F(0.45) * chest.vessels  # filled with air, beside the vessels
    return Lesion(alpha, _F(stream.uniform(0.24, 0.32)) * alpha * bronchi * (_F(1) + _F(0.06) * chest.fine))


def _opacity(finding: Finding, chest: Chest, side: int, stream: Stream) -> Lesion:
    x, y, r = _place(finding, chest, side, stream)
    rx, ry = r * stream.uniform(0.9, 1.3), r * stream.uniform(0.9, 1.3)
    alpha = _blob(chest, x, y, rx, ry, 0.15, 0.7) * chest.lungs[side]
    return Lesion(alpha, _F(stream.uniform(0.12, 0.18)) * alpha)


def _pneumonia(finding: Finding, chest: Chest, side: int, stream: Stream) -> Lesion:
    x, y, r = _place(finding, chest, side, stream)
    alpha = np.zeros_like(chest.y)
    for dx, dy in ((-0.6, -0.5), (0.6, -0.3), (-0.3, 0.6), (0.55, 0.55)):
        px, py = x + r * (dx + stream.uniform(-0.25, 0.25)), y + r * (dy + stream.uniform(-0.25, 0.25))
        patch = r * stream.uniform(0.42, 0.62)
        alpha = np.maximum(alpha, _blob(chest, px, py, patch, patch, 0.40, 0.8))
    alpha = alpha * chest.lungs[side]
    return Lesion(alpha, _F(stream.uniform(0.18, 0.26)) * alpha * (_F(1) + _F(0.25) * chest.fine))


def _atelectasis(finding: Finding, chest: Chest, side: int, stream: Stream) -> Lesion:
    x, y, r = _place(finding, chest, side, stream)
    length, slope = 1.25 * r + 0.05, stream.uniform(-0.25, 0.25)
    alpha = np.zeros_like(chest.y)
    for k in range(stream.choice((1, 2, 3), (2, 3, 2))):
        dy = chest.y - _F(y + 0.10 * k) - _F(slope) * (chest.x - _F(x))
        dx = (chest.x - _F(x + stream.uniform(-0.05, 0.05))) / _F(length)
        thin = dy / _F(stream.uniform(0.032, 0.045))
        alpha = np.maximum(alpha, ramp((_F(1) - dx * dx - thin * thin) * _F(1.2) + _F(0.3)))
    alpha = alpha * chest.lungs[side]
    return Lesion(alpha, _F(stream.uniform(0.24, 0.32)) * alpha)


def _edema(finding: Finding, chest: Chest, side: int, stream: Stream) -> Lesion:
    reach = {"small": 0.34, "moderate": 0.42, "large": 0.50}[finding.size]
    dx, dy = (chest.x - _F(side * 0.24)) / _F(reach), (chest.y + _F(0.04)) / _F(1.25 * reach)
    alpha = ramp((_F(1) - dx * dx - dy * dy) * _F(1.4) + _F(0.2)) * chest.lungs[side]
    wide = _F(0.06) * chest.vessels
    return Lesion(alpha, alpha * (_F(stream.uniform(0.13, 0.19)) + _F(0.03) * chest.fine + wide))


def _effusion(finding: Finding, chest: Chest, side: int, stream: Stream) -> Lesion:
    low, high = {"small": (0.10, 0.17), "moderate": (0.24, 0.36), "large": (0.46, 0.66)}[finding.size]
    top = chest.diaphragm(side) - stream.uniform(low, high)
    lateral = (chest.x - _F(chest.lung_axis(side))) * _F(side / chest.patient.lung_width)
    surface = _F(top + 0.10) - _F(0.16) * np.maximum(lateral, _F(-0.4))
    alpha = ramp((chest.y - surface) * _F(14)) * chest.lungs[side]
    return Lesion(alpha, _F(stream.uniform(0.28, 0.34)) * alpha)


def _pneumothorax(finding: Finding, chest: Chest, side: int, stream: Stream) -> Lesion:
    edge = {"small": (0.62, 0.70), "moderate": (0.46, 0.54), "large": (0.26, 0.36)}[finding.size]
    reach = {"small": -0.42, "moderate": -0.22, "large": 0.25}[finding.size]
    inner = chest.lung_level(side, shift=-0.12) / _F(stream.uniform(*edge))
    lateral = (chest.x - _F(chest.lung_axis(side))) * _F(side)
    limit = ramp((_F(reach) - chest.y) * _F(10)) * ramp((lateral + _F(0.10)) * _F(12))
    alpha = ramp((inner - _F(1)) * _F(4)) * limit * chest.lungs[side]
    line = np.maximum(_F(1) - np.abs(inner - _F(1)) * _F(7), _F(0)) * limit * chest.lungs[side]
    return Lesion(alpha, _F(0.20) * line - alpha * (_F(stream.uniform(0.10, 0.14)) + VESSEL * chest.vessels))


_PAINTERS: dict[str, Callable[[Finding, Chest, int, Stream], Lesion]] = {
    "Atelectasis": _atelectasis,
    "Consolidation": _consolidation,
    "Edema": _edema,
    "Lung Opacity": _opacity,
    "Pleural Effusion": _effusion,
    "Pneumonia": _pneumonia,
    "Pneumothorax": _pneumothorax,
}
