"""Bimodal Bias Merging, BBM (paper, section 2.3 and Appendix B, Eq. 2 to 6).

- P_img, the image bias: maps of the start token in the sampling run.
- P_txt, the text bias: maps of the chosen tokens in a run from Gaussian noise with the same prompt.
- P_mult: their matrix products P_img (x) P_txt, averaged over steps, layers and tokens.
- s: the SSIM of the two mean biases, the share of P_mult in the result.

The merged map P_BBM interpolates between P_comb, the map of section 2.2, at s = 0 and P_mult at s = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.methods.ldm.reduction import MeanMaps, Rows, Size

Array = NDArray[np.float64]
Maps = TypeVar("Maps", Array, Tensor)
WINDOW = 7
"""Side of the SSIM window; latents must not be smaller."""


def check_size(side: int) -> None:
    """Raise UsageError if latents of side x side cells are too small for the SSIM window."""
    if side < WINDOW:
        raise UsageError(f"--bbm needs latents of at least {WINDOW} x {WINDOW} cells; this model has {side} x {side}")


def quadratic_bezier(start: Maps, control: Maps, end: Maps, s: float) -> Maps:
    """Point s of the quadratic Bézier curve from `start` (s = 0) to `end` (s = 1): the form of Eq. 2 and 4 to 6."""
    return 2 * (1 - s) * s * control + (1 - s) ** 2 * start + s**2 * end


def linear(comb: Maps, mult: Maps, s: float) -> Maps:
    """Eq. 3, `--bbm linear`: straight interpolation between P_comb and P_mult."""
    return s * mult + (1 - s) * comb


def linear_as_quadratic(comb: Maps, mult: Maps, s: float) -> Maps:
    """Eq. 5: Eq. 3 as a quadratic Bézier curve whose control point is the midpoint; the step from Eq. 3 to Eq. 6."""
    return quadratic_bezier(comb, (mult + comb) / 2, mult, s)


def quadratic(comb: Maps, mult: Maps, s: float) -> Maps:
    """Eq. 4, `--bbm quadratic`: the control point is the Hadamard product, a gate that keeps active areas small."""
    return quadratic_bezier(comb, mult * comb, mult, s)


def mixture(comb: Maps, mult: Maps, s: float) -> Maps:
    """Eq. 2 (and 6, the same), `--bbm mixture`: Eq. 5 with the Hadamard product of Eq. 4 in the control point."""
    return quadratic_bezier(comb, (mult + comb + mult * comb) / 2, mult, s)


def scaled(values: Array) -> Array:
    """Min-max normalise to [0, 1]; a constant map becomes all 0."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def similarity(image: Array, text: Array) -> float:
    """s of Eq. 2: SSIM (7 x 7 window) of the two mean biases, each scaled to [0, 1]; clipped to [0, 1]."""
    from skimage.metrics import structural_similarity

    return float(np.clip(structural_similarity(scaled(image), scaled(text), data_range=1.0), 0, 1))


def merged(combined: Array, product: Array, s: float, how: str) -> Array:
    """P_BBM, float64 [H, W], from P_comb and P_mult, which are min-max normalised here.

    Args:
        combined: P_comb, float64 [H, W].
        product: P_mult, float64 [H, W].
        s: similarity of the biases, in [0, 1].
        how: "linear" (Eq. 3), "quadratic" (Eq. 4) or "mixture" (Eq. 2).
    """
    curve = {"linear": linear, "quadratic": quadratic, "mixture": mixture}[how]
    return curve(scaled(combined), scaled(product), s)


def bias_product(image: Tensor, text: Tensor, size: Size) -> Tensor:
    """P_img (x) P_txt (section 2.3) at the layer's own resolution: upsampled, it is the product of the upsampled maps.

    With U the nearest upsampling along one side, (U A U') (U B U') = U (A U'U B) U', and U'U is diagonal: how often
    each cell is repeated. The product is linear in P_txt, so the mean over tokens may be taken before it; the means
    over steps and layers may not.

    Args:
        image: float32 [R, h, w].
        text: float32 [R, h, w], mean over the chosen tokens.
        size: (height, width) of the latents.

    Returns:
        float32 [R, h, w].
    """
    return (image * repeats(image.shape[-1], size[1], image.device)) @ text


def repeats(cells: int, to: int, device: torch.device) -> Tensor:
    """float32 [cells]: how often nearest upsampling to `to` cells repeats each cell; they sum to `to`."""
    places = F.interpolate(torch.arange(cells, dtype=torch.float32)[None, None], to, mode="nearest")[0, 0]
    return torch.bincount(places.long(), minlength=cells).to(device, torch.float32)


class BiasMaps:
    """Reduce the chosen tokens' and the start token's maps to P_comb, P_mult and the mean P_img.

    Attributes:
        combined: P_comb, over the steps from `first_step` on.
        image: the mean image bias, over all steps.
        product: P_mult, over all steps.
    """

    def __init__(self, text: Mapping[str, Tensor], prompt: Tensor, size: Size, first_step: int = 0) -> None:
        """`text`: layer -> P_txt, float32 [prompts, steps, h, w]; `prompt`: int64 [samples], each sample's prompt."""
        self.text = text
        self.prompt = prompt
        self.size = size
        self.combined = MeanMaps(len(prompt), size, first_step)
        self.image = MeanMaps(len(prompt), size)
        self.product = MeanMaps(len(prompt), size)

    def add(self, layer: str, maps: Tensor, rows: Rows) -> None:
        """Add a layer's maps, float32 [R, 2, h, w]: chosen tokens, start token."""
        self.combined.add(layer, maps[:, :1], rows)
        self.image.add(layer, maps[:, 1:], rows)
        text = self.text[layer][self.prompt[rows.sample], rows.step]
        self.product.add(layer, bias_product(maps[:, 1], text, self.size)[:, None], rows)


def text_bias(text: Mapping[str, Tensor], size: Size) -> Tensor:
    """The mean text bias over steps and layers, float32 [prompts, H, W] at the latent size."""
    means = [F.interpolate(maps.mean(1, keepdim=True), size, mode="nearest")[:, 0] for maps in text.values()]
    return torch.stack(means).mean(0)
