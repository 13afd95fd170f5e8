"""Distances between two sets of images, each given as features float64 [n, D]: FID, FID extrapolated over n, KID."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

SIZES = 5
"""Numbers of images between n / 2 and n from which FID is extrapolated."""

DRAWS = 4
"""Random subsets of each of them, except n itself."""

SUBSETS = 100
"""Subsets of which KID is the mean."""

LARGEST_SUBSET = 1000
"""Images in a subset; fewer if n is not larger (Binkowski et al. 2018 take 1,000)."""


class Features(torch.nn.Module):
    """Passes features through, where torchmetrics expects a network."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, values: Tensor) -> Tensor:
        """The features as they are."""
        return values


def fid(real: Tensor, other: Tensor) -> float:
    """Fréchet distance between Gaussians fitted to both sets (Heusel et al. 2017), with torchmetrics, at least 0.

    It is biased: for the same two distributions it is larger the fewer images there are.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(Features(real.shape[1]))
    metric.update(real, real=True)
    metric.update(other, real=False)
    return max(0.0, float(metric.compute()))


def fast_fid(real: Tensor, other: Tensor) -> float:
    """The same number from singular values, for resamples: a hundred times faster where D is large and n small.

    With centred and scaled features A and B (covariances A'A and B'B), tr sqrt(A'A B'B) is the nuclear norm of A B',
    and of R S' where A = Q R and B = P S.
    """
    one, two = (values - values.mean(0) for values in (real, other))
    one, two = one / (len(one) - 1) ** 0.5, two / (len(two) - 1) ** 0.5
    cross = torch.linalg.qr(one, mode="r").R @ torch.linalg.qr(two, mode="r").R.T
    traces = one.square().sum() + two.square().sum() - 2 * torch.linalg.svdvals(cross).sum()
    return max(0.0, float((real.mean(0) - other.mean(0)).square().sum() + traces))


def fid_infinity(real: Tensor, other: Tensor, seed: int = 0) -> float:
    """FID extrapolated to infinitely many images on both sides (Chong and Forsyth 2020, section 3).

    FID is nearly linear in 1 / n. Both sets are cut to the same number of images, n / 2 to n, and a line is fitted.

    Args:
        real, other: the same number of images.
        seed: of the subsets.
    """
    n, random = len(real), np.random.default_rng(seed)
    shares, values = [], []
    for share in np.linspace(1, 2, SIZES):
        size = round(n / share)
        for _ in range(1 if size == n else DRAWS):
            values.append(fast_fid(*(every[random.permutation(n)[:size]] for every in (real, other))))
            shares.append(1 / size)
    return float(np.polyfit(shares, values, 1)[1])


def kid(real: Tensor, other: Tensor, seed: int = 0) -> tuple[float, float]:
    """Unbiased squared MMD with a cubic kernel (Binkowski et al. 2018), with torchmetrics.

    Returns:
        mean and standard deviation over SUBSETS random subsets of min(LARGEST_SUBSET, n / 2) images. The deviation says
        how far subsets of this size vary, and is not a confidence interval.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(LARGEST_SUBSET, min(len(real), len(other)) // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features
        metric = KernelInceptionDistance(Features(real.shape[1]), subsets=SUBSETS, subset_size=size)
    metric.update(real, real=True)
    metric.update(other, real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, spread = metric.compute()
    return float(mean), float(spread)


def kernel(one: Tensor, two: Tensor) -> Tensor:
    """KID's kernel between all pairs of two sets: (x y / D + 1) ^ 3."""
    return (one @ two.T / one.shape[1] + 1) ** 3


def mmd(real: Tensor, both: Tensor, other: Tensor) -> float:
    """Unbiased squared MMD from the kernel within the real set, between the sets, and within the other one."""
    n, m = both.shape
    within = (real.sum() - real.trace()) / (n * (n - 1)) + (other.sum() - other.trace()) / (m * (m - 1))
    return float(within - 2 * both.mean())
