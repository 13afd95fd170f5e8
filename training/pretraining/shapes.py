"""A domain-agnostic caption world for the phantom's CLIP: grey pictures of plain shapes and their captions.

CLIP's own training data knows little of radiographs; its toy counterpart knows nothing of them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gtg_bench.training.pretraining.pairs import Pairs

SIZE = 64
_SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar")
_SIZES = {"small": 0.16, "medium-sized": 0.26, "large": 0.38}
_TONES = {"dark": 0.15, "gray": 0.5, "bright": 0.95}
_ROWS = {"upper": -0.5, "middle": 0.0, "lower": 0.5}
_COLUMNS = {"left": -0.5, "center": 0.0, "right": 0.5}
_TEMPLATES = (
    "a photo of a {size} {tone} {shape} in the {row} {column}",
    "a {size} {shape}, {tone}, on the {column} of the picture",
    "there is a {tone} {shape} at the {row} {column}",
    "a {tone} {shape} over there in the {row} part",
    "an image with a {size} {shape} within the {row} {column} area",
    "{size} {tone} {shape}",
)
_GRID = (np.arange(SIZE) + 0.5) / (SIZE / 2) - 1


def captioned_shapes(count: int, seed: int) -> Pairs:
    """`count` pictures, 64 x 64, of one or two shapes with their captions."""
    random = np.random.default_rng(seed)
    made = [_picture(random) for _ in range(count)]
    return Pairs(torch.from_numpy(np.stack([pixels for pixels, _ in made])), [caption for _, caption in made])


def _picture(random: np.random.Generator) -> tuple[NDArray[np.uint8], str]:
    image = np.full((SIZE, SIZE), random.uniform(0.25, 0.7)) + random.uniform(-0.1, 0.1) * _GRID[:, None]
    captions = []
    for _ in range(random.integers(1, 3)):
        words = {
            "shape": str(random.choice(_SHAPES)),
            "size": str(random.choice(list(_SIZES))),
            "tone": str(random.choice(list(_TONES))),
            "row": str(random.choice(list(_ROWS))),
            "column": str(random.choice(list(_COLUMNS))),
        }
        inside = _inside(words, random)
        image[inside] = _TONES[words["tone"]] + random.uniform(-0.08, 0.08)
        captions.append(str(random.choice(_TEMPLATES)).format(**words))
    image += random.normal(0, 0.02, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), " and ".join(captions)


def _inside(words: dict[str, str], random: np.random.Generator) -> NDArray[np.bool_]:
    radius = _SIZES[words["size"]]
    x = np.abs(_GRID - _COLUMNS[words["column"]] - random.uniform(-0.12, 0.12))[None, :] / radius
    y = (_GRID - _ROWS[words["row"]] - random.uniform(-0.12, 0.12))[:, None] / radius
    distance = x**2 + y**2
    return {
        "circle": distance < 1,
        "square": (x < 0.9) & (np.abs(y) < 0.9),
        "triangle": (x < (y + 1) / 2) & (np.abs(y) < 1),
        "cross": ((x < 0.3) | (np.abs(y) < 0.3)) & (x < 1) & (np.abs(y) < 1),
        "ring": (distance < 1) & (distance > 0.4),
        "bar": (x < 1.3) & (np.abs(y) < 0.35),
    }[words["shape"]]
