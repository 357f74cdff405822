"""Tier 2: balls of double-double arrays, about 2^-100 of the terms that enter a sum.

A number is high + low, an unevaluated sum of two float64. `two_sum` and `two_product`
are exact transformations (Knuth; Dekker), so whatever an operation drops is a known
float: it is added to the radius as it stands. Operations on numbers that happen to
combine exactly therefore have radius 0, and ties are seen as ties.

Sources: Knuth, TAOCP vol. 2, 4.2.2; Dekker, Numer. Math. 18 (1971); Joldes, Muller,
Popescu, "Tight and rigorous error bounds for basic building blocks of double-word
arithmetic", ACM TOMS 44 (2017), for the algorithms' shapes.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from precision_lab.oracle.float64 import (
    EXP_FLOOR,
    EXP_FLOOR_BOUND,
    PRODUCT_SAFE,
    SLACK,
    UNDERFLOW,
    _OnlyInMpmath,
    _ratio,
)

SPLITTER = 134217729.0  # 2^27 + 1
SPLIT_SAFE = 2.0**990
CROSS_SAFE = 2.0**-850
TERMS = 27  # last Taylor term of e^r; what is cut off is bounded in `_q`


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """s = fl(a+b) and e with s + e = a + b exactly, whatever the order of magnitude."""
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


def _split(a: Any) -> tuple[Any, Any]:
    # Near the largest numbers the splitter's product would overflow: split a/2^32 there, exactly.
    scale = np.where(np.abs(a) > SPLIT_SAFE, 2.0**32, 1.0)
    part = a / scale
    c = SPLITTER * part
    high = (c - (c - part)) * scale
    return high, a - high


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """p = fl(a·b) and e with p + e = a·b exactly, if |p| ≥ 2^-960 or 0 and p does not overflow."""
    p = a * b
    ah, al = _split(a)
    bh, bl = _split(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


class BallDD:
    """Enclosures high + low ± radius; arrays of one shape, or scalars that broadcast."""

    __slots__ = ("high", "low", "radius")

    def __init__(self, high: Any, low: Any, radius: Any) -> None:
        self.high, self.low, self.radius = high, low, radius

    @staticmethod
    def _lift(other: BallDD | int) -> BallDD:
        return other if isinstance(other, BallDD) else BallDD(float(other), 0.0, 0.0)

    def __neg__(self) -> BallDD:
        return BallDD(-self.high, -self.low, self.radius)

    def __add__(self, other: BallDD | int) -> BallDD:
        other = self._lift(other)
        s, e = two_sum(self.high, other.high)
        t, f = two_sum(self.low, other.low)
        e, g = two_sum(e, t)
        s, e = two_sum(s, e)
        e, h = two_sum(e, f)
        s, e = two_sum(s, e)
        dropped = np.abs(g) + np.abs(h)
        return BallDD(s, e, (self.radius + other.radius + dropped) * SLACK)

    __radd__ = __add__

    def __sub__(self, other: BallDD | int) -> BallDD:
        return self + (-self._lift(other))

    def __rsub__(self, other: BallDD | int) -> BallDD:
        return (-self) + other

    def __mul__(self, other: BallDD | int) -> BallDD:
        other = self._lift(other)
        p, e = two_product(self.high, other.high)
        c0, c_rest = two_product(self.high, other.low)
        d0, d_rest = two_product(self.low, other.high)
        c, g = two_sum(c0, d0)
        e, h = two_sum(e, c)
        s, e = two_sum(p, e)
        lows = np.abs(self.low) * np.abs(other.low)
        dropped = np.abs(g) + np.abs(h) + np.abs(c_rest) + np.abs(d_rest) + lows
        size = np.abs(self.high) * SLACK  # |high + low| ≤ |high|·(1+2^-52)
        other_size = np.abs(other.high) * SLACK
        spread = (size + self.radius) * other.radius + other_size * self.radius
        radius = (dropped + spread) * SLACK
        # A sparse low part (1 + 2^-600, say) makes products underflow far below a large p, and so do
        # small radii: each loses a few subnormal steps.
        lost = (
            ((np.abs(c0) < PRODUCT_SAFE) & (self.high != 0) & (other.low != 0))
            | ((np.abs(d0) < PRODUCT_SAFE) & (self.low != 0) & (other.high != 0))
            | ((lows < PRODUCT_SAFE) & (self.low != 0) & (other.low != 0))
            | ((spread < PRODUCT_SAFE) & ((self.radius != 0) | (other.radius != 0)))
        )
        radius = np.where(lost, radius + 64 * UNDERFLOW, radius)
        mine, others = np.abs(self.high) + self.radius, np.abs(other.high) + other.radius
        return BallDD(s, e, _charge_underflow(p, radius, mine, others))

    __rmul__ = __mul__

    def __truediv__(self, other: BallDD | int) -> BallDD:
        """Two Newton-like quotient digits; the remainder is computed and charged."""
        other = self._lift(other)
        exact_other = BallDD(other.high, other.low, 0.0)
        q1 = self.high / other.high
        rest = BallDD(self.high, self.low, 0.0) - exact_other * BallDD(q1, 0.0, 0.0)
        q2 = rest.high / other.high
        rest = rest - exact_other * BallDD(q2, 0.0, 0.0)
        high, low = two_sum(q1, q2)
        smallest = np.abs(other.high) * (2 - SLACK) - other.radius
        # a/b − q = rest/b, and the balls add (ra + |q|·rb)/(|B| − rb).
        spread = (np.abs(rest.high) * SLACK + rest.radius + self.radius) / smallest
        spread = spread + np.abs(high) * SLACK * _ratio(other.radius, smallest)
        radius = np.where(smallest > 0, spread * SLACK, np.inf)
        return BallDD(high, low, _charge_underflow(high, radius, np.abs(self.high) + self.radius, 1.0))

    def __rtruediv__(self, other: int) -> BallDD:
        return self._lift(other) / self


def _charge_underflow(p: Any, radius: Any, a: Any, b: Any) -> Any:
    """Charges what small products lose; exact zeros, |high| + radius = 0, lose nothing."""
    size = np.abs(p)
    if not np.any(size < CROSS_SAFE):
        return radius
    nonzero = (np.asarray(a) != 0) & (np.asarray(b) != 0)
    # Cross products high·low reach 2^-159 below p; from p < 2^-850 on their last bits, and
    # those of their remainders, fall below 2^-1074: a few subnormal steps in all.
    charged = np.where(nonzero & (size < CROSS_SAFE), radius + 64 * UNDERFLOW, radius)
    # And p itself is no longer split exactly.
    return np.where(nonzero & (size < PRODUCT_SAFE), charged + size * 2.0**-50, charged)


def from_fraction(value: Fraction) -> tuple[float, float, float]:
    """high, low and a radius bounding the rest, of an exact rational number."""
    high = float(value)
    low = float(value - Fraction(high))
    rest = abs(value - Fraction(high) - Fraction(low))
    return high, low, 0.0 if not rest else float(rest) * SLACK + UNDERFLOW


def _series() -> tuple[tuple[float, float, float], ...]:
    return tuple(from_fraction(Fraction(1, math.factorial(k))) for k in range(2, TERMS + 1))


_COEFFICIENTS = _series()

# ln 2 to 40 digits beyond the double: Fraction of its first 75 decimal digits (OEIS A002162).
_LN2 = Fraction(693147180559945309417232121458176568075500134360255254120680009493393621969, 10**75)
LN2 = from_fraction(_LN2)
LN2_RADIUS = LN2[2] + 2.0**-248  # the digits' own truncation

_PI = Fraction(314159265358979323846264338327950288419716939937510582097494459230781640629, 10**74)


class ContextDD(_OnlyInMpmath):
    """Operations for formulas on `BallDD`; arguments of exp must not exceed 700."""

    def __init__(self) -> None:
        high, low, rest = from_fraction(_PI)
        self.pi = BallDD(high, low, rest + 2.0**-244)

    def constant(self, value: int | Fraction | float) -> BallDD:
        return BallDD(*from_fraction(Fraction(value)))

    def one(self, x: BallDD) -> BallDD:
        zero = np.zeros_like(x.high)
        return BallDD(np.ones_like(x.high), zero, zero)

    def sqrt(self, x: BallDD) -> BallDD:
        """One correction of the float64 root; the remainder of the square is charged."""
        root = BallDD(np.sqrt(x.high), 0.0, 0.0)
        rest = BallDD(x.high, x.low, 0.0) - root * root
        high, low = two_sum(root.high, rest.high / (2 * root.high))
        result = BallDD(high, low, 0.0)
        rest = BallDD(x.high, x.low, x.radius) - result * result
        return BallDD(high, low, (np.abs(rest.high) * SLACK + rest.radius) / np.abs(high) * SLACK)

    def _reduced(self, x: BallDD) -> tuple[Any, BallDD]:
        """n and r = x − n·ln2 as a ball, x clamped to [EXP_FLOOR, 700]."""
        outside = (x.high < EXP_FLOOR) | (x.high > -EXP_FLOOR)
        high = np.where(outside, 0.0, x.high)
        n = np.rint(high / math.log(2))  # |r| ≤ 0.347 even with the quotient's rounding
        step = BallDD(n, 0.0, 0.0) * BallDD(LN2[0], LN2[1], 0.0)
        # A wide argument would leave the range for which the series' remainder is bounded.
        given = np.where(np.asarray(x.radius) > 2.0**-12, np.inf, x.radius)
        radius = np.where(outside, 0.0, given) + np.abs(n) * LN2_RADIUS
        r = BallDD(high, np.where(outside, 0.0, x.low), radius) - step
        return n, r

    def _q(self, r: BallDD) -> BallDD:
        """e^r − 1 − r for |r| ≤ 0.347 as Σ_{k=2}^{27} r^k/k!.

        The remainder is at most 1.02·r^28/28!, and q ≥ 0.44·r², so it is below
        1.02·0.347^26/(28!·0.44) < 2^-136 of q.
        """
        h = BallDD(*_COEFFICIENTS[-1])
        for c in _COEFFICIENTS[-2::-1]:
            h = h * r + BallDD(*c)
        q = r * r * h
        return BallDD(q.high, q.low, q.radius + np.abs(q.high) * 2.0**-135)

    def _outside(self, x: BallDD, ball: BallDD, limit: float) -> BallDD:
        under, over = x.high < EXP_FLOOR, x.high > -EXP_FLOOR
        if not (np.any(under) or np.any(over)):
            return ball
        known = np.where(x.high + 2 * np.asarray(x.radius) < EXP_FLOOR, EXP_FLOOR_BOUND, np.inf)
        return BallDD(
            np.where(under, limit, ball.high),
            np.where(under, 0.0, ball.low),
            np.where(under, known, np.where(over, np.inf, ball.radius)),
        )

    @staticmethod
    def _scaled(ball: BallDD, n: Any) -> BallDD:
        """2^n·ball; n ≥ -1010, so only the low part and the radius can lose bits below 2^-1074."""
        power = np.ldexp(1.0, n.astype(np.int32))
        radius = np.where(n < -900, ball.radius * power + 2 * UNDERFLOW, ball.radius * power)
        return BallDD(ball.high * power, ball.low * power, radius)

    def exp(self, x: BallDD) -> BallDD:
        n, r = self._reduced(x)
        return self._outside(x, self._scaled(self._q(r) + r + 1, n), 0.0)

    def expm1(self, x: BallDD) -> BallDD:
        n, r = self._reduced(x)
        power = np.ldexp(1.0, n.astype(np.int32))
        less = BallDD(*two_sum(power, -1.0), 0.0)
        return self._outside(x, self._scaled(self._q(r) + r, n) + less, -1.0)

    def expm1_minus_x(self, x: BallDD) -> BallDD:
        far = self.expm1(x) - x
        near = np.abs(x.high) <= 0.347
        zero = np.where(near, x.high, 0.0)
        q = self._q(BallDD(zero, np.where(near, x.low, 0.0), np.where(near, x.radius, 0.0)))
        return BallDD(
            np.where(near, q.high, far.high),
            np.where(near, q.low, far.low),
            np.where(near, q.radius, far.radius),
        )

    def sigmoid(self, x: BallDD) -> BallDD:
        negative = np.asarray(x.high) < 0
        sign = np.where(negative, 1.0, -1.0)
        t = self.exp(BallDD(x.high * sign, x.low * sign, x.radius))
        numerator = BallDD(
            np.where(negative, t.high, 1.0), np.where(negative, t.low, 0.0), np.where(negative, t.radius, 0.0)
        )
        return numerator / (1 + t)
