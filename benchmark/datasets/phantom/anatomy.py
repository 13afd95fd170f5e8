"""The phantom's chest: parametric anatomy on a pixel grid, drawn with exact arithmetic only (see `stream`).

Anatomical coordinates: x grows to the image's right, which is the patient's left; y grows downwards; the
thorax spans about [-1, 1] in both. `side` is -1 for the patient's right lung and +1 for the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.datasets.phantom.stream import Stream

Field = NDArray[np.float32]
Point = tuple[float, float]
SIZE = 128
_F = np.float32
VESSEL = np.float32(0.075)
"""Density of a vessel at the hilum."""

CENTRES = (np.arange(SIZE, dtype=np.float32) + _F(0.5)) / _F(SIZE / 2) - _F(1)


def ramp(values: Field) -> Field:
    """Smoothstep from 0 at -0.5 to 1 at +0.5."""
    t = np.minimum(np.maximum(values + _F(0.5), _F(0)), _F(1))
    return t * t * (_F(3) - _F(2) * t)


def enlarge(lattice: Field, size: int = SIZE) -> Field:
    """A lattice [n, n] interpolated bilinearly to [size, size]."""
    n = len(lattice)
    position = np.arange(size, dtype=np.float32) * _F((n - 1) / size)
    low = position.astype(np.int32)
    weight = position - low.astype(np.float32)
    rows = lattice[low] * (_F(1) - weight)[:, None] + lattice[low + 1] * weight[:, None]
    return rows[:, low] * (_F(1) - weight)[None, :] + rows[:, low + 1] * weight[None, :]


def disc(dx: Field, dy: Field, rx: float, ry: float, hard: float = 2.5) -> Field:
    """An ellipse around (0, 0), float32 in [0, 1]."""
    dx, dy = dx / _F(rx), dy / _F(ry)
    return ramp((_F(1) - dx * dx - dy * dy) * _F(hard))


@dataclass(frozen=True)
class Patient:
    """What all images of a patient share (anatomical units)."""

    scale: float
    width: float
    lung_width: float
    lung_top: float
    lung_centre: float
    diaphragm: float
    dome: float
    heart: tuple[float, float, float, float]
    rib_spacing: float
    rib_slope: float
    bone: float
    tissue: float
    breasts: float

    @classmethod
    def draw(cls, stream: Stream) -> Patient:
        """One patient."""
        u = stream.uniform
        return cls(
            scale=u(0.70, 1.08),
            width=u(0.98, 1.20),
            lung_width=u(0.30, 0.37),
            lung_top=u(-0.86, -0.74),
            lung_centre=u(0.43, 0.49),
            diaphragm=u(0.40, 0.60),
            dome=u(0.08, 0.18),
            heart=(u(0.10, 0.17), u(0.24, 0.34), u(0.26, 0.33), u(0.29, 0.36)),
            rib_spacing=u(0.16, 0.21),
            rib_slope=u(0.12, 0.38),
            bone=u(0.03, 0.08),
            tissue=u(0.50, 0.66),
            breasts=u(0.04, 0.09) if stream.chance(0.5) else 0.0,
        )


class Chest:
    """The fields of one frontal image of a patient: coordinates, organs and textures, each float32 [128, 128].

    The image is taken from behind (PA) or, of a patient in bed, from the front (AP).
    """

    def __init__(self, patient: Patient, stream: Stream, heart_growth: float = 1.0) -> None:
        u = stream.uniform
        self.patient = patient
        scale, shear = patient.scale * u(0.96, 1.04), u(-0.06, 0.06)
        left, top, tilt = u(-0.26, 0.26), u(-0.20, 0.20), u(-0.07, 0.07)
        self.in_bed = stream.chance(0.35)
        self.y: Field = np.broadcast_to(((CENTRES - _F(top)) / _F(scale))[:, None], (SIZE, SIZE))
        self.x: Field = ((CENTRES - _F(left)) / _F(scale))[None, :] + _F(shear) * self.y
        self.y = self.y + _F(tilt) * self.x
        self.inspiration = u(-0.05, 0.05)
        self.coarse = enlarge(stream.field(14, 14))
        self.fine = enlarge(stream.field(48, 48))
        self.heart_level = self._heart_level(heart_growth)
        self.heart = ramp((_F(1) - self.heart_level) * _F(4))
        self.lungs = {side: self._lung(side) for side in (-1, 1)}
        self.vessels = np.maximum(self._vessels(-1, stream), self._vessels(1, stream))
        self.scapula = u(0.60, 0.68) if self.in_bed else u(0.68, 0.80)
        self.stomach = (u(0.36, 0.46), u(0.12, 0.20), u(0.10, 0.18), u(0.05, 0.09))
        gas = u(0.06, 0.16)
        self.gas = gas if stream.chance(0.6) else 0.0

    def lung_axis(self, side: int) -> float:
        """The x of a lung's vertical axis."""
        return side * self.patient.lung_centre

    def diaphragm(self, side: int) -> float:
        """The y of the top of a hemidiaphragm; the right one is higher."""
        return self.patient.diaphragm + self.inspiration + (0.05 if side > 0 else 0.0)

    def lung_level(self, side: int, shift: float = 0.0) -> Field:
        """0 on a lung's axis, 1 on its lateral, medial and upper border; `shift` moves the axis laterally."""
        p = self.patient
        middle = -0.15
        across = (self.x - _F(self.lung_axis(side) + side * shift)) / _F(p.lung_width)
        across = across / (_F(1) + _F(0.25) * np.maximum(self.y - _F(middle), _F(0)))
        above = np.maximum(_F(middle) - self.y, _F(0)) / _F(middle - p.lung_top)
        return np.asarray(across * across + above * above)

    def base(self, side: int) -> Field:
        """Height of each pixel above the lung's lower border, in anatomical units."""
        across = (self.x - _F(self.lung_axis(side))) / _F(self.patient.lung_width)
        return _F(self.diaphragm(side)) + _F(self.patient.dome) * across * across - self.y

    def _lung(self, side: int) -> Field:
        return ramp((_F(1) - self.lung_level(side)) * _F(4)) * ramp(self.base(side) * _F(16))

    def _heart_level(self, growth: float) -> Field:
        x, y, a, b = self.patient.heart
        a, b, x = a * growth, b * (0.5 + 0.5 * growth), x + 0.10 * (growth - 1)
        dy = (self.y - _F(y + 0.5 * self.inspiration)) / _F(b)
        dx = (self.x - _F(x) - _F(0.25) * (self.y - _F(y))) / (
            _F(a) * (_F(1) + _F(0.3) * np.minimum(np.maximum(dy, _F(-2)), _F(1)))
        )
        return np.asarray(dx * dx + dy * dy)

    def line(self, points: Sequence[Point], width: float, fades: bool = False) -> Field:
        """A curve of straight parts, float32 in [0, 1]; one that fades gets thinner and weaker from its start."""
        found = np.zeros_like(self.coarse)
        for (x0, y0), (x1, y1) in pairwise(points):
            dx, dy = _F(x1 - x0), _F(y1 - y0)
            along = ((self.x - _F(x0)) * dx + (self.y - _F(y0)) * dy) / (dx * dx + dy * dy)
            along = np.minimum(np.maximum(along, _F(0)), _F(1))
            off_x, off_y = self.x - _F(x0) - along * dx, self.y - _F(y0) - along * dy
            thin = _F(width) * (_F(1) - _F(0.5) * along) if fades else _F(width)
            part = np.maximum(_F(1) - (off_x * off_x + off_y * off_y) / (thin * thin), _F(0))
            found = np.maximum(found, part * (_F(1) - _F(0.6) * along) if fades else part)
        return found

    def _vessels(self, side: int, stream: Stream) -> Field:
        """The vessels of a lung, from the hilum outwards, float32 in [0, 1]."""
        u, found = stream.uniform, np.zeros_like(self.coarse)
        for _ in range(8):
            x, y = side * u(0.17, 0.23), u(-0.10, 0.08)
            end = (side * u(0.28, 0.66), u(-0.70, 0.50))
            found = np.maximum(found, self.line([(x, y), end], u(0.016, 0.028), fades=True))
            share = u(0.4, 0.7)
            fork = (x + share * (end[0] - x), y + share * (end[1] - y))
            tip = (fork[0] + side * u(0.02, 0.18), fork[1] + u(-0.16, 0.16))
            found = np.maximum(found, _F(0.7) * self.line([fork, tip], u(0.010, 0.018), fades=True))
        return found

    def draw(self) -> Field:
        """The chest without findings, about [0, 1]."""
        p, x, y = self.patient, self.x, self.y
        ax = np.abs(x)
        neck = np.maximum(y + _F(1.12), _F(0))
        outline = _F(p.width) * np.minimum(
            _F(0.26) + neck * (_F(1) + _F(2.6) * neck), _F(1) + _F(0.10) * np.abs(y + _F(0.3))
        )
        image = _F(0.05) + _F(p.tissue) * ramp((outline - ax) * _F(7))
        air = np.maximum(self.lungs[-1], self.lungs[1]) * (_F(1) - _F(0.8) * self.heart)
        image = image - _F(0.62 * p.tissue) * air
        image = image + _F(0.10) * ramp((_F(0.13) - ax) * _F(12)) + _F(0.06) * self.heart
        image = image + _F(0.12) * ramp(np.minimum(-self.base(-1), -self.base(1)) * _F(2.5)) * ramp(
            (outline - ax) * _F(7)
        )
        image = image + _F(p.bone) * (self._ribs(ax) + self._clavicles(ax) + self._vertebrae(ax))
        hilar = np.maximum(_F(1) - np.abs(ax - _F(0.22)) * _F(2.2) - np.abs(y + _F(0.02)) * _F(1.4), _F(0))
        image = image + air * ((_F(0.012) + _F(0.05) * hilar) * self.fine + _F(0.07) * hilar + VESSEL * self.vessels)
        return image + self._mediastinum(ax) + self._soft_parts(ax)

    def _mediastinum(self, ax: Field) -> Field:
        """Upper mediastinum with the aortic arch, the descending aorta's border, and the air of the trachea."""
        x, y = self.x, self.y
        arch = disc(x - _F(0.14), y + _F(0.34), 0.10, 0.10)
        found = _F(0.07) * np.maximum(ramp((_F(0.17) - ax) * _F(14)) * ramp((_F(-0.16) - y) * _F(5)), arch)
        found = found + _F(0.03) * ramp((_F(0.02) - np.abs(x - _F(0.12))) * _F(40)) * ramp((y + _F(0.3)) * _F(5))
        return found - _F(0.07) * ramp((_F(0.045) - ax) * _F(28)) * ramp((_F(-0.30) - y) * _F(10))

    def _soft_parts(self, ax: Field) -> Field:
        """Scapulae, breasts, and the gas of the stomach under the left hemidiaphragm."""
        x, y = self.x, self.y
        blade = ramp((ax - _F(self.scapula) - _F(0.15) * (y + _F(0.3))) * _F(16))
        found = _F(0.05) * blade * ramp((_F(self.patient.width) - ax) * _F(7))
        found = found * ramp((_F(0.2) - y) * _F(6)) * ramp((y + _F(0.8)) * _F(6))
        for side in (-1, 1):
            found = found + _F(self.patient.breasts) * disc(x - _F(side * 0.47), y - _F(0.36), 0.40, 0.38)
        across, down, width, height = self.stomach
        gas = disc(x - _F(across), y - _F(self.diaphragm(1) + down), width, height)
        return found - _F(self.gas) * gas * (_F(1) - self.lungs[1])

    def _ribs(self, ax: Field) -> Field:
        p = self.patient
        height = self.y - _F(p.rib_slope) * ax - _F(0.30) * ax * ax
        phase = height / _F(p.rib_spacing)
        bump = ramp(_F(2) - np.abs(phase - np.floor(phase) - _F(0.5)) * _F(8))
        cage = ramp((_F(0.80 * p.width) - ax) * _F(10)) * ramp((ax - _F(0.10)) * _F(14))
        return bump * cage * ramp((_F(0.60) - height) * _F(8)) * ramp((height + _F(1.0)) * _F(8))

    def _clavicles(self, ax: Field) -> Field:
        height = self.y - _F(self.patient.lung_top + 0.16) + _F(0.22) * ax
        band = ramp(_F(2) - np.abs(height) * _F(45))
        return _F(1.2) * band * ramp((ax - _F(0.08)) * _F(20)) * ramp((_F(0.72) - ax) * _F(10))

    def _vertebrae(self, ax: Field) -> Field:
        phase = self.y / _F(0.13)
        bump = np.abs(phase - np.floor(phase) - _F(0.5)) * _F(2)
        return (_F(1) - _F(0.7) * bump) * ramp((_F(0.085) - ax) * _F(22))
