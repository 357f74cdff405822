"""Rounds an mpmath ball into a format, or says that it cannot tell.

`oracle.decide` does the same for enclosures of floats.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mpmath.libmp import (
    fhalf,
    from_man_exp,
    fzero,
    mpf_abs,
    mpf_eq,
    mpf_gt,
    mpf_lt,
    mpf_neg,
    mpf_shift,
    mpf_sub,
    to_float,
    to_int,
)

from precision_lab.formats import FloatFormat
from precision_lab.numeric.certainty import CERTIFIED_ULPS, SMALLEST

# The tail of what lies below half the smallest number, nearer to it than float64 tells: 1/2 would say that
# its sign matters. Beside any other tie a tail may read 1/2, and `rounded` says on which side it is.
BESIDE_HALF = 0.5 - 2.0**-54


def float_above(value: Any) -> float:
    """The smallest float64 number that is not below a nonnegative raw libmp number.

    `to_float(value, rnd="u")` is not that: it rounds down, and to 0, what is below float64's normal range.
    """
    if value == fzero:
        return 0.0
    if value[2] + value[3] > -1022:  # at least 2^-1022, where float64 has all of its 53 bits
        return float(to_float(value, rnd="u"))
    return math.ldexp(int(to_int(mpf_shift(value, 1074), "u")), -1074)


def float_near(value: Any) -> float:
    """A raw libmp number to float64's precision; ±2^-1074, never 0, where it is too small for that."""
    number = float(to_float(value))
    return number if number or value == fzero else -SMALLEST if value[0] else SMALLEST


def round_ball(
    middle: Any, radius: Any, fmt: FloatFormat, *, side: int = 0, saturating: bool = False
) -> tuple[float, float, float, float, bool]:
    """Correct rounding of every number in a ball (raw libmp numbers), where there is only one.

    Distances from the middle to the next ties and to the ends of its binade are compared with the radius
    as mpmath numbers, which do not underflow: next to a tie nothing is too small to matter.

    Args:
        side: where not 0, the numbers meant are those of the ball strictly above (1) or below (-1) its
            middle, however near to it.

    Returns:
        rounded, tail, tail_error, ulp, decided.
    """
    negative = bool(middle[0]) or (middle == fzero and side < 0)
    size, outward = mpf_abs(middle), -side if negative else side
    exponent, above_bottom, below_end = _binade(size, outward, radius, fmt)
    shift = fmt.fraction_bits - exponent
    scaled, reach = mpf_shift(size, shift), mpf_shift(radius, shift)
    whole = int(to_int(scaled, "n"))  # ties to even
    tail = mpf_sub(scaled, from_man_exp(whole, 0))
    tie = mpf_eq(mpf_abs(tail), fhalf)
    if tie and outward:  # not quite a tie: it rounds to the side of the numbers meant
        whole, tail = int(to_int(scaled, "u" if outward > 0 else "d")), fhalf
        if outward > 0:
            tail = mpf_sub(fzero, fhalf)
    inside = radius == fzero or (
        (outward < 0 or mpf_lt(reach, _gap(fhalf, tail)))
        and (outward > 0 or mpf_lt(reach, _gap(fhalf, mpf_neg(tail))))
    )
    certain = above_bottom and below_end and inside
    sign = -1.0 if negative else 1.0
    ulp = float(to_float(from_man_exp(1, -shift)))
    if whole > fmt.max_significand and exponent == fmt.emax:
        # Beyond halfway from the largest number to the next, being beyond is all that counts.
        threshold = from_man_exp(2 * fmt.max_significand + 1, -1)
        beyond = outward > 0 or (mpf_gt(scaled, threshold) and mpf_lt(reach, _gap(scaled, threshold)))
        number = float(fmt.overflow(np.array([sign * np.inf]), saturating=saturating)[0])
        return number, 0.0, 0.0, ulp, certain or beyond
    error = float_above(reach)
    tail_near = float_near(tail)
    if whole == 0 and abs(tail_near) == 0.5 and not (tie and outward == 0):
        tail_near = math.copysign(BESIDE_HALF, tail_near)
    number = sign * float(to_float(from_man_exp(whole, -shift)))
    return number, sign * tail_near, error, ulp, certain and error <= CERTIFIED_ULPS


def _gap(a: Any, b: Any) -> Any:
    """a − b ≥ 0, rounded towards 0: exactly, 1/2 − e^-1e10 would need 10^10 bits."""
    return mpf_sub(a, b, 64, "d")


def _binade(size: Any, outward: int, radius: Any, fmt: FloatFormat) -> tuple[int, bool, bool]:
    """Exponent of the ulp of size ± radius, and whether all of it is at or above 2^e and below 2^(e+1).

    There is nothing below emin's binade to fall into, and none above emax's.
    """
    if size == fzero:
        exponent = fmt.emin
    else:
        exponent = int(size[2] + size[3] - 1)
        if outward < 0 and size[1] == 1:  # strictly below a power of two
            exponent -= 1
        exponent = min(max(exponent, fmt.emin), fmt.emax)
    above_bottom = below_end = True
    if exponent > fmt.emin and outward <= 0:
        above_bottom = not mpf_gt(radius, _gap(size, from_man_exp(1, exponent)))
    if exponent < fmt.emax and outward >= 0:
        below_end = mpf_lt(radius, _gap(from_man_exp(1, exponent + 1), size))
    return exponent, above_bottom, below_end


__all__ = ["BESIDE_HALF", "float_above", "float_near", "round_ball"]
