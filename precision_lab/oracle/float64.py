"""Tier 1: balls of float64 arrays, with a radius proven operation by operation.

Model: round-to-nearest float64, u = 2^-53, so a sum or product z = fl(x∘y) has
|z − x∘y| ≤ u·|z|, plus 2^-1075 where a product underflows (sums never do). Radii
are computed in float64 too; every radius expression here has at most seven roundings,
all of nonnegative terms, so multiplying by SLACK = 1 + 2^-49 ≥ (1+u)^8 keeps it an
upper bound. NumPy does not contract a·b+c, which `selfcheck` verifies.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

U = 2.0**-53
SLACK = 1.0 + 2.0**-49
UNDERFLOW = 2.0**-1074  # one subnormal step: twice what an underflowing product loses
PRODUCT_SAFE = 2.0**-960  # products at least this large do not underflow, nor do their radii

# ln 2 = LN2_HIGH + LN2_LOW + d. LN2_HIGH has 32 significant bits (its low 21 are zero), so
# n·LN2_HIGH is exact for |n| < 2^21.
LN2_HIGH = float.fromhex("0x1.62e42feep-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
LN2_REST = 2.0**-86  # |ln 2 − LN2_HIGH − LN2_LOW|: half an ulp of LN2_LOW, 2^-33 · 2^-53

# e^x < 2^-1009 for x < -700: below every format here but fp64, where mpmath takes over.
EXP_FLOOR = -700.0
EXP_FLOOR_BOUND = 2.0**-1009
REDUCED = 0.347  # |r| ≤ ln2/2 + rounding of the quotient

# (e^r − 1 − r)/r² = Σ_{k=2}^{14} r^(k−2)/k!  + remainder.
COEFFICIENTS = tuple(1.0 / math.factorial(k) for k in range(2, 15))


def _relative_bound_of_q() -> float:
    """Relative error of q = r²·P(r) as evaluated below, for |r| ≤ REDUCED.

    Horner: h_k = fl(c_k + fl(r·h_{k+1})). With exact partial sums H_k and errors E_k,
    E_k ≤ R·E_{k+1} + u·R·|h_{k+1}| + u·|h_k| + u·c_k (the last for the rounded coefficient).
    Then q multiplies twice by r (one rounding each), and the truncated series adds at most
    Σ_{k≥15} R^(k−2)/k! ≤ 1.03·R^13/15!. All relative to P(r) ≥ ½ − R/6.
    """
    r = REDUCED
    error, size = U * COEFFICIENTS[-1], COEFFICIENTS[-1]
    for c in COEFFICIENTS[-2::-1]:
        new_size = c + r * size
        error = r * error + U * r * size + U * new_size + U * c
        size = new_size
    smallest = 0.5 - r / 6
    truncation = 1.03 * r**13 / math.factorial(15)
    # (1+e)(1+u)^2 ≤ 1 + e + 2.01u
    return (error + truncation) / smallest + 2.01 * U


Q_RELATIVE = _relative_bound_of_q()


class Ball64:
    """Enclosures middle ± radius, arrays of one shape (or scalars that broadcast)."""

    __slots__ = ("middle", "radius")

    def __init__(self, middle: Any, radius: Any) -> None:
        self.middle, self.radius = middle, radius

    @staticmethod
    def _lift(other: Ball64 | int) -> Ball64:
        return other if isinstance(other, Ball64) else Ball64(float(other), 0.0)

    def __neg__(self) -> Ball64:
        return Ball64(-self.middle, self.radius)

    def __add__(self, other: Ball64 | int) -> Ball64:
        other = self._lift(other)
        middle = self.middle + other.middle
        radius = (self.radius + other.radius + U * np.abs(middle)) * SLACK
        # A sum does not underflow, but u·|middle| may.
        return Ball64(middle, _charge_underflow(middle, radius, middle, 1.0))

    __radd__ = __add__

    def __sub__(self, other: Ball64 | int) -> Ball64:
        return self + (-self._lift(other))

    def __rsub__(self, other: Ball64 | int) -> Ball64:
        return (-self) + other

    def __mul__(self, other: Ball64 | int) -> Ball64:
        other = self._lift(other)
        middle = self.middle * other.middle
        size, other_size = np.abs(self.middle), np.abs(other.middle)
        # |ab − AB| ≤ |A|·rb + rb·ra + |B|·ra
        radius = (size + self.radius) * other.radius + other_size * self.radius + U * np.abs(middle)
        return Ball64(
            middle, _charge_underflow(middle, radius * SLACK, size + self.radius, other_size + other.radius)
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Ball64 | int) -> Ball64:
        other = self._lift(other)
        middle = self.middle / other.middle
        smallest = (np.abs(other.middle) - other.radius) * (2 - SLACK)
        # |a/b − A/B| ≤ (ra + |A/B|·rb)/(|B| − rb); |A/B| ≤ |middle|·(1+2u). Divided before it is
        # multiplied: |A/B|·rb may underflow where |A/B|·(rb/|B|) does not.
        spread = self.radius / smallest + np.abs(middle) * SLACK * _ratio(other.radius, smallest)
        radius = np.where(smallest > 0, (spread + U * np.abs(middle)) * SLACK, np.inf)
        return Ball64(middle, _charge_underflow(middle, radius, np.abs(self.middle) + self.radius, 1.0))

    def __rtruediv__(self, other: int) -> Ball64:
        return self._lift(other) / self


def _ratio(radius: Any, smallest: Any) -> Any:
    """radius/smallest, rounded up where it underflows; 0 stays 0."""
    return radius / smallest + np.where(np.asarray(radius) > 0, UNDERFLOW, 0.0)


def _charge_underflow(middle: Any, radius: Any, a: Any, b: Any) -> Any:
    """Adds the loss of underflowing products; exact zeros lose nothing.

    a and b are the factors' |middle| + radius: a middle that underflowed to 0 is no exact zero.
    """
    small = np.abs(middle) < PRODUCT_SAFE
    if not np.any(small):
        return radius
    return np.where(small & (np.asarray(a) != 0) & (np.asarray(b) != 0), radius + 8 * UNDERFLOW, radius)


class NoFastTierError(Exception):
    """A formula needs a function that only mpmath has (erfc, atan, log1p)."""


class _OnlyInMpmath:
    def erfc(self, x: Any) -> Any:
        raise NoFastTierError("erfc")

    def atan_over_pi(self, x: Any) -> Any:
        raise NoFastTierError("atan")

    def log1p(self, x: Any) -> Any:
        raise NoFastTierError("log1p")


class Context64(_OnlyInMpmath):
    """Operations for formulas on `Ball64`; arguments of exp must not exceed 700."""

    def __init__(self) -> None:
        # pi: nearest float64 is within half an ulp, 2^-52.
        self.pi = Ball64(math.pi, 2.0**-52)

    def constant(self, value: int | Fraction | float) -> Ball64:
        middle = float(value)
        rest = abs(Fraction(value) - Fraction(middle))
        return Ball64(middle, 0.0 if not rest else float(rest) * SLACK + UNDERFLOW)

    def one(self, x: Ball64) -> Ball64:
        return Ball64(np.ones_like(x.middle), np.zeros_like(x.middle))

    def sqrt(self, x: Ball64) -> Ball64:
        middle = np.sqrt(x.middle)
        return Ball64(middle, (x.radius / middle + U * middle) * SLACK)

    def _reduce(self, x: Ball64) -> tuple[Any, Any, Any]:
        """n, r and a bound of |r − (x − n·ln 2)|, x.middle clamped to [EXP_FLOOR, 700]."""
        clamped = np.clip(x.middle, EXP_FLOOR, -EXP_FLOOR)
        n = np.rint(clamped * (1 / math.log(2)))
        t = clamped - n * LN2_HIGH  # product exact; one rounding
        low = n * LN2_LOW
        r = t - low
        error = np.where(n == 0, 0.0, U * (np.abs(t) + np.abs(low) + np.abs(r)) + np.abs(n) * LN2_REST)
        return n, r, error * SLACK

    def _q(self, r: Any) -> Any:
        """e^r − 1 − r with relative error Q_RELATIVE for this r."""
        h = np.full_like(r, COEFFICIENTS[-1])
        for c in COEFFICIENTS[-2::-1]:
            h *= r
            h += c
        return r * r * h

    def _expm1_reduced(self, x: Ball64) -> tuple[Any, Any, Any, Any]:
        """n, r, e^r − 1 and its absolute error bound, the reduction's error included."""
        n, r, reduction = self._reduce(x)
        q = self._q(r)
        m = r + q
        # d(e^r − 1)/dr = e^r ≤ 1.42 on the reduced range.
        error = (U * np.abs(m) + Q_RELATIVE * np.abs(q) + 1.42 * reduction) * SLACK
        return n, r, m, _charge_underflow(q, error, np.abs(r), 1.0)

    def _below_floor(self, x: Ball64, ball: Ball64, limit: float) -> Ball64:
        """Where x < EXP_FLOOR, e^x is only known to lie in [0, 2^-1009]; its part is `limit`."""
        outside = x.middle < EXP_FLOOR
        if not np.any(outside):
            return ball
        # A ball that reaches back over the floor is given up.
        known = np.where(x.middle + 2 * np.asarray(x.radius) < EXP_FLOOR, EXP_FLOOR_BOUND, np.inf)
        return Ball64(np.where(outside, limit, ball.middle), np.where(outside, known, ball.radius))

    @staticmethod
    def _propagate(exp: Any, radius: Any, x: Ball64) -> Any:
        """Adds e^x·(e^rx − 1) ≤ 1.72·e^x·rx for rx ≤ 1; wider arguments are given up.

        `exp` is e^x to a relative 2^-40, which the factor 2 instead of 1.72 covers.
        """
        if not np.any(x.radius):
            return radius
        return np.where(np.asarray(x.radius) <= 1.0, (radius + 2 * exp * x.radius) * SLACK, np.inf)

    def exp(self, x: Ball64) -> Ball64:
        n, _, m, error = self._expm1_reduced(x)
        power = np.ldexp(1.0, n.astype(np.int32))  # normal: n ≥ -1010
        scaled = 1.0 + m
        middle = power * scaled  # exact scaling
        radius = power * (error + U * scaled) * SLACK
        radius = np.where(n < -900, radius + 4 * UNDERFLOW, radius)  # the radius itself underflows
        middle, radius = self._where_high(x, middle, radius)
        return self._below_floor(x, Ball64(middle, self._propagate(middle, radius, x)), 0.0)

    @staticmethod
    def _where_high(x: Ball64, middle: Any, radius: Any) -> tuple[Any, Any]:
        """Arguments above 700 were clamped: their results are not known."""
        high = x.middle > -EXP_FLOOR
        return (middle, np.where(high, np.inf, radius)) if np.any(high) else (middle, radius)

    def expm1(self, x: Ball64) -> Ball64:
        """e^x − 1: as 2^n·(e^r − 1) + (2^n − 1), so that small x keep their digits."""
        n, _, m, error = self._expm1_reduced(x)
        power = np.ldexp(1.0, n.astype(np.int32))
        less = power - 1.0
        product = power * m  # exact scaling
        middle = less + product
        radius = (power * error + U * np.abs(middle) + np.where(n == 0, 0.0, U * np.abs(less))) * SLACK
        middle, radius = self._where_high(x, middle, radius)
        return self._below_floor(x, Ball64(middle, self._propagate(power * (1.0 + m), radius, x)), -1.0)

    def expm1_minus_x(self, x: Ball64) -> Ball64:
        """e^x − 1 − x of exact x: q(x) itself where n = 0, the difference elsewhere (|x| ≥ ln2/2)."""
        m = self.expm1(x)
        middle = m.middle - x.middle
        radius = (m.radius + U * np.abs(middle)) * SLACK
        near = np.abs(x.middle) <= REDUCED
        q = self._q(np.where(near, x.middle, 0.0))
        q_radius = _charge_underflow(q, Q_RELATIVE * SLACK * np.abs(q), np.abs(x.middle), 1.0)
        return Ball64(np.where(near, q, middle), np.where(near, q_radius, radius))

    def sigmoid(self, x: Ball64) -> Ball64:
        """1/(1+e^−x) through e^−|x|, which neither overflows nor cancels."""
        t = self.exp(Ball64(-np.abs(x.middle), x.radius))
        ratio = Ball64(
            np.where(np.asarray(x.middle) < 0, t.middle, 1.0),
            np.where(np.asarray(x.middle) < 0, t.radius, 0.0),
        ) / (1 + t)
        # Numerator and denominator move together, which only makes the true spread smaller.
        return ratio
