"""Limits at ±∞ and one-sided limits at 0, proven: what every part of a formula is asymptotically equal to.

The germ of an expression far out (`germs`) has an exact polynomial and rests m·e^L. Here the m are growths:
c·tᵖ·logʳt with t = |x| → ∞ and a ball for c, more than any power, or less. A sum keeps the larger growth;
where two of one order may cancel, c contains 0, which says that the sum is at most of that order, and nothing
more is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from flint import arb

from precision_lab.formula.branching import first_condition
from precision_lab.formula.expression import Comparison, Expression, X, children, number
from precision_lab.formula.rewriting import ONE, ZERO, add, div, neg, rebuilt, sub, taken
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.germ_functions import Place
from precision_lab.oracle.germs import Germ, Poly, Rest, to_arb

BITS = 256
_HUGE, _TINY = math.inf, -math.inf
Order = tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class Growth:
    """Asymptotically c·t^order[0]·(log t)^order[1]; order ±inf: more, less than any power.

    nan: nothing is known.
    """

    c: arb
    order: Order = (Fraction(0), Fraction(0))

    # What `germs` asks of a ball.
    def is_finite(self) -> bool:
        return False

    def is_exact(self) -> bool:
        return False

    def is_zero(self) -> bool:
        return bool(self.c.is_zero()) and self.order == (_TINY, 0)

    @property
    def known(self) -> bool:
        """Whether it is asymptotically equal to its term, and not only at most of its order."""
        return bool(self.c > 0 or self.c < 0)

    def union(self, other: Any) -> Growth:
        """At most of the larger order: nothing is known of the sign."""
        large = max(self, _growth(other), key=lambda g: g.order)
        return Growth(large.c.union(-large.c), large.order)

    def __neg__(self) -> Growth:
        return Growth(-self.c, self.order)

    def __abs__(self) -> Growth:
        return -self if self.c < 0 else self

    def __add__(self, other: Any) -> Growth:
        other = _growth(other)
        if other.is_zero() or self.is_zero():
            return self if other.is_zero() else other
        if self.c.is_nan() or other.c.is_nan():
            return UNKNOWN
        if self.order != other.order:
            return self if self.order > other.order else other
        if self.order[0] in (_HUGE, _TINY):
            same = (self.c > 0 and other.c > 0) or (self.c < 0 and other.c < 0)
            if self.order[0] == _HUGE and not same:
                return UNKNOWN
            return Growth(self.c if same else arb(0, 1), self.order)
        return Growth(self.c + other.c, self.order)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Growth:
        return self + -_growth(other)

    def __rsub__(self, other: Any) -> Growth:
        return _growth(other) - self

    def __mul__(self, other: Any) -> Growth:
        other = _growth(other)
        infinite = {self.order[0], other.order[0]} & {_HUGE, _TINY}
        if len(infinite) == 2:
            return UNKNOWN
        if infinite:
            c = self.c * other.c
            # A c of 0 says that a factor is of lower order, not that it is 0.
            nothing = self.is_zero() or other.is_zero()
            return Growth(arb(0, 1) if c.is_zero() and not nothing else c, (infinite.pop(), 0))
        return Growth(self.c * other.c, (self.order[0] + other.order[0], self.order[1] + other.order[1]))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Growth:
        other = _growth(other)
        if not other.known:
            return UNKNOWN
        return self * Growth(1 / other.c, (-other.order[0], -other.order[1]))

    def __rtruediv__(self, other: Any) -> Growth:
        return _growth(other) / self

    def __pow__(self, n: Any) -> Growth:
        """To a whole number, or a rational one as a ball."""
        # What n goes to is not enough: x^(2 + 1/log x) is e·x².
        exponent = None if isinstance(n, Growth) else n if isinstance(n, int) else _rational(n)
        if exponent is None or not self.known or (self.c < 0 and Fraction(exponent).denominator != 1):
            return UNKNOWN
        if self.order[0] in (_HUGE, _TINY):
            return Growth(
                self.c ** to_arb(Fraction(exponent)), (self.order[0] * (1 if exponent > 0 else -1), 0)
            )
        power = Fraction(exponent)
        return Growth(self.c ** to_arb(power), (self.order[0] * power, self.order[1] * power))

    # -- comparisons with numbers: whether they hold from some t on ------------------------

    def __gt__(self, other: Any) -> bool:
        found = self - other
        return bool(found.c > 0)

    def __lt__(self, other: Any) -> bool:
        found = self - other
        return bool(found.c < 0)

    # -- functions ------------------------------------------------------------------------------

    @property
    def _side(self) -> int:
        """Where it goes: 1 or -1 to ±∞, 0 to a number or 0; 2 where nobody knows."""
        if self.order > (0, 0):
            return 1 if self.c > 0 else -1 if self.c < 0 else 2
        return 2 if self.c.is_nan() else 0

    def _limit(self) -> arb:
        """Of one that goes to a number."""
        return self.c if self.order == (0, 0) else arb(0)

    def exp(self) -> Growth:
        side = self._side
        if side == 2:
            return UNKNOWN
        if side:
            # u ~ c·log t says nothing of e^u beside t^c: log(2t) ~ log t, and e^log(2t) is 2t.
            if self.order[0] == 0:
                return UNKNOWN
            return Growth(arb(1), (_HUGE if side > 0 else _TINY, 0))
        return Growth(self._limit().exp())

    def expm1(self) -> Growth:
        return self._odd("expm1", arb(1)) if self._side == 0 else self.exp() - 1

    def log(self) -> Growth:
        if not self.c > 0 or self.order[0] in (_HUGE, _TINY):
            return UNKNOWN
        if self.order == (0, 0):
            return Growth(self.c.log())
        if self.order[0] == 0:
            return UNKNOWN
        return Growth(to_arb(Fraction(self.order[0])), (Fraction(0), Fraction(1)))

    def log1p(self) -> Growth:
        return self._odd("log1p", arb(1)) if self._side == 0 else (self + 1).log()

    def _odd(self, name: str, slope: arb) -> Growth:
        """Of a function with f(u) = slope·u + … at 0, where u goes to a number."""
        if self.order == (0, 0):
            return Growth(getattr(self.c, name)())
        return Growth(self.c * slope, self.order)

    def _bounded(self, name: str, slope: arb, end: arb) -> Growth:
        side = self._side
        if side == 2:
            return Growth(arb(0, 1) * end)
        return Growth(side * end) if side else self._odd(name, slope)

    def tanh(self) -> Growth:
        return self._bounded("tanh", arb(1), arb(1))

    def erf(self) -> Growth:
        return self._bounded("erf", 2 / arb.pi().sqrt(), arb(1))

    def erfc(self) -> Growth:
        return 1 - self.erf() if self._side == 0 else UNKNOWN

    def atan(self) -> Growth:
        return self._bounded("atan", arb(1), arb.pi() / 2)

    def sin(self) -> Growth:
        return self._odd("sin", arb(1)) if self._side == 0 else Growth(arb(0, 1))

    def cos(self) -> Growth:
        return Growth(self._limit().cos() if self._side == 0 else arb(0, 1))

    def tan(self) -> Growth:
        return self._odd("tan", arb(1)) if self._side == 0 else UNKNOWN

    def sinh(self) -> Growth:
        side = self._side
        return (
            self._odd("sinh", arb(1))
            if side == 0
            else UNKNOWN
            if side == 2
            else Growth(arb(side), (_HUGE, 0))
        )

    def cosh(self) -> Growth:
        side = self._side
        return (
            Growth(self._limit().cosh())
            if side == 0
            else UNKNOWN
            if side == 2
            else Growth(arb(1), (_HUGE, 0))
        )

    def sqrt(self) -> Growth:
        return self ** arb(0.5)


UNKNOWN = Growth(arb.nan(), (Fraction(0), Fraction(0)))
_NOTHING = Growth(arb(0), (_TINY, 0))


def _growth(value: Any) -> Growth:
    if isinstance(value, Growth):
        return value
    ball = arb(value)
    return _NOTHING if ball.is_zero() else Growth(ball)


def _rational(ball: arb) -> Fraction | None:
    if not ball.is_exact() or not ball.is_finite():
        return None
    mantissa, exponent = ball.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


class Infinity(Place):
    """All x beyond some number, towards one end of the line."""

    def __init__(self, sign: int) -> None:
        super().__init__(Fraction(1), Fraction(2))
        self.point, self.sign, self.end = None, sign, sign
        self.x: Any = Growth(arb(sign), (Fraction(1), Fraction(0)))

    def poly_ball(self, poly: Poly) -> Any:
        total: Any = _NOTHING
        for k, c in enumerate(poly):
            total = total + Growth(to_arb(c) * self.end**k, (Fraction(k), Fraction(0))) if c else total
        return total

    def rest_ball(self, exponent: Expression, rest: Rest) -> Any:
        if exponent is ZERO:
            return _growth(rest.ball)
        return _growth(rest.ball) * _growth(self.value(exponent)).exp()

    def rests_sign(self, rests: Mapping[Expression, Rest]) -> int | None:
        signs = {rest.sign for rest in rests.values()} - {0}
        if not signs:
            return 0
        if len(signs) == 1 and None not in signs:
            return signs.pop()
        return None


def decided(e: Expression, place: Infinity) -> Expression | None:
    """The branch-free expression that holds far out; None where a condition goes on changing.

    Or nobody knows.
    """
    while (condition := first_condition(e)) is not None:
        known = truth(condition, place)
        if known is None:
            return None
        e = taken(e, {condition: known})
    return e


def truth(condition: Comparison, place: Infinity) -> bool | None:
    """Whether a comparison holds far out; None where nobody knows."""
    difference = sub(condition.left, condition.right)
    sign = place.sign_of(place.germ(difference))
    if sign is None:
        found = place.value(difference)
        sign = 1 if found > 0 else -1 if found < 0 else None
    if sign is None:
        return None
    return sign < 0 or (sign == 0 and not condition.strict)


def limit(e: Expression, sign: int) -> float | None:
    """Of an expression in x alone at sign·∞, to float64's precision; None where none is proven."""
    found = limit_ball(e, sign)
    return None if found is None else float(found)


