"""Images with the features of a network."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gtg_bench.benchmark.quality.images import Pictures, digest_of, to_bytes
from gtg_bench.benchmark.quality.networks import Network

Count = Callable[[int, int], None]
"""Called with (images done, in all)."""

_BATCH = 32


@dataclass(frozen=True)
class Encoded:
    """Images with what is computed from each of them.

    Attributes:
        pictures: the images.
        features: float64 [n, D].
        digests: one per image, of its 8-bit pixels.
    """

    pictures: Pictures
    features: Tensor
    digests: tuple[str, ...]

    def part(self, places: Sequence[int]) -> Encoded:
        """Some of the images."""
        chosen = self.pictures.only([self.pictures[place] for place in places])
        return Encoded(chosen, self.features[list(places)], tuple(self.digests[place] for place in places))

    @property
    def digest(self) -> str:
        """16 hex digits over the pixels, whatever their order."""
        return hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()[:16]

    @property
    def identity(self) -> str:
        """64 hex digits over what distances and intervals depend on: pixels and groups of the images, in order."""
        told = [f"{digest} {group}\n" for digest, group in zip(self.digests, self.pictures.groups, strict=True)]
        return hashlib.sha256("".join(told).encode()).hexdigest()


class Encoder:
    """Reads images, 32 at a time, and computes their features.

    Attributes:
        enlarged: name of a set -> its images that are smaller than the side.
    """

    def __init__(self, network: Network, side: int, progress: Count, total: int) -> None:
        self.network, self.side, self.progress, self.total, self.done = network, side, progress, total, 0
        self.enlarged: Counter[str] = Counter()

    def __call__(self, pictures: Pictures) -> Encoded:
        features, digests = [], []
        for start in range(0, len(pictures), _BATCH):
            images = [picture.pixels() for picture in pictures[start : start + _BATCH]]
            self.enlarged[pictures.name] += sum(min(image.shape) < self.side for image in images)
            pixels = [to_bytes(image, self.side) for image in images]
            digests += [digest_of(each) for each in pixels]
            features.append(self.network.features(torch.from_numpy(np.stack(pixels))))
            self.done += len(pixels)
            self.progress(self.done, self.total)
        return Encoded(pictures, torch.cat(features), tuple(digests))
