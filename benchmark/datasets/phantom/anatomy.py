"""The phantom's chest: parametric anatomy on a pixel grid, drawn with exact arithmetic only (see `stream`).

Anatomical coordinates: x grows to the image's right, which is the patient's left; y grows downwards; the
thorax spans about [-1, 1] in both. `side` is -1 for the patient's right lung and +1 for the left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.datasets.phantom.stream import Stream

Field = NDArray[np.float32]
SIZE = 128
_F = np.float32
_CENTRES = (np.arange(SIZE, dtype=np.float32) + _F(0.5)) / _F(SIZE / 2) - _F(1)


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

    @classmethod
    def draw(cls, stream: Stream) -> Patient:
        """One patient."""
        u = stream.uniform
        return cls(
            scale=u(0.66, 1.02),
            width=u(0.84, 1.0),
            lung_width=u(0.26, 0.33),
            lung_top=u(-0.86, -0.74),
            lung_centre=u(0.39, 0.45),
            diaphragm=u(0.40, 0.60),
            dome=u(0.08, 0.18),
            heart=(u(0.10, 0.19), u(0.22, 0.36), u(0.25, 0.31), u(0.23, 0.29)),
            rib_spacing=u(0.16, 0.21),
            rib_slope=u(0.12, 0.38),
            bone=u(0.03, 0.08),
            tissue=u(0.50, 0.66),
        )


class Chest:
    """The fields of one image of a patient: coordinates, organs and textures, each float32 [128, 128]."""

    def __init__(self, patient: Patient, stream: Stream, heart_growth: float = 1.0) -> None:
        u = stream.uniform
        self.patient = patient
        scale, shear = patient.scale * u(0.96, 1.04), u(-0.06, 0.06)
        left, top = u(-0.26, 0.26), u(-0.20, 0.20)
        self.y: Field = np.broadcast_to(((_CENTRES - _F(top)) / _F(scale))[:, None], (SIZE, SIZE))
        self.x: Field = ((_CENTRES - _F(left)) / _F(scale))[None, :] + _F(shear) * self.y
        self.inspiration = u(-0.05, 0.05)
        self.coarse = enlarge(stream.field(14, 14))
        self.fine = enlarge(stream.field(48, 48))
        self.heart_level = self._heart_level(heart_growth)
        self.heart = ramp((_F(1) - self.heart_level) * _F(4))
        self.lungs = {side: self._lung(side) for side in (-1, 1)}

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
        dx = (self.x - _F(x) - _F(0.18) * (self.y - _F(y))) / _F(a)
        return np.asarray(dx * dx + dy * dy)

    def draw(self) -> Field:
        """The chest without findings, about [0, 1]."""
        p, x, y = self.patient, self.x, self.y
        ax = np.abs(x)
        outline = _F(p.width) * np.minimum(_F(0.30) + np.maximum(y + _F(1.05), _F(0)) * _F(2.2), _F(1))
        image = _F(0.05) + _F(p.tissue) * ramp((outline - ax) * _F(7))
        air = np.maximum(self.lungs[-1], self.lungs[1]) * (_F(1) - _F(0.8) * self.heart)
        image = image - _F(0.62 * p.tissue) * air
        image = image + _F(0.10) * ramp((_F(0.13) - ax) * _F(12)) + _F(0.05) * self.heart
        image = image + _F(p.bone) * (self._ribs(ax) + self._clavicles(ax) + self._vertebrae(ax))
        hilar = np.maximum(_F(1) - np.abs(ax - _F(0.22)) * _F(2.2) - np.abs(y + _F(0.02)) * _F(1.4), _F(0))
        return image + air * ((_F(0.012) + _F(0.05) * hilar) * self.fine + _F(0.07) * hilar)

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


def expose(image: Field, stream: Stream) -> NDArray[np.uint8]:
    """Exposure, tilt and noise, then 8 bits: the image as a detector would record it."""
    gain, offset, bend = stream.uniform(0.86, 1.10), stream.uniform(-0.05, 0.07), stream.uniform(-0.35, 0.35)
    tilt_x, tilt_y = stream.uniform(-0.06, 0.06), stream.uniform(-0.06, 0.06)
    image = image + _F(tilt_x) * _CENTRES[None, :] + _F(tilt_y) * _CENTRES[:, None]
    image = np.minimum(np.maximum(image * _F(gain) + _F(offset), _F(0)), _F(1))
    image = image + _F(bend) * image * (_F(1) - image)
    image = image + _F(stream.uniform(0.008, 0.018)) * stream.field(SIZE, SIZE)
    return np.floor(np.minimum(np.maximum(image, _F(0)), _F(1)) * _F(255) + _F(0.5)).astype(np.uint8)
