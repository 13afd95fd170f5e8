"""Images, phrases and queries that `check_method` gives a method, and control of the global random generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.types import Query

PHRASE, OTHER = "Small left pleural effusion.", "there is a hazy opacity at the right base"
PHRASES = {
    "a short phrase": "edema",
    "a phrase of more than 77 tokens": ", ".join(["patchy opacity in the left lower lobe"] * 20),
    "a phrase with punctuation": 'Right-sided pneumothorax (~2.5 cm), ap/lateral; "new" & patient\'s: 50%?!',
    "a phrase in other alphabets": "Épanchement pleural à gauche — 左侧胸腔积液 ≥ 2 cm µ",
}
"""Name of a case -> its phrase."""

_SIZES = {"square": (256, 256), "portrait": (180, 120), "landscape": (120, 200), "odd": (97, 131), "small": (64, 64)}


def make_image(seed: int, size: tuple[int, int] = (128, 128)) -> FloatArray:
    """A random image, float32 [H, W] in [0, 1]."""
    return np.random.default_rng(seed).random(size, dtype=np.float32)


def make_images() -> dict[str, FloatArray]:
    """Name of a case -> its image, float32 [H, W] in [0, 1]."""
    found = {f"a {name} image": make_image(0, size) for name, size in _SIZES.items()}
    found["a large image"] = make_image(0, (1100, 700))
    found["a black image"], found["a white image"] = np.zeros_like(make_image(0)), np.ones_like(make_image(0))
    return found


def make_queries() -> list[Query]:
    """Two phrases on one image, one phrase on two images, one query with two seeds, and another image size."""
    cases = [(0, PHRASE, 5), (0, OTHER, 6), (1, PHRASE, 7), (0, PHRASE, 8)]
    return [Query(make_image(k), text, seed) for k, text, seed in cases] + [Query(make_image(2, (90, 140)), PHRASE, 9)]


def seed_globals(seed: int) -> None:
    """Seed the global generators of Python, numpy and (if loaded) torch."""
    random.seed(seed)
    np.random.seed(seed)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def draw_globals() -> tuple[float, ...]:
    """The next number of each global generator."""
    torch = sys.modules.get("torch")
    return random.random(), np.random.random(), float(torch.rand(()) if torch else 0)


@contextmanager
def globals_restored() -> Iterator[None]:
    """Restore the global generators of Python, numpy and (if loaded) torch afterwards."""
    torch = sys.modules.get("torch")
    before = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        if torch:
            torch.set_rng_state(before[2])
