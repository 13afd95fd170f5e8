"""Reuse what was computed from an image for its next phrases, and for the next methods that share the cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.types import fingerprint

T = TypeVar("T")
MOST_BYTES = 2**28
"""Limit of one cache: about 2,000 images encoded by Stable Diffusion's VAE."""


def cached_by_image(cache: OrderedDict[str, T], image: FloatArray, compute: Callable[[], T]) -> T:
    """The cached value for an image's pixels, computed if missing.

    Values are tensors, or tuples of tensors, of one size. Beyond `MOST_BYTES` the least recently used are dropped.
    """
    key = fingerprint(image)
    if key not in cache:
        cache[key] = compute()
        while len(cache) > max(1, MOST_BYTES // _bytes_of(cache[key])):
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


def _bytes_of(value: Any) -> int:
    return sum(map(_bytes_of, value)) if isinstance(value, tuple) else int(value.nbytes)
