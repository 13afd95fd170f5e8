"""Baselines and priors: what any real method must beat before its number means anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.api.types import GroundingMap, MethodSettings
from gtg_bench.methods import priors

_GRID = 64
_SIGMA = 0.25
"""Standard deviation of the centre prior, as a share of the image's sides."""

_WITH_TABLE = {"class-prior", "phrase-prior", "difference"}


def complete(wanted: MethodSettings) -> MethodSettings:
    """A baseline's settings: for those that have a table, which one and its fingerprint; `weights` may name its file.

    Raises:
        UsageError: there is no table.
        DataError: it cannot be read.
    """
    settings = MethodSettings(wanted.method, seed=wanted.seed, dataset=wanted.dataset)
    if wanted.method not in _WITH_TABLE:
        return settings
    table = _table(wanted)
    return replace(settings, weights=table.name, weights_version=table.sha256[:12])


def _table(settings: MethodSettings) -> priors.PriorTable:
    return priors.find(settings.dataset, settings.weights)


def _whole(image: FloatArray) -> Frame:
    return Frame.original((image.shape[1], image.shape[0]))


class Fixed:
    """The same map for every image and phrase."""

    def __init__(self, values: FloatArray) -> None:
        self.values = values

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """The fixed map over the whole image."""
        return GroundingMap(self.values, _whole(image))


class Prior:
    """The mean training region of what the phrase says, to a depth of facts: 1 category, 4 also side, zone and size."""

    def __init__(self, table: priors.PriorTable, depth: int) -> None:
        self.table = table
        self.depth = depth

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """The mean region; the image is not looked at."""
        return GroundingMap(self.table.lookup(read_phrase(text), self.depth), _whole(image))


class Difference:
    """How much a pixel differs from the mean training image; the phrase is not looked at."""

    def __init__(self, mean_image: FloatArray) -> None:
        self.mean_image = mean_image

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """|image - mean image| in the image's own pixels."""
        size = (image.shape[1], image.shape[0])
        mean = np.asarray(Image.fromarray(self.mean_image).resize(size, Image.Resampling.BILINEAR))
        return GroundingMap(np.abs(image - mean).astype(np.float32), Frame.original(size))


def uniform(settings: MethodSettings) -> Fixed:
    """A constant map: no information at all."""
    return Fixed(np.ones((_GRID, _GRID), dtype=np.float32))


def center_prior(settings: MethodSettings) -> Fixed:
    """A Gaussian in the centre of the image."""
    offset = (np.arange(_GRID) + 0.5) / _GRID - 0.5
    bell = np.exp(-(offset**2) / (2 * _SIGMA**2))
    return Fixed((bell[:, None] * bell[None, :]).astype(np.float32))


def class_prior(settings: MethodSettings) -> Prior:
    """The mean box of the category, from the data set's table."""
    return Prior(_table(settings), depth=1)


def phrase_prior(settings: MethodSettings) -> Prior:
    """The mean box of category, side, zone and size, from the data set's table."""
    return Prior(_table(settings), depth=4)


def difference(settings: MethodSettings) -> Difference:
    """The absolute difference from the mean image of the data set's table."""
    return Difference(_table(settings).mean_image)
