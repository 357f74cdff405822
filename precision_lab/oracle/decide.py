"""An enclosure's correct rounding, tail and ulp, certified or not: what the error of a value is taken from.

A fast form of `FloatFormat.ulp` and `round`; what an error is, `scoring.errors` defines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from precision_lab.formats.ball_rounding import BESIDE_HALF
from precision_lab.numeric.certainty import CERTIFIED_ULPS, SMALLEST
from precision_lab.numeric.error_free import two_sum
from precision_lab.numeric.jit import entry
from precision_lab.oracle.format_row import (
    EMAX,
    EMIN,
    HAS_INFINITY,
    MAX_FINITE,
    MAX_SIGNIFICAND,
    PRECISION,
    SATURATING,
)


@entry
def decide(high: float, low: float, radius: float, nudge: int, fmt: Any) -> tuple[float, float, float, bool]:
    """rounded, tail and ulp of high + low ± radius in a format, and whether they are certain.

    `nudge` is the sign of an infinitesimal beyond high + low that decides ties and powers of
    two where the radius is 0.
    """
    precision, emin, emax = int(fmt[PRECISION]), int(fmt[EMIN]), int(fmt[EMAX])
    size = abs(high)
    outward = -nudge if high < 0 else nudge
    signed_low = -low if high < 0 else low
    fraction, exponent = math.frexp(size)
    if size == 0:
        exponent = emin
    else:
        exponent -= 1
        # A value just below a power of two has the smaller binade's ulp.
        if fraction == 0.5 and (signed_low < 0 or (low == 0 and outward < 0)):
            exponent -= 1
    exponent = min(max(exponent, emin), emax)
    ulp = math.ldexp(1.0, exponent - precision + 1)
    # 2^-40 covers the rounding of the sums that the radius is compared with. Where that product is
    # subnormal it may be the radius itself; sums that small are exact.
    reach = radius * (1 + 2.0**-40)
    one_binade = True
    if radius != 0:
        if exponent > emin:
            one_binade = (size - math.ldexp(1.0, exponent)) + signed_low > reach
        if exponent < emax:
            one_binade = one_binade and (math.ldexp(1.0, exponent + 1) - size) - signed_low > reach
    scaled = high / ulp  # exact: a power of two
    whole = np.rint(scaled)
    scaled_low = low / ulp
    # `scaled − whole` is exact: both are multiples of the last bit of `scaled`.
    tail, lost = two_sum(scaled - whole, scaled_low)
    error = radius / ulp
    if radius != 0:
        # The division underflows where the radius is tiny and the ulp is not; 0 would say "exact".
        error += SMALLEST
    if scaled_low * ulp != low:  # it underflowed
        error += abs(scaled_low) + SMALLEST
    side = 1.0 if tail > 0 else -1.0
    # How far inside the rounding interval; 0.5 − |tail| is exact near 0, so what is left of `lost` counts.
    margin = (0.5 - abs(tail)) - side * lost
    if margin < 0:
        whole, tail = whole + side, tail - side
    elif margin == 0:
        pushed = nudge * side
        if pushed > 0 or (pushed == 0 and whole % 2 != 0):
            whole, tail = whole + side, tail - side
    if abs(tail) == 0.5 and (margin != 0 or (nudge != 0 and whole == 0)):
        tail = math.copysign(BESIDE_HALF, tail)
    # One more step: the product of a subnormal error may be the error itself.
    clear = error == 0 or abs(margin) > error * (1 + 2.0**-40) + SMALLEST
    error += abs(lost)
    direction = high if high != 0 else (low if low != 0 else float(nudge))
    number = math.copysign(whole * ulp, direction)
    certain = one_binade and clear and error <= CERTIFIED_ULPS
    if abs(number) > fmt[MAX_FINITE]:
        if fmt[SATURATING] != 0:
            number = math.copysign(fmt[MAX_FINITE], number)
        else:
            number = math.copysign(math.inf, number) if fmt[HAS_INFINITY] != 0 else math.nan
        # Halfway from the largest number to the next: beyond it, being beyond is all that counts.
        threshold = math.ldexp(2 * fmt[MAX_SIGNIFICAND] + 1, emax - precision)
        certain = (one_binade and clear) or size * (1 - 2.0**-50) - radius > threshold
        tail = 0.0
    return number, tail, ulp, certain and math.isfinite(high) and radius == radius
