"""Another generic caption world, for the phantom's OpenCLIP: grey sketches of landscapes, in other words.

Like `shapes` it knows nothing of radiographs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gtg_bench.training.pretraining.pairs import Pairs

SIZE = 64
_THINGS = ("house", "tree", "boat", "mountain", "tower", "bush")
_SIZES = {"tiny": 0.2, "ordinary": 0.32, "huge": 0.5}
_INKS = {"black": 0.05, "gray": 0.35, "white": 0.98}
_PLACES = {"far left": -0.7, "left": -0.35, "center": 0.0, "right": 0.35, "far right": 0.7}
_SKIES = {"night": 0.2, "cloudy": 0.5, "clear": 0.8}
_LIGHTS = {"night": "moon", "cloudy": None, "clear": "sun"}
_TEMPLATES = (
    "drawing: {size} {ink} {thing}, {place}, {sky} sky",
    "a landscape in {ink} ink; you can see one {size} {thing} to the {place} under a {sky} sky",
    "{sky} sky above a {thing} standing {place}",
    "my {size} {thing} ({ink})",
    "view of the {thing}, {size}, with the {place} side of the scene shown against a {sky} sky",
)
_LIT = (" by the light of the {light}", ", {light} high up on the {where}", "")
_GRID = (np.arange(SIZE) + 0.5) / (SIZE / 2) - 1
_GROUND = 0.45


def captioned_scenes(count: int, seed: int) -> Pairs:
    """`count` sketches, 64 x 64, of one thing in a landscape with their captions."""
    random = np.random.default_rng(seed)
    made = [_sketch(random) for _ in range(count)]
    return Pairs(torch.from_numpy(np.stack([pixels for pixels, _ in made])), [caption for _, caption in made])


def _sketch(random: np.random.Generator) -> tuple[NDArray[np.uint8], str]:
    tables = {"thing": _THINGS, "size": _SIZES, "ink": _INKS, "place": _PLACES, "sky": _SKIES}
    words = {name: str(random.choice(list(table))) for name, table in tables.items()}
    caption = str(random.choice(_TEMPLATES)).format(**words)
    sky, ground = _SKIES[words["sky"]] + random.uniform(-0.06, 0.06), _GROUND + random.uniform(-0.08, 0.08)
    image = np.where(_GRID[:, None] < ground, sky, 0.62 - 0.25 * _GRID[:, None]) + np.zeros((SIZE, SIZE))
    if (light := _LIGHTS[words["sky"]]) is not None:
        where = str(random.choice(("left", "right")))
        image[_disc({"left": -0.6, "right": 0.6}[where] + random.uniform(-0.15, 0.15), random)] = 0.97
        caption += str(random.choice(_LIT)).format(light=light, where=where)
    inside = _inside(words, ground, random)
    image[inside] = _INKS[words["ink"]] + random.uniform(-0.04, 0.02)
    image += random.normal(0, 0.03, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), caption


def _disc(x: float, random: np.random.Generator) -> NDArray[np.bool_]:
    y = -0.7 + random.uniform(-0.1, 0.1)
    return (_GRID[None, :] - x) ** 2 + (_GRID[:, None] - y) ** 2 < 0.03


def _inside(words: dict[str, str], ground: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Where the thing is; it stands on the ground, or a little before it."""
    size = _SIZES[words["size"]] * random.uniform(0.9, 1.1)
    x = np.abs(_GRID - _PLACES[words["place"]] - random.uniform(-0.08, 0.08))[None, :] / size
    y = (ground + random.uniform(0.0, 0.2) - _GRID)[:, None] / size
    stands = y > 0
    return {
        "house": stands & (x < 0.8) & (y < np.where(x < 0.8, 1.9 - 1.1 * x, 0)),
        "tree": stands & (((x < 0.12) & (y < 1)) | (x**2 + (y - 1.5) ** 2 < 0.5)),
        "boat": (stands & (y < 0.5) & (x < 0.6 + y)) | ((x < 0.08) & (y > 0) & (y < 2)),
        "mountain": stands & (x * 1.1 + y < 1.7),
        "tower": stands & (x < 0.3) & (y < 2.6),
        "bush": stands & (x**2 + y**2 < 0.8),
    }[words["thing"]]
