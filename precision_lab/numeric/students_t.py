"""Quantiles of Student's t."""

from __future__ import annotations

import math
from functools import lru_cache


@lru_cache(maxsize=256)
def quantile(within: float, freedom: float) -> float:
    """The t that lies within ±t with a probability; the normal distribution's for infinite freedom.

    By halving, on the regularised incomplete beta function.
    """
    import mpmath

    if math.isinf(freedom):
        return float(mpmath.sqrt(2) * mpmath.erfinv(within))

    def beyond(t: float) -> float:
        return float(mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True))

    low, high = 0.0, 1.0
    while beyond(high) > 1 - within:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if beyond(middle) > 1 - within else (low, middle)
    return high


__all__ = ["quantile"]
