"""The second tier: enclosures high + low ± radius in double-double arithmetic, compiled.

What an addition or a product of enclosures drops is a known float and goes into the radius as it
stands. Numbers that combine exactly keep radius 0, so ties are seen as ties. Inside a
series, where nothing can be exact, the proven relative bounds of `arithmetic` are summed up
instead.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from precision_lab.numeric.certainty import SMALLEST
from precision_lab.numeric.error_free import (
    PRODUCT_SAFE,
    U,
    dd_plus_dd,
    dd_times_dd,
    dd_times_float,
    two_product,
    two_sum,
)
from precision_lab.numeric.jit import bits_to_float, compiled
from precision_lab.oracle.exponential import EXP_FLOOR, INVERSE_LN2, REDUCED

# A radius below is a sum of at most eight products and sums of nonnegative floats, each rounded once.
SLACK = 1.0 + 2.0**-49
BLOCK = 256


def parts(value: Fraction) -> tuple[float, float, float]:
    """high, low and a bound of the rest, of an exact rational number; an unknown one beyond float64."""
    try:
        high = float(value)
    except OverflowError:  # 1 + 2α for α near the largest float64: the next tier's
        return math.inf, 0.0, math.inf
    low = float(value - Fraction(high))
    rest = abs(value - Fraction(high) - Fraction(low))
    return high, low, 0.0 if not rest else float(rest) * SLACK + SMALLEST


@compiled
def ball_add(ah: float, al: float, ar: float, bh: float, bl: float, br: float) -> tuple[float, float, float]:
    """Sum; sums do not underflow, and the two terms dropped at the end are known."""
    s, e = two_sum(ah, bh)
    t, f = two_sum(al, bl)
    e, g = two_sum(e, t)
    s, e = two_sum(s, e)
    e, h = two_sum(e, f)
    s, e = two_sum(s, e)
    return s, e, (ar + br + (abs(g) + abs(h))) * SLACK


@compiled
def ball_times(
    ah: float, al: float, ar: float, bh: float, bl: float, br: float
) -> tuple[float, float, float]:
    """Product: |ab − AB| ≤ |A|·rb + rb·ra + |B|·ra, and what is dropped."""
    p, e = two_product(ah, bh)
    c, c_rest = two_product(ah, bl)
    d, d_rest = two_product(al, bh)
    c, g = two_sum(c, d)
    e, h = two_sum(e, c)
    s, e = two_sum(p, e)
    lows = al * bl
    dropped = abs(g) + abs(h) + abs(c_rest) + abs(d_rest) + abs(lows)
    # |high + low| ≤ |high|·(1 + 2^-52)
    # Grouped so that an infinite intermediate result does not meet a radius of 0.
    spread = abs(ah) * (SLACK * br) + ar * br + abs(bh) * (SLACK * ar)
    radius = (dropped + spread) * SLACK
    # Each of the products above, and each product in the radius, may lose a few subnormal steps
    # where it is small and not exactly 0; below PRODUCT_SAFE p's own low part is lost as well.
    zero_a, zero_b = ah == 0 and ar == 0, bh == 0 and br == 0
    exact = al == 0 and bl == 0 and ar == 0 and br == 0
    if not (zero_a or zero_b):
        if not exact and (abs(p) < 2.0**-700 or (abs(lows) < PRODUCT_SAFE and (al != 0 or bl != 0))):
            radius += 64 * SMALLEST
        if not exact and spread < PRODUCT_SAFE and (ar != 0 or br != 0):
            radius += 64 * SMALLEST
        if abs(p) < PRODUCT_SAFE:
            radius += abs(p) * 2.0**-50 + 4 * SMALLEST
    return s, e, radius


_TERMS_NEAR, _TERMS_FAR = 30, 24


def _series(last: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([parts(Fraction(1, math.factorial(k)))[:2] for k in range(2, last + 1)])


_NEAR, _FAR = _series(_TERMS_NEAR), _series(_TERMS_FAR)


def _horner_relative(last: int, reach: float, step: float, smallest: float, rest: float) -> float:
    """Relative error of a double-double Horner sum of 1/k! for |t| ≤ reach, the sum being ≥ smallest.

    h_k = c_k + t·h_{k+1}: the product errs by `step`·u² of itself, the sum by 3.01u² of its terms'
    sizes at most, the coefficient by u²: E_k ≤ reach·E_{k+1} + step·u²·reach·H_{k+1} + 3.01u²·H_k + u²·c_k.
    """
    u2 = U * U
    size = 1 / math.factorial(last)
    error = u2 * size
    for k in range(last - 1, 1, -1):
        c = 1 / math.factorial(k)
        error = reach * error + step * u2 * reach * size
        size = c + reach * size
        error += 3.01 * u2 * size + u2 * c
    return (error + rest) / smallest * (1 + 2.0**-40)


# −1 ≤ x ≤ 0: the series alternates, so what is left out is at most 1/31!; two products by x follow.
Q_RELATIVE_DD = (
    _horner_relative(_TERMS_NEAR, 1.0, 2.0, math.exp(-1) * (1 - 2.0**-50), 1 / math.factorial(31))
    + 4.01 * U * U
)
_Q_FAR_DD = (
    _horner_relative(_TERMS_FAR, REDUCED, 4.0, 0.5 - REDUCED / 6, 1.03 * REDUCED**23 / math.factorial(25))
    + 8.01 * U * U
)

# ln 2 to 75 decimal digits (OEIS A002162), as 32 bits, so that n times them is exact, and a double-double.
_LN2 = Fraction(693147180559945309417232121458176568075500134360255254120680009493393621969, 10**75)
_LN2_HIGH = float(Fraction(int(_LN2 * 2**32), 2**32))
_LN2_MIDDLE, _LN2_LOW, _ = parts(_LN2 - Fraction(_LN2_HIGH))


def _exp_relative() -> float:
    """Relative error of e^x below, for −700 ≤ x ≤ 0 (|n| ≤ 1010).

    r = x − n·ln2: n·_LN2_HIGH is exact and so is its difference from x, a two_sum; n·_LN2_MIDDLE errs by
    2u² of less than 2^-22; the sum by 3.01u²·0.35; the constant by 2^-138·n. That shifts e^r by a factor
    1 + δ. q and the two sums 1 + (r + q) add their own: |q| ≤ 0.068, |r + q| ≤ 0.42, e^r ≥ 0.706.
    """
    u2 = U * U
    delta = 3.01 * u2 * 0.35 + 2 * u2 * 2.0**-22 + 1010 * 2.0**-138
    return (0.068 * _Q_FAR_DD + 3.01 * u2 * 0.42 + 3.01 * u2 * 1.42) / 0.706 * 1.001 + 1.001 * delta


EXP_RELATIVE_DD = _exp_relative()


@compiled
def q_block(x: Any, n: int, high: Any, low: Any) -> None:
    """e^x − 1 − x for −1 ≤ x ≤ 0 with a relative error of at most Q_RELATIVE_DD, if |x| ≥ 2^-400."""
    for i in range(n):
        high[i], low[i] = _NEAR[-1, 0], _NEAR[-1, 1]
    for k in range(_TERMS_NEAR - 3, -1, -1):
        ch, cl = _NEAR[k, 0], _NEAR[k, 1]
        for i in range(n):
            ph, pl = dd_times_float(high[i], low[i], x[i])
            high[i], low[i] = dd_plus_dd(ch, cl, ph, pl)
    for i in range(n):
        ph, pl = dd_times_float(high[i], low[i], x[i])
        high[i], low[i] = dd_times_float(ph, pl, x[i])


@compiled
def exp_block(x: Any, n: int, high: Any, low: Any, rh: Any, rl: Any) -> None:
    """e^x for −700 ≤ x ≤ 0 with a relative error of at most EXP_RELATIVE_DD; rh, rl are scratch."""
    for i in range(n):
        point = max(x[i], EXP_FLOOR)
        k = np.rint(point * INVERSE_LN2)
        s, e = two_sum(point, -k * _LN2_HIGH)
        ph, pl = dd_times_float(_LN2_MIDDLE, _LN2_LOW, k)
        rh[i], rl[i] = dd_plus_dd(s, e, -ph, -pl)
        high[i], low[i] = _FAR[-1, 0], _FAR[-1, 1]
    for k in range(_TERMS_FAR - 3, -1, -1):
        ch, cl = _FAR[k, 0], _FAR[k, 1]
        for i in range(n):
            ph, pl = dd_times_dd(high[i], low[i], rh[i], rl[i])
            high[i], low[i] = dd_plus_dd(ch, cl, ph, pl)
    for i in range(n):
        ph, pl = dd_times_dd(high[i], low[i], rh[i], rl[i])
        ph, pl = dd_times_dd(ph, pl, rh[i], rl[i])
        ph, pl = dd_plus_dd(rh[i], rl[i], ph, pl)
        ph, pl = dd_plus_dd(1.0, 0.0, ph, pl)
        point = max(x[i], EXP_FLOOR)
        power = bits_to_float((int(np.rint(point * INVERSE_LN2)) + 1023) << 52)
        high[i], low[i] = ph * power, pl * power  # the low part may lose 2^-1074
