"""a·x + b with rational numbers, for many x at once: exact where the quotient is a float64 number.

With a and b over one denominator the value is (p·x + r)/d. The product is taken where it is a float64
number (Dekker's second part is 0); s + t = p·x + r exactly (Knuth's sum). For the quotient q of s by d,
rounded once, s − q·d is a float64 number and found without an error: s − m is exact for the first part m of
q·d, which is within a rounding of s, and the difference from its second part is the number itself. What is
left beside q, (s − q·d + t)/d, is rounded twice: it is known to 2^-51 of itself, and it is 0 only where q is
the value. So ties, which have fewer digits than float64, are seen as such.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from precision_lab.numeric.certainty import SMALLEST
from precision_lab.oracle.blocks import product
from precision_lab.oracle.decide_arrays import two_sum

Float64 = NDArray[np.float64]

_FEWEST_DIGITS, _MOST_DIGITS = 2.0**-800, 2.0**800  # sizes between which nothing here under- or overflows


def affine(a: Fraction, b: Fraction, x: Float64) -> tuple[Float64, Float64, Float64]:
    """a·x + b as high + low ± radius; the radius is infinite where this is not the way to find it."""
    d = math.lcm(a.denominator, b.denominator)
    numbers = [int(a * d), int(b * d), d]
    nothing = np.zeros(x.size), np.zeros(x.size), np.full(x.size, np.inf)
    if max(abs(n) for n in numbers) > _MOST_DIGITS or any(int(float(n)) != n for n in numbers):
        return nothing
    p, r, divisor = (float(n) for n in numbers)
    with np.errstate(all="ignore"):
        first, second = product(p, x)
        s, t = two_sum(first, np.full(x.size, r))
        size, whole = np.abs(s), np.abs(first)
        usable = (second == 0) & (size < _MOST_DIGITS) & ((size > _FEWEST_DIGITS) | (s == 0))
        usable &= (whole > _FEWEST_DIGITS) | (p == 0)
        usable &= (size > divisor * _FEWEST_DIGITS) | (s == 0)
        q = s / divisor
        m, e = product(divisor, q)
        left = ((s - m) - e) + t
        low = left / divisor
        radius = np.where(left == 0, 0.0, np.abs(low) * 2.0**-51 + SMALLEST)
    return q, np.where(usable, low, 0.0), np.where(usable, radius, np.inf)


__all__ = ["affine"]
