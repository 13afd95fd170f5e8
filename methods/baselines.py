"""Baselines and priors: what a method must beat before its numbers mean anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.api.types import GroundingMap, MethodSettings
from gtg_bench.methods import priors

_GRID = 64
_SIGMA = 0.25
"""Standard deviation of the centre prior, as a fraction of the image's sides."""


def complete(wanted: MethodSettings) -> MethodSettings:
    """The settings of a baseline: seed and data set."""
    return MethodSettings(wanted.method, seed=wanted.seed, dataset=wanted.dataset)


def complete_with_table(wanted: MethodSettings) -> MethodSettings:
    """The settings of a baseline with a prior table: also the table's name and fingerprint.

    Raises:
        UsageError: the data set has no prior table.
        DataError: the table cannot be read.
    """
    table = priors.find(wanted.dataset, wanted.weights)
    return replace(complete(wanted), weights=table.name, weights_version=table.sha256[:12])


class Fixed:
    """The same map for every image and phrase."""

    def __init__(self, values: FloatArray) -> None:
        self.values = values

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """The fixed map, over the whole image."""
        return GroundingMap(self.values, _whole(image))


class Prior:
    """The mean training region for the first `depth` facts of a phrase: category, side, zone, size."""

    def __init__(self, table: priors.PriorTable, depth: int) -> None:
        self.table = table
        self.depth = depth

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """The mean region; the image is ignored."""
        return GroundingMap(self.table.lookup(read_phrase(text), self.depth), _whole(image))


class Difference:
    """Absolute difference of each pixel from the mean training image; the phrase is ignored."""

    def __init__(self, mean_image: FloatArray) -> None:
        self.mean_image = mean_image

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """|image - mean image|, in the image's own pixels."""
        frame = _whole(image)
        mean = np.asarray(Image.fromarray(self.mean_image).resize(frame.size, Image.Resampling.BILINEAR))
        return GroundingMap(np.abs(image - mean).astype(np.float32), frame)


def _whole(image: FloatArray) -> Frame:
    return Frame.original((image.shape[1], image.shape[0]))


def uniform(settings: MethodSettings) -> Fixed:
    """A constant map, without any information."""
    return Fixed(np.ones((_GRID, _GRID), dtype=np.float32))


def oracle_lesion(settings: MethodSettings) -> Fixed:
    """Raises UsageError: the true region is known to runs on a generated data set only, see `runs.sources`."""
    raise UsageError("oracle-lesion paints the true region: `gtg-bench run` on the phantom knows it, nothing else does")


def center_prior(settings: MethodSettings) -> Fixed:
    """A Gaussian in the centre of the image."""
    offset = (np.arange(_GRID) + 0.5) / _GRID - 0.5
    bell = np.exp(-(offset**2) / (2 * _SIGMA**2))
    return Fixed((bell[:, None] * bell[None, :]).astype(np.float32))


def class_prior(settings: MethodSettings) -> Prior:
    """The mean region of the category, from the data set's prior table."""
    return Prior(priors.find(settings.dataset, settings.weights), depth=1)


def phrase_prior(settings: MethodSettings) -> Prior:
    """The mean region of category, side, zone and size, from the data set's prior table."""
    return Prior(priors.find(settings.dataset, settings.weights), depth=4)


def difference(settings: MethodSettings) -> Difference:
    """The absolute difference from the mean image, from the data set's prior table."""
    return Difference(priors.find(settings.dataset, settings.weights).mean_image)