def limit_ball(e: Expression, sign: int) -> arb | float | None:
    """The limit as a ball with 64 bits or more; ±∞ and 0 as floats."""
    with working_precision(BITS):
        place = Infinity(sign)
        branch = decided(e, place)
        return None if branch is None else _number(place, place.germ(branch))


def growth_order(e: Expression, sign: int) -> float | None:
    """The power of |x| that an expression grows with towards sign·∞; ∞ where faster; None: nobody knows."""
    with working_precision(BITS):
        place = Infinity(sign)
        branch = decided(e, place)
        whole = None if branch is None else _whole(place, place.germ(branch))
        return None if whole is None or whole.c.is_nan() else float(whole.order[0])


def _whole(place: Infinity, germ: Germ) -> Growth:
    rests: Any = _NOTHING
    for exponent, rest in germ.rests.items():
        rests = rests + place.rest_ball(exponent, rest)
    found = place.poly_ball(germ.exact) + (to_arb(germ.turns) * arb.pi() if germ.turns else 0) + rests
    return _growth(found)


def _number(place: Infinity, germ: Germ) -> arb | float | None:
    whole = _whole(place, germ)
    if whole.c.is_nan():
        return None
    if whole.order > (0, 0):
        return math.inf if whole.c > 0 else -math.inf if whole.c < 0 else None
    if whole.order < (0, 0):
        return 0.0
    if whole.c.rel_accuracy_bits() < 64 and not whole.c.is_zero():
        return None
    return whole.c


def ball_beside(e: Expression, x: Fraction, side: int) -> arb | float | None:
    """The limit at a point from one side, as `limit_ball`: at x + side/t with t → ∞."""
    step = div(ONE, X) if side > 0 else neg(div(ONE, X))
    return limit_ball(_replaced(e, add(number(x), step)), 1)


def _replaced(e: Expression, by: Expression) -> Expression:
    memo: dict[Expression, Expression] = {X: by}

    def go(part: Expression) -> Expression:
        if part not in memo:
            inner = children(part)
            memo[part] = rebuilt(part, tuple(go(p) for p in inner)) if inner else part
        return memo[part]

    return go(e)
