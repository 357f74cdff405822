"""Rounds an mpmath ball into a format, or says that it cannot tell.

`oracle.scoring.decide` does the same for enclosures of floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpmath.libmp import (
    from_man_exp,
    fzero,
    mpf_abs,
    mpf_add,
    mpf_sub,
    to_float,
    to_int,
)

from precision_lab.formats import FloatFormat

# Every reported ulp error is certified to this.
CERTIFIED_ULPS = 2.0**-10


def round_ball(
    middle: Any, radius: Any, fmt: FloatFormat, *, saturating: bool = False
) -> tuple[float, float, float, float, bool]:
    """Correct rounding of every number in a ball (raw libmp numbers), where there is only one.

    Returns:
        rounded, tail, tail_error, ulp, decided.
    """
    low = mpf_sub(mpf_abs(middle), radius)
    high = mpf_add(mpf_abs(middle), radius)
    exponent, exponent_high = (max(_exponent(v), fmt.emin) for v in (low, high))
    one_binade = exponent == exponent_high
    exponent = min(exponent_high, fmt.emax)
    shift = fmt.fraction_bits - exponent
    scaled = (middle[0], middle[1], middle[2] + shift, middle[3]) if middle != fzero else fzero
    whole = to_int(scaled, "n")  # ties to even
    tail_exact = mpf_sub(scaled, from_man_exp(whole, 0))
    tail = to_float(tail_exact)
    scaled_radius = (radius[0], radius[1], radius[2] + shift, radius[3]) if radius != fzero else fzero
    error = to_float(scaled_radius, rnd="u")
    clear = error == 0 or 0.5 - abs(tail) > error * (1 + 2.0**-40) + 2.0**-60
    beyond_max = abs(whole) > fmt.max_significand and exponent == fmt.emax
    sign = -1.0 if middle[0] else 1.0
    ulp = to_float(from_man_exp(1, -shift))
    if beyond_max:
        number = float(fmt.overflow(np.array([sign * np.inf]), saturating=saturating)[0])
        return number, 0.0, 0.0, ulp, clear and (one_binade or exponent_high > fmt.emax)
    number = sign * abs(to_float(from_man_exp(whole, -shift)))
    return number, tail, error, ulp, one_binade and clear and error <= CERTIFIED_ULPS


def _exponent(value: Any) -> int:
    """floor(log2 |v|) of a raw libmp number; far below every format for zero."""
    return -(1 << 30) if value == fzero or value[0] else int(value[2] + value[3] - 1)


__all__ = ["CERTIFIED_ULPS", "round_ball"]
