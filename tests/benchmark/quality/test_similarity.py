"""MS-SSIM within prompts: against scikit-image scale by scale, and pairs for which it is undefined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from gtg_bench.benchmark.quality.images import Picture
from gtg_bench.benchmark.quality.results import Window
from gtg_bench.benchmark.quality.similarity import SMALL, USUAL, ms_ssim, similarity, window_for


def textures(n: int, side: int, border: int, seed: int = 0) -> np.ndarray:
    """Random images uint8 [n, side, side] with smooth structure inside a constant border."""
    random = np.random.default_rng(seed)
    inner = side - 2 * border
    coarse = random.integers(40, 216, (n, inner // 8, inner // 8)).repeat(8, 1).repeat(8, 2)
    fine = (coarse + random.integers(-20, 20, coarse.shape)).astype(np.uint8)
    return np.pad(fine, ((0, 0), (border, border), (border, border)), constant_values=128)


def skimage_ms_ssim(a: np.ndarray, b: np.ndarray, window: Window) -> float:
    found, pad = 1.0, window.side // 2
    one, two = a.astype(float), b.astype(float)
    for scale, beta in enumerate(window.betas):
        last = scale == window.scales - 1
        _, full = structural_similarity(
            *(one, two),
            data_range=255,
            gaussian_weights=True,
            sigma=window.sigma,
            use_sample_covariance=False,
            K1=0.01 if last else 1e6,  # so large that the luminance term is 1: contrast and structure alone
            full=True,
        )
        found *= (full if last else full[pad:-pad, pad:-pad]).mean() ** beta
        one, two = (x.reshape(len(x) // 2, 2, -1, 2).mean((1, 3)) for x in (one, two))
    return found


@pytest.mark.parametrize("window", [Window(11, 1.5, 1), Window(7, SMALL.sigma, 1), SMALL])
def test_it_equals_scikit_image_scale_by_scale(window: Window) -> None:
    a, b = textures(2, 192, 64)
    mixed = (0.6 * a + 0.4 * b).astype(np.uint8)
    found = ms_ssim(torch.from_numpy(a[None]), torch.from_numpy(mixed[None]), window)
    assert float(found) == pytest.approx(skimage_ms_ssim(a, mixed, window), rel=1e-6)


@pytest.mark.parametrize(("side", "window"), [(62, None), (63, SMALL), (175, SMALL), (176, USUAL)])
def test_the_window_fits_the_side(side: int, window: Window | None) -> None:
    assert window_for(side) == window
    image = torch.from_numpy(textures(1, side, 3)[:, :side, :side])
    image = torch.zeros(1, side, side, dtype=torch.uint8) if image.shape[1] != side else image
    if window:
        assert float(ms_ssim(image, image, window)) == pytest.approx(1)
    with pytest.raises(ValueError, match="must be larger"):
        ms_ssim(image[:, 1:], image[:, 1:], next(w for w in (USUAL, SMALL) if side - 1 < w.least))


def picture(name: str, pixels: np.ndarray) -> Picture:
    return Picture(name, lambda: pixels.astype(np.float32) / 255)


def test_undefined_pairs_are_counted_and_are_0_by_default() -> None:
    image = textures(1, 64, 0)[0]
    prompts = {"same": [picture("a", image)] * 2, "unlike": [picture("a", image), picture("b", 255 - image)]}
    found, released = (similarity(prompts, 64, SMALL, way) for way in (False, True))
    assert (found.pairs, found.unlike, found.prompts) == (2, 1, 2)
    assert found.estimate.value == pytest.approx(0.5)
    assert (released.estimate.value, released.estimate.n_undefined) == (pytest.approx(1), 1)


def test_similar_images_score_higher_than_different_ones() -> None:
    a, b = textures(2, 64, 0)
    slightly = np.clip(a + np.random.default_rng(0).normal(0, 8, a.shape), 0, 255)
    values = [
        similarity({"p": [picture("a", a), picture("b", other)]}, 64, SMALL).estimate.value for other in (slightly, b)
    ]
    assert (values[0] or 0) > 0.8 > 0.5 > (values[1] or 0)
