"""Measures from nearest neighbours in the space of a network's features, and the check for copied training images."""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 5
"""Neighbours that a manifold reaches to, as Naeem et al. (2020) recommend; Kynkäänniemi et al. (2019) took 3."""

_BLOCK = 1024


def distances(one: Tensor, two: Tensor) -> Tensor:
    """Euclidean distances float64 [n, m] between all features of two sets; exactly 0 for equal ones."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(one.double(), two.double(), compute_mode=exact)


def manifold(real: Tensor, both: Tensor, other: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall, density and coverage of a set of images.

    Kynkäänniemi et al. 2019 (equation 1, both directions), Naeem et al. 2020 (equations 3 and 4).

    Args:
        real: distances [n, n] within the real set.
        both: distances [n, m] from real to other images.
        other: distances [m, m] within the other set.
        k: neighbours that a ball reaches to; less than n and m.

    Returns:
        precision: share of the others in a ball around a real image, as large as its distance to the k-th real one;
            recall: share of the real images in such a ball around another one; density: mean over the others of the
            number of real balls that they are in, divided by k, which is 1 for equal distributions and can be more;
            coverage: share of the real balls that an other image is in.
    """
    inside = both < _radii(real, k)[:, None]
    return {
        "precision": float(inside.any(0).double().mean()),
        "recall": float((both < _radii(other, k)[None]).any(1).double().mean()),
        "density": float(inside.double().sum(0).mean() / k),
        "coverage": float(inside.any(1).double().mean()),
    }


def _radii(within: Tensor, k: int) -> Tensor:
    """Distance of each image to its k-th neighbour; the nearest of all is the image itself."""
    return within.kthvalue(k + 1, dim=1).values


def nearest(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Distance from each image to its nearest training image, and which one that is; both [n]."""
    found = [distances(images, training[start : start + _BLOCK]).min(1) for start in range(0, len(training), _BLOCK)]
    least = torch.stack([part.values for part in found])
    block = least.argmin(0)
    where = torch.stack([part.indices for part in found])[block, torch.arange(len(images))] + block * _BLOCK
    return least.min(0).values, where
