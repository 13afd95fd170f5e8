"""Diversity of the images of one prompt: MS-SSIM between all pairs of them (Wang et al. 2003), with torchmetrics."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from gtg_bench.benchmark.quality.images import Picture
from gtg_bench.benchmark.quality.results import Similarity, Window
from gtg_bench.benchmark.statistics import bootstrap

PER_PROMPT, MOST_PROMPTS = 4, 500
"""Most images of a prompt (six pairs) and most prompts that are compared: the first ones."""

_BLOCK = 64


USUAL, SMALL = Window(11, 1.5, 5), Window(7, 1.5 * 7 / 11, 4)


def window_for(side: int) -> Window | None:
    """The usual window from 176 px on, a smaller one from 63 px on, else None."""
    return next((window for window in (USUAL, SMALL) if side >= window.least), None)


def similarity(
    prompts: Mapping[str, Sequence[Picture]], side: int, window: Window, released: bool = False
) -> Similarity:
    """MS-SSIM of all pairs of images of each prompt.

    Args:
        prompts: prompt -> its images, at least two; PER_PROMPT of each of MOST_PROMPTS are used.
        side: that images are brought to; at least `window.least`.
        window: the Gaussian window.
        released: the paper's released code: the range of values is that of each pair, and undefined pairs are left out.
            By default the range is 255 grey levels, and undefined pairs count as 0, as they do in torchmetrics'
            `normalize="relu"`.
    """
    values: list[float | None] = []
    names: list[str] = []
    compared = hashlib.sha256()
    for name, everything in list(prompts.items())[:MOST_PROMPTS]:
        images = everything[:PER_PROMPT]
        stacked = np.stack([image.bytes(side) for image in images])
        compared.update(f"{name} {len(images)}\n".encode() + stacked.tobytes())
        pixels = torch.from_numpy(stacked)
        pairs = list(combinations(range(len(images)), 2))
        found = ms_ssim(pixels[[a for a, _ in pairs]], pixels[[b for _, b in pairs]], window, None if released else 255)
        values += [None if value.isnan() else float(value) for value in found]
        names += [name] * len(pairs)
    unlike = sum(value is None for value in values)
    counted = values if released else [value or 0.0 for value in values]
    estimate = bootstrap(counted, [""] * len(values), names)
    return Similarity(estimate, len(values), unlike, len(set(names)), compared.hexdigest())


def ms_ssim(one: Tensor, two: Tensor, window: Window, grey_levels: float | None = 255) -> Tensor:
    """MS-SSIM float64 [n] of pairs of images uint8 [n, S, S]; NaN where it is undefined.

    Args:
        one, two: the pairs.
        window: the Gaussian window.
        grey_levels: range of values; None takes each pair's own.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as measure

    step = _BLOCK if grey_levels else 1
    options = {"sigma": window.sigma, "kernel_size": window.side, "betas": window.betas, "normalize": None}
    found = []
    for start in range(0, len(one), step):
        a, b = (images[start : start + step, None].double() for images in (one, two))
        found.append(measure(a, b, data_range=grey_levels, reduction="none", **options))  # type: ignore[arg-type]
    return torch.cat(found)
