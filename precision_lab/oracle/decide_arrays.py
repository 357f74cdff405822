"""`decide` for arrays, with numpy alone: a certified rounding of high + low ± radius.

Or the word that there is none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat
from precision_lab.formats.ball_rounding import BESIDE_HALF
from precision_lab.numeric.certainty import CERTIFIED_ULPS, SMALLEST

Float64 = NDArray[np.float64]


class Decided(NamedTuple):
    """Arrays of shape (n,); `rounded`, `tail` and `ulp` as `Reference` has them, where `certain`."""

    rounded: Float64
    tail: Float64
    ulp: Float64
    certain: NDArray[np.bool_]


def decide_arrays(
    high: Float64, low: Float64, radius: Float64, nudge: NDArray[np.int64], fmt: FloatFormat,
    *, saturating: bool = False,
) -> Decided:  # fmt: skip
    """Step by step what `decide` does for one value, with the same bounds.

    Args:
        nudge: the sign of an infinitesimal beyond high + low, which counts where the radius is 0.
    """
    with np.errstate(all="ignore"):
        size = np.abs(high)
        outward = np.where(high < 0, -nudge, nudge)
        signed_low = np.where(high < 0, -low, low)
        fraction, exponent = np.frexp(size)
        exponent = exponent.astype(np.int64) - 1
        exponent -= (fraction == 0.5) & ((signed_low < 0) | ((low == 0) & (outward < 0)))
        exponent = np.clip(np.where(size == 0, fmt.emin, exponent), fmt.emin, fmt.emax)
        ulp = np.ldexp(1.0, exponent - fmt.precision + 1)
        reach = radius * (1 + 2.0**-40)
        wide = radius != 0
        one_binade = ~wide | (
            ((exponent == fmt.emin) | ((size - np.ldexp(1.0, exponent)) + signed_low > reach))
            & ((exponent == fmt.emax) | ((np.ldexp(1.0, exponent + 1) - size) - signed_low > reach))
        )
        scaled = high / ulp
        whole = np.rint(scaled)
        scaled_low = low / ulp
        tail, lost = two_sum(scaled - whole, scaled_low)
        error = radius / ulp + np.where(wide, SMALLEST, 0.0)
        error += np.where(scaled_low * ulp != low, np.abs(scaled_low) + SMALLEST, 0.0)
        side = np.where(tail > 0, 1.0, -1.0)
        margin = (0.5 - np.abs(tail)) - side * lost
        pushed = nudge * side
        over = (margin < 0) | ((margin == 0) & ((pushed > 0) | ((pushed == 0) & (whole % 2 != 0))))
        whole, tail = np.where(over, whole + side, whole), np.where(over, tail - side, tail)
        beside = (np.abs(tail) == 0.5) & ((margin != 0) | ((nudge != 0) & (whole == 0)))
        tail = np.where(beside, np.copysign(BESIDE_HALF, tail), tail)
        clear = (error == 0) | (np.abs(margin) > error * (1 + 2.0**-40) + SMALLEST)
        error += np.abs(lost)
        direction = np.where(high != 0, high, np.where(low != 0, low, nudge.astype(np.float64)))
        number = np.copysign(whole * ulp, direction)
        certain = one_binade & clear & (error <= CERTIFIED_ULPS)
        beyond = np.abs(number) > fmt.max_finite
        threshold = np.ldexp(2.0 * fmt.max_significand + 1, fmt.emax - fmt.precision)
        certain = np.where(
            beyond, (one_binade & clear) | (size * (1 - 2.0**-50) - radius > threshold), certain
        )
        if beyond.any():
            number[beyond] = fmt.overflow(np.copysign(np.inf, number[beyond]), saturating=saturating)
        tail = np.where(beyond, 0.0, tail)
        certain &= np.isfinite(high) & (radius == radius)
    return Decided(number, tail, ulp, certain)


def two_sum(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """fl(a + b) and what it loses (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
