"""Bimodal Bias Merging (paper, section 2.3 and Appendix B, Eq. 2 to 6).

P_img: the start token's maps of the run at hand. P_txt: the chosen tokens' maps of a run from Gaussian noise with
the same prompt. P_mult: their matrix products, step by step and layer by layer, averaged. How much of P_mult is
merged into the map P_comb follows from how alike the two biases are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.methods.ldm.reduction import MeanMaps, Rows, Size

Array = NDArray[np.float64]
SMALLEST = 7
"""The side of SSIM's window: latents must not be smaller."""


def check_size(side: int) -> None:
    """Raise UsageError if latents of side x side cells are too small for SSIM's window."""
    if side < SMALLEST:
        raise UsageError(
            f"--bbm needs latents of at least {SMALLEST} x {SMALLEST} cells, this model has {side} x {side}"
        )


class BiasProducts:
    """The mean over steps and layers of P_img (x) P_txt, both nearest-upsampled to the latent size (section 2.3).

    With U the upsampling along one side, (U A U') (U B U') = U (A U'U B) U', and U'U is diagonal: how often each
    cell is repeated. So the product is taken at the layer's own resolution and upsampled once. It is linear in
    P_txt, so the mean over tokens may be taken before it; the mean over steps and layers may not.
    """

    def __init__(self, text: Mapping[str, Tensor], prompt: Tensor, size: Size) -> None:
        """`text`: layer -> float32 [prompts, steps, h, w]; `prompt`: int64 [samples], which of them; latents' size."""
        self.text = text
        self.prompt = prompt
        self.size = size
        self._sums: dict[Size, Tensor] = {}
        self._counts = torch.zeros(len(prompt), device=prompt.device)

    def add(self, layer: str, image: Tensor, rows: Rows) -> None:
        """Add a layer's start-token maps, float32 [R, h, w]."""
        small = (image.shape[-2], image.shape[-1])
        text = self.text[layer][self.prompt[rows.sample], rows.step]
        product = (image * repeats(small[1], self.size[1], image.device)) @ text
        if small not in self._sums:
            self._sums[small] = image.new_zeros(len(self.prompt), *small)
        self._sums[small].index_add_(0, rows.sample, product)
        self._counts.index_add_(0, rows.sample, torch.ones(len(image), device=image.device))

    def mean(self) -> Tensor:
        """P_mult before its normalisation, float32 [samples, H, W] at the latent size."""
        total = sum(F.interpolate(summed[:, None], self.size, mode="nearest")[:, 0] for summed in self._sums.values())
        assert isinstance(total, Tensor), "no maps were added"
        return total / self._counts[:, None, None]


def repeats(cells: int, to: int, device: torch.device) -> Tensor:
    """float32 [cells]: how often nearest upsampling to `to` cells repeats each; they sum to `to`."""
    places = F.interpolate(torch.arange(cells, dtype=torch.float32)[None, None], to, mode="nearest")[0, 0]
    return torch.bincount(places.long(), minlength=cells).to(device, torch.float32)


class BiasedMaps:
    """A reduction of two maps a row, the chosen tokens' and the start token's, to what is merged."""

    rows: Rows

    def __init__(self, combined: MeanMaps, products: BiasProducts) -> None:
        self.combined = combined
        self.products = products
        self.image = MeanMaps(combined.samples, combined.size)

    def add(self, layer: str, maps: Tensor) -> None:
        """Add a layer's maps, float32 [R, 2, h, w]: chosen tokens, start token."""
        self.combined.rows = self.image.rows = self.rows
        self.combined.add(layer, maps[:, :1])
        self.image.add(layer, maps[:, 1:])
        self.products.add(layer, maps[:, 1], self.rows)


def text_bias(text: Mapping[str, Tensor], size: Size) -> Tensor:
    """The mean text bias over steps and layers, float32 [prompts, H, W] at the latent size."""
    means = [F.interpolate(maps.mean(1, keepdim=True), size, mode="nearest")[:, 0] for maps in text.values()]
    return torch.stack(means).mean(0)


def scaled(values: Array) -> Array:
    """Min-max normalised to [0, 1]; a constant map is all 0."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def similarity(image: Array, text: Array) -> float:
    """s of Eq. 2: SSIM of the two mean biases, each scaled to [0, 1], clipped to [0, 1]; 7 x 7 window."""
    from skimage.metrics import structural_similarity

    return float(np.clip(structural_similarity(scaled(image), scaled(text), data_range=1.0), 0, 1))


def merged(combined: Array, product: Array, s: float, how: str) -> Array:
    """P_BBM from P_comb and P_mult, both min-max normalised here, float64 [H, W].

    Args:
        combined: the map of the run at hand.
        product: the mean product of the biases.
        s: how alike the biases are, in [0, 1].
        how: "linear" (Eq. 3), "quadratic" (Eq. 4) or "mixture" (Eq. 2, the same as Eq. 6).
    """
    comb, mult = scaled(combined), scaled(product)
    if how == "linear":
        return s * mult + (1 - s) * comb
    both = mult * comb if how == "quadratic" else (mult + comb + mult * comb) / 2
    return 2 * (1 - s) * s * both + (1 - s) ** 2 * comb + s**2 * mult
