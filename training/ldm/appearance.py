"""Radiographs in another exposure and texture, so that what is learned depends less on how the phantom looks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter

from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.benchmark.datasets.training import PairedSet, TrainingPair, TrainingSet

_VERSION = 1
"""Changes when an image is changed in another way."""

_STRUCTURES = ((1 / 128, 0.02), (1 / 64, 0.02), (1 / 32, 0.03), (1 / 16, 0.04), (1 / 6, 0.08))
"""Their size, as the standard deviation of a filter and of the shorter side, and the highest deviation of the image."""


class ChangedImages(PairedSet):
    """A training set with a share of its images changed, see `changed`; an image is always changed in the same way."""

    def __init__(self, pairs: TrainingSet, share: float) -> None:
        super().__init__({}, pairs.split)
        self.name, self.version = f"{pairs.name}, changed", f"{pairs.fingerprint} {share} {_VERSION}"
        self.pairs, self.share = pairs, share

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> TrainingPair:
        pair = self.pairs[number]
        seed = seed_for("changed image", pair.image_id)
        chosen = np.random.default_rng(seed).random() < self.share
        return replace(pair, change=partial(changed, seed=seed)) if chosen else pair

    def texts(self) -> Iterable[tuple[str, str]]:
        """None: the version stands for them."""
        return ()


def changed(image: FloatArray, seed: int) -> FloatArray:
    """An image in another exposure, texture and sharpness, all of them drawn; everything stays where it is.

    Args:
        image: float32 [H, W] in [0, 1].
        seed: decides all that is drawn.
    """
    draw = np.random.default_rng(seed)
    for step in (_exposed, _ribbed, _textured, _lined, _sharpened):
        image = step(image, draw)
    noise = draw.uniform(0, 0.02) * draw.standard_normal(image.shape)
    return np.clip(image + noise, 0, 1).astype(np.float32)


def _exposed(image: FloatArray, draw: np.random.Generator) -> FloatArray:
    """With another gamma, contrast and brightness."""
    if draw.random() < 0.5:
        image = image ** np.exp(draw.uniform(-0.5, 0.5))
    mean = image.mean()
    return np.asarray((image - mean) * draw.uniform(0.6, 1.2) + mean + draw.uniform(-0.1, 0.1))


def _ribbed(image: FloatArray, draw: np.random.Generator) -> FloatArray:
    """With curved bands, now stronger, now weaker."""
    if draw.random() < 0.4:
        return image
    u, (y, x) = draw.uniform, _places(image)
    wave = np.cos(2 * np.pi * ((y + u(-0.6, 0.6) * np.abs(x) + u(-0.8, 0.8) * x * x) / u(0.06, 0.16) + u(0, 1)))
    band = np.sign(wave) * np.abs(wave) ** u(0.5, 1.5)
    return np.asarray(image + u(0.01, 0.04) * band * (1 + _field(image, 0.125, draw)))


def _textured(image: FloatArray, draw: np.random.Generator) -> FloatArray:
    """With structures of several sizes."""
    for size, most in _STRUCTURES:
        if draw.random() < 0.6:
            field = _field(image, size, draw)
            image = image + draw.uniform(0, most) * field / field.std()
    return image


def _lined(image: FloatArray, draw: np.random.Generator) -> FloatArray:
    """With up to four thin curves."""
    u, places = draw.uniform, _places(image)
    for _ in range(draw.integers(5)):
        along, across = draw.permutation(2)
        x, y = places[along], places[across]
        distance = np.abs(y - u(-0.5, 0.5) - u(-1, 1) * x - u(-1, 1) * x * x)
        seen = (x > u(-0.5, 0)) & (x < u(0, 0.5)) if draw.random() < 0.5 else True
        image = image + u(-0.06, 0.1) * np.clip(1 - distance / u(0.004, 0.012), 0, 1) * seen
    return image


def _sharpened(image: FloatArray, draw: np.random.Generator) -> FloatArray:
    """Blurred (in 40 % of the images), sharpened (in 20 %) or neither."""
    kind, pixel = draw.random(), min(image.shape) / 128
    if kind < 0.4:
        return np.asarray(gaussian_filter(image, pixel * draw.uniform(0.3, 1.3)))
    if kind < 0.6:
        return np.asarray(image + draw.uniform(0.3, 1.2) * (image - gaussian_filter(image, 1.5 * pixel)))
    return image


def _places(image: FloatArray) -> FloatArray:
    """[2, H, W]: y and x of each pixel's centre, from -0.5 to 0.5."""
    height, width = image.shape
    return (np.indices(image.shape) + 0.5) / np.array([height, width])[:, None, None] - 0.5


def _field(image: FloatArray, size: float, draw: np.random.Generator) -> FloatArray:
    """Smooth noise of the image's shape, 1 at its strongest; `size` is the filter's, of the shorter side."""
    noise = gaussian_filter(draw.standard_normal(image.shape), size * min(image.shape))
    return np.asarray(noise / np.abs(noise).max())
