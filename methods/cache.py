"""Reuse what was computed from an image for its next phrases."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.types import fingerprint

T = TypeVar("T")
CACHED = 256
"""How many images are kept."""


def cached_by_image(cache: OrderedDict[str, T], image: FloatArray, compute: Callable[[], T]) -> T:
    """The cached value for an image's pixels, computed if missing; the oldest of more than `CACHED` is dropped."""
    key = fingerprint(image)
    if key not in cache:
        cache[key] = compute()
        if len(cache) > CACHED:
            cache.popitem(last=False)
    return cache[key]
