"""Random numbers that are identical on every machine.

NumPy guarantees stable raw bit streams but not stable distributions, and the last bit of exp, sin or a sum may
differ between processors. The phantom therefore draws raw Philox words and only uses elementwise IEEE
+ - * / sqrt, floor, minimum and maximum, which are exact everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
_BLOCK = 64


class Stream:
    """A stream of random numbers that only depends on `parts`."""

    def __init__(self, *parts: object) -> None:
        digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "big"))
        self._words: list[int] = []

    def _word(self) -> int:
        if not self._words:
            self._words = self._bits.random_raw(_BLOCK).tolist()[::-1]
        return self._words.pop()

    def uniform(self, low: float, high: float) -> float:
        """A float in [low, high)."""
        return low + (high - low) * ((self._word() >> 11) * 2.0**-53)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform(0.0, 1.0) < probability

    def choice(self, items: Sequence[T], weights: Sequence[int] | None = None) -> T:
        """One item, with integer weights if given."""
        weights = weights or [1] * len(items)
        target = (self._word() >> 32) * sum(weights) >> 32
        for item, weight in zip(items, weights, strict=True):
            target -= weight
            if target < 0:
                return item
        raise AssertionError("weights must be positive")

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All items in a random order."""
        left, result = list(items), []
        while left:
            result.append(left.pop((self._word() >> 32) * len(left) >> 32))
        return result

    def field(self, height: int, width: int) -> NDArray[np.float32]:
        """Independent noise [height, width]: the sum of four bytes, mean 0, standard deviation 1."""
        words = self._bits.random_raw((height * width + 1) // 2)
        quads = words.astype("<u8").view(np.uint8).reshape(-1, 4).astype(np.int32)
        total = quads[:, 0] + quads[:, 1] + quads[:, 2] + quads[:, 3] - 510
        return (total[: height * width].astype(np.float32) / np.float32(147.8)).reshape(height, width)
