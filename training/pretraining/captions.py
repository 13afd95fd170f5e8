"""Generic captioned pictures that contain nothing radiological: grey shapes for CLIP, grey landscapes for OpenCLIP."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE = 64
_GRID = (np.arange(SIZE) + 0.5) / (SIZE / 2) - 1

_SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar")
_SHAPE_SIZES = {"small": 0.16, "medium-sized": 0.26, "large": 0.38}
_TONES = {"dark": 0.15, "gray": 0.5, "bright": 0.95}
_ROWS = {"upper": -0.5, "middle": 0.0, "lower": 0.5}
_COLUMNS = {"left": -0.5, "center": 0.0, "right": 0.5}
_SHAPE_CAPTIONS = (
    "a photo of a {size} {tone} {shape} in the {row} {column}",
    "a {size} {shape}, {tone}, on the {column} of the picture",
    "there is a {tone} {shape} at the {row} {column}",
    "a {tone} {shape} over there in the {row} part",
    "an image with a {size} {shape} within the {row} {column} area",
    "{size} {tone} {shape}",
)

_THINGS = ("house", "tree", "boat", "mountain", "tower", "bush")
_THING_SIZES = {"tiny": 0.2, "ordinary": 0.32, "huge": 0.5}
_INKS = {"black": 0.05, "gray": 0.35, "white": 0.98}
_PLACES = {"far left": -0.7, "left": -0.35, "center": 0.0, "right": 0.35, "far right": 0.7}
_SKIES = {"night": 0.2, "cloudy": 0.5, "clear": 0.8}
_LIGHTS = {"night": "moon", "cloudy": None, "clear": "sun"}
_GROUND = 0.45
_SCENE_CAPTIONS = (
    "drawing: {size} {ink} {thing}, {place}, {sky} sky",
    "a landscape in {ink} ink; you can see one {size} {thing} to the {place} under a {sky} sky",
    "{sky} sky above a {thing} standing {place}",
    "my {size} {thing} ({ink})",
    "view of the {thing}, {size}, with the {place} side of the scene shown against a {sky} sky",
)
_LIGHT_CAPTIONS = (" by the light of the {light}", ", {light} high up on the {side}", "")


def shapes(random: np.random.Generator) -> tuple[NDArray[np.uint8], str]:
    """Draw one or two shapes; return the picture [64, 64] and its caption."""
    image = np.full((SIZE, SIZE), random.uniform(0.25, 0.7)) + random.uniform(-0.1, 0.1) * _GRID[:, None]
    captions = []
    for _ in range(random.integers(1, 3)):
        tables = {"shape": _SHAPES, "size": _SHAPE_SIZES, "tone": _TONES, "row": _ROWS, "column": _COLUMNS}
        words = {name: str(random.choice(list(table))) for name, table in tables.items()}
        inside = _shape(words, random)
        image[inside] = _TONES[words["tone"]] + random.uniform(-0.08, 0.08)
        captions.append(str(random.choice(_SHAPE_CAPTIONS)).format(**words))
    image += random.normal(0, 0.02, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), " and ".join(captions)


def _shape(words: dict[str, str], random: np.random.Generator) -> NDArray[np.bool_]:
    radius = _SHAPE_SIZES[words["size"]]
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


def scenes(random: np.random.Generator) -> tuple[NDArray[np.uint8], str]:
    """Draw a thing in a landscape; return the picture [64, 64] and its caption."""
    tables = {"thing": _THINGS, "size": _THING_SIZES, "ink": _INKS, "place": _PLACES, "sky": _SKIES}
    words = {name: str(random.choice(list(table))) for name, table in tables.items()}
    caption = str(random.choice(_SCENE_CAPTIONS)).format(**words)
    sky, ground = _SKIES[words["sky"]] + random.uniform(-0.06, 0.06), _GROUND + random.uniform(-0.08, 0.08)
    image = np.where(_GRID[:, None] < ground, sky, 0.62 - 0.25 * _GRID[:, None]) + np.zeros((SIZE, SIZE))
    if (light := _LIGHTS[words["sky"]]) is not None:
        side = str(random.choice(("left", "right")))
        x, y = {"left": -0.6, "right": 0.6}[side] + random.uniform(-0.15, 0.15), -0.7 + random.uniform(-0.1, 0.1)
        image[(_GRID[None, :] - x) ** 2 + (_GRID[:, None] - y) ** 2 < 0.03] = 0.97
        caption += str(random.choice(_LIGHT_CAPTIONS)).format(light=light, side=side)
    inside = _thing(words, ground, random)
    image[inside] = _INKS[words["ink"]] + random.uniform(-0.04, 0.02)
    image += random.normal(0, 0.03, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), caption


def _thing(words: dict[str, str], ground: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """The pixels of the thing; its foot is at the horizon or slightly in front of it."""
    size = _THING_SIZES[words["size"]] * random.uniform(0.9, 1.1)
    x = np.abs(_GRID - _PLACES[words["place"]] - random.uniform(-0.08, 0.08))[None, :] / size
    y = (ground + random.uniform(0.0, 0.2) - _GRID)[:, None] / size
    above = y > 0
    return {
        "house": above & (x < 0.8) & (y < np.where(x < 0.8, 1.9 - 1.1 * x, 0)),
        "tree": above & (((x < 0.12) & (y < 1)) | (x**2 + (y - 1.5) ** 2 < 0.5)),
        "boat": (above & (y < 0.5) & (x < 0.6 + y)) | ((x < 0.08) & (y > 0) & (y < 2)),
        "mountain": above & (x * 1.1 + y < 1.7),
        "tower": above & (x < 0.3) & (y < 2.6),
        "bush": above & (x**2 + y**2 < 0.8),
    }[words["thing"]]
