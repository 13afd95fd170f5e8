"""The mixture of two Gaussians whose means place a map's threshold.

scikit-learn's GaussianMixture spends most of its time on a map's few thousand values on what one dimension and two
components do not need. The start is still scikit-learn's k-means; from there on this is its fit, with its defaults: as
many steps, and the same means but for rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MOST_STEPS = 100
_SMALLEST_GAIN = 1e-3
"""Of the mean log likelihood; a step that changes it by less is the last."""
_VARIANCE_FLOOR = 1e-6
_SIZE_FLOOR = 10 * np.finfo(np.float64).eps

Doubles = NDArray[np.float64]


class Mixture(NamedTuple):
    """Two components, the parameters of each in a row: float64 [2, 1]."""

    weights: Doubles
    means: Doubles
    variances: Doubles


def mixture_threshold(values: Doubles, random_state: int = 0) -> float:
    """The mean of the two means of a Gaussian mixture.

    Source: as the released code, `GaussianMixture(2, random_state=0)`: k-means start, then expectation maximisation.

    Args:
        values: float64 of any shape and frame, min-max normalised to [0, 1], at least two distinct values.
        random_state: of the mixture's k-means start.

    Returns:
        The threshold, in [0, 1]; a value passes when it is greater.
    """
    from sklearn.cluster import KMeans

    flat = values.ravel()
    labels = KMeans(2, n_init=1, random_state=random_state).fit(flat[:, None]).labels_
    return float(_fitted(flat, np.stack([labels == 0, labels == 1])).means.mean())


def _fitted(values: Doubles, shares: NDArray) -> Mixture:
    """Expectation maximisation on float64 [n] from each component's share [2, n] of every value.

    A fit that is unfinished after the last step is still the method's fit.
    """
    mixture, likelihood = _maximised(values, shares), -np.inf
    for _ in range(_MOST_STEPS):
        before = likelihood
        shares, likelihood = _expected(values, mixture)
        mixture = _maximised(values, shares)
        if abs(likelihood - before) < _SMALLEST_GAIN:
            break
    return mixture


def _expected(values: Doubles, mixture: Mixture) -> tuple[Doubles, float]:
    """Each component's share [2, n] of every value, and the mean log likelihood of the values [n]."""
    weights, means, variances = mixture
    joint = np.log(weights) - (np.log(2 * np.pi * variances) + (values - means) ** 2 / variances) / 2
    evidence = np.logaddexp(joint[0], joint[1])
    return np.exp(joint - evidence), float(evidence.mean())


def _maximised(values: Doubles, shares: NDArray) -> Mixture:
    """The mixture that fits the values [n] best if each component has these shares [2, n] of them."""
    sizes = shares.sum(axis=1, keepdims=True) + _SIZE_FLOOR
    means = shares @ values[:, None] / sizes
    variances = (shares * (values - means) ** 2).sum(axis=1, keepdims=True) / sizes + _VARIANCE_FLOOR
    return Mixture(sizes / sizes.sum(), means, variances)
