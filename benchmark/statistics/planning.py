"""What difference a comparison of this size can detect."""

from __future__ import annotations

from statistics import NormalDist

_NORMAL = NormalDist()


def detectable(low: float | None, high: float | None, power: float = 0.8) -> float | None:
    """The smallest true difference that a two-sided test at 5 % detects with this power: (1.96 + 0.84) standard errors.

    Source: Bloom, Minimum Detectable Effects, Evaluation Review 19, 1995.

    Args:
        low, high: limits of the 95 % CI of the difference, from which the standard error is taken; None if unknown.
        power: probability of detecting it.
    """
    if low is None or high is None:
        return None
    quantile = _NORMAL.inv_cdf(0.975)
    return (quantile + _NORMAL.inv_cdf(power)) * (high - low) / (2 * quantile)
