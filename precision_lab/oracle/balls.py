"""Balls of mpmath numbers: arbitrary precision with a bound that is carried along.

A ball (middle, radius) contains the exact value. Every operation adds to the radius
what its own rounding can have lost: arithmetic at precision P is correctly rounded,
so at most 2^-P of the result; mpmath's elementary functions claim an ulp or so, and
are charged 2^(3-P) (eight times that; the claim is attacked with Arb in the tests).
Radii are kept to 30 bits, every operation on them rounded away from zero.

Numbers are raw libmp tuples (sign, man, exp, bitcount), several times faster than
`mpf` objects and without any ambient precision.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from mpmath.libmp import (
    fone,
    from_float,
    from_int,
    from_man_exp,
    from_rational,
    fzero,
    mpf_abs,
    mpf_add,
    mpf_atan,
    mpf_div,
    mpf_erfc,
    mpf_exp,
    mpf_ge,
    mpf_le,
    mpf_log,
    mpf_lt,
    mpf_mul,
    mpf_neg,
    mpf_pi,
    mpf_shift,
    mpf_sqrt,
    mpf_sub,
)

RADIUS_BITS = 30


def _up_add(a: Any, b: Any) -> Any:
    return mpf_add(a, b, RADIUS_BITS, "u")


def _up_mul(a: Any, b: Any) -> Any:
    return mpf_mul(a, b, RADIUS_BITS, "u")


class Ball:
    """An enclosure [middle − radius, middle + radius] at the precision of its context."""

    __slots__ = ("context", "middle", "radius")

    def __init__(self, middle: Any, radius: Any, context: MpContext) -> None:
        self.middle, self.radius, self.context = middle, radius, context

    def _lift(self, other: Ball | int) -> Ball:
        return other if isinstance(other, Ball) else self.context.constant(other)

    def __neg__(self) -> Ball:
        return Ball(mpf_neg(self.middle), self.radius, self.context)

    def __add__(self, other: Ball | int) -> Ball:
        other = self._lift(other)
        m = self.context
        if self.radius == fzero and other.radius == fzero:
            # Exact numbers stay exact, so that ties and zeros of polynomials are seen as such;
            # they come from floats and dyadic constants, so a few thousand bits hold them.
            return Ball(mpf_add(self.middle, other.middle), fzero, m)
        middle = mpf_add(self.middle, other.middle, m.precision, "n")
        return Ball(middle, _up_add(m.rounding(middle), _up_add(self.radius, other.radius)), m)

    __radd__ = __add__

    def __sub__(self, other: Ball | int) -> Ball:
        return self + (-self._lift(other))

    def __rsub__(self, other: Ball | int) -> Ball:
        return (-self) + other

    def __mul__(self, other: Ball | int) -> Ball:
        other = self._lift(other)
        m = self.context
        if self.radius == fzero and other.radius == fzero:
            return Ball(mpf_mul(self.middle, other.middle), fzero, m)
        middle = mpf_mul(self.middle, other.middle, m.precision, "n")
        # |ab − AB| ≤ |A|·rb + |B|·ra + ra·rb
        radius = m.rounding(middle)
        if other.radius != fzero:
            radius = _up_add(radius, _up_mul(_up_add(mpf_abs(self.middle), self.radius), other.radius))
        if self.radius != fzero:
            radius = _up_add(radius, _up_mul(mpf_abs(other.middle), self.radius))
        return Ball(middle, radius, m)

    __rmul__ = __mul__

    def __truediv__(self, other: Ball | int) -> Ball:
        other = self._lift(other)
        m = self.context
        if self.radius == fzero and other.radius == fzero and other.middle[1] == 1:
            # A power of two divides exactly; sigma(0) and Phi(0) are 1/2, not nearly.
            return Ball(mpf_div(self.middle, other.middle, max(1, self.middle[3]), "n"), fzero, m)
        smallest = mpf_sub(mpf_abs(other.middle), other.radius, RADIUS_BITS, "d")
        if mpf_le(smallest, fzero):
            raise ZeroDivisionError("division by a ball that contains 0; raise the precision")
        if self.middle == fzero and self.radius == fzero:
            return self
        middle = mpf_div(self.middle, other.middle, m.precision, "n")
        # |a/b − A/B| ≤ (ra + |A/B|·rb) / (|B| − rb)
        spread = _up_add(self.radius, _up_mul(_up_add(mpf_abs(middle), m.rounding(middle)), other.radius))
        return Ball(middle, _up_add(m.rounding(middle), mpf_div(spread, smallest, RADIUS_BITS, "u")), m)

    def __rtruediv__(self, other: int) -> Ball:
        return self._lift(other) / self

    def reach(self) -> Any:
        """A bound of |v| for every number v in the ball."""
        return _up_add(mpf_abs(self.middle), self.radius)

    def sign(self) -> int:
        """Of every number in the ball; 0 where they have none in common."""
        if not mpf_lt(self.radius, mpf_abs(self.middle)):
            return 0
        return -1 if self.middle[0] else 1

    def is_certain(self, bits: int) -> bool:
        """Whether the radius is at most 2^-bits of every number in the ball (or both are 0)."""
        if self.radius == fzero:
            return True
        smallest = mpf_sub(mpf_abs(self.middle), self.radius, RADIUS_BITS, "d")
        return bool(mpf_le(mpf_shift(self.radius, bits), smallest))


class MpContext:
    """Supplies the operations that formulas in `functions/basis.py` are written with."""

    def __init__(self, precision: int) -> None:
        self.precision = precision
        self._function_error = mpf_shift(fone, 3 - precision)
        self._rounding_error = mpf_shift(fone, -precision)
        middle = mpf_pi(precision, "n")
        self.pi = Ball(middle, self.rounding(middle), self)

    def rounding(self, middle: Any) -> Any:
        """What rounding to nearest at this precision can have lost: |middle|·2^-P is one ulp or more."""
        return _up_mul(mpf_abs(middle), self._rounding_error)

    def constant(self, value: int | Fraction | float) -> Ball:
        if isinstance(value, float):
            return Ball(from_float(value), fzero, self)
        if isinstance(value, int):
            return Ball(from_int(value), fzero, self)
        denominator = value.denominator
        if denominator & (denominator - 1) == 0:  # dyadic: exact
            return Ball(from_man_exp(value.numerator, 1 - denominator.bit_length()), fzero, self)
        middle = from_rational(value.numerator, denominator, self.precision, "n")
        return Ball(middle, self.rounding(middle), self)

    def _charged(self, middle: Any, propagated: Any) -> Ball:
        """A library function's result: its own error plus the propagated radius."""
        return Ball(middle, _up_add(_up_mul(mpf_abs(middle), self._function_error), propagated), self)

    def exp(self, x: Ball) -> Ball:
        if x.middle == fzero and x.radius == fzero:
            return self.constant(1)  # exact, so that e^0 − 1 is a certain zero
        middle = mpf_exp(x.middle, self.precision, "n")
        if x.radius == fzero:
            return self._charged(middle, fzero)
        # |e^(x+d) − e^x| ≤ e^x·(e^r − 1) ≤ e^x·2r for r ≤ 1; the middle's own error is
        # covered by a further factor 2.
        if mpf_lt(fone, x.radius):
            raise ZeroDivisionError("exp of a ball wider than 1; raise the precision")
        return self._charged(middle, mpf_shift(_up_mul(mpf_abs(middle), x.radius), 2))

    def log1p(self, x: Ball) -> Ball:
        """log(1+x) for x > 0; a series for small x, where 1 + x would forget x."""
        # At most some 34 terms; above the threshold 1 + x forgets a 32nd of the digits, no more.
        if mpf_lt(x.middle, from_man_exp(1, -max(16, self.precision // 32))):
            # Alternating with falling terms: the remainder is at most the first term left out.
            total, power, k = x, x, 1
            while k < 64:
                k += 1
                power = power * x
                term = power / k
                if mpf_le(mpf_abs(term.middle), mpf_shift(mpf_abs(total.middle), -self.precision - 2)):
                    return Ball(
                        total.middle, _up_add(total.radius, _up_add(mpf_abs(term.middle), term.radius)), self
                    )
                total = total - term if k % 2 == 0 else total + term
            raise ZeroDivisionError("log1p series too long; raise the precision")
        shifted = x + 1
        # |log'| ≤ 1/(1 + x − r).
        smallest = mpf_sub(shifted.middle, shifted.radius, RADIUS_BITS, "d")
        if mpf_le(smallest, fzero):
            raise ZeroDivisionError("log of a ball that contains 0; raise the precision")
        slope = mpf_div(shifted.radius, smallest, RADIUS_BITS, "u")
        return self._charged(mpf_log(shifted.middle, self.precision, "n"), slope)

    def softplus(self, x: Ball) -> Ball:
        if x.middle[0]:  # x < 0
            return self.log1p(self.exp(x))
        return x + self.log1p(self.exp(-x))

    def sigmoid(self, x: Ball) -> Ball:
        if x.middle[0]:  # x < 0: e^x/(1+e^x), so that nothing overflows
            t = self.exp(x)
            return t / (1 + t)
        return 1 / (1 + self.exp(-x))

    def atan_over_pi(self, x: Ball) -> Ball:
        if x.radius == fzero and mpf_abs(x.middle) == fone:
            # The only rational x ≠ 0 with a rational value (Niven), so sums can cancel exactly.
            return self.constant(Fraction(-1 if x.middle[0] else 1, 4))
        return self._charged(mpf_atan(x.middle, self.precision, "n"), x.radius) / self.pi  # |atan'| ≤ 1

    def sqrt(self, x: Ball) -> Ball:
        """Square root of a ball well away from 0."""
        middle = mpf_sqrt(x.middle, self.precision, "n")
        # |√x − √X| = |x − X|/(√x + √X) ≤ r/√X
        return Ball(middle, _up_add(self.rounding(middle), mpf_div(x.radius, middle, RADIUS_BITS, "u")), self)

    def erfc(self, x: Ball) -> Ball:
        if x.middle == fzero and x.radius == fzero:
            return self.constant(1)
        middle = mpf_erfc(x.middle, self.precision, "n")
        # |erfc'(z)| = 2/√π·e^(−z²) ≤ 2·e^(−z²), largest at the end nearest 0.
        # At full precision: e^(−z²) of a huge z changes by orders of magnitude with z's 30th bit.
        nearest = mpf_sub(mpf_abs(x.middle), x.radius, self.precision, "d")
        slope = from_int(2)
        if mpf_ge(nearest, fone):
            square = mpf_mul(nearest, nearest, self.precision, "d")
            slope = mpf_shift(
                mpf_exp(mpf_neg(square), RADIUS_BITS, "u"), 2
            )  # factor 2 to spare for exp's ulp
        return self._charged(middle, _up_mul(slope, x.radius))
