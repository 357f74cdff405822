"""Values taken apart, at a point or on a block: an exact polynomial, a multiple of π, rests of known sign.

2831 + e^−2832 is above 2831, and no working precision sees by how much. So every function is taken apart
where it has an exact part: eᵘ − 1 = −1 + eᵘ, σ(u) = 1 − σ(−u), tanh u = 1 − 2σ(−2u), erf u = 1 − erfc u,
arctan u = π/2 − arctan(1/u), softplus u = u + log(1 + e^−u). Each holds for every real u; which is used is a
matter of the rest's size alone. Rests are sums of m·e^L: m an Arb ball that holds for every x of the block,
its sign carried beside it, and L an expression, so that rests with the same L add up and none leaves the
range of Arb's exponents.

With a block for x, one evaluation says of thousands of inputs that they are a polynomial up to a rest of one
sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from operator import methodcaller
from typing import ClassVar

from flint import arb, fmpq

from precision_lab.formula.expression import Expression, children, number
from precision_lab.formula.rewriting import TWO, ZERO, add, mul, neg, power, simplified

Poly = tuple[Fraction, ...]  # coefficients of 1, x, x², …; the last is not 0
NONE: Poly = ()
MOST_FACTORS = 64  # of an integer power that is multiplied out
MOST_DEGREE = 8
_LARGEST_EXPONENT = 20_000  # 2^n beyond is no exact part: a fraction of so many digits
_ZERO = arb(0)


def to_arb(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


def ball_sign(ball: arb) -> int | None:
    if ball > 0:
        return 1
    if ball < 0:
        return -1
    return 0 if ball.is_zero() else None


def is_wide(ball: arb) -> bool:
    """Whether arithmetic on middle and radius would lose what is known of the ends."""
    return ball.is_finite() and not ball.is_exact() and ball.rel_accuracy_bits() < 4


def multiplied(a: arb, b: arb) -> arb:
    """a·b; of wide balls from their ends, so that positive times positive is positive."""
    if not (is_wide(a) or is_wide(b)):
        return a * b
    ends = [u * v for u in (a.lower(), a.upper()) for v in (b.lower(), b.upper())]
    return ends[0].union(ends[1]).union(ends[2]).union(ends[3])


def divided(a: arb, b: arb) -> arb:
    """a/b, likewise."""
    if not (is_wide(a) or is_wide(b)):
        return a / b
    if not (b > 0 or b < 0):
        return arb.nan()
    ends = [u / v for u in (a.lower(), a.upper()) for v in (b.lower(), b.upper())]
    return ends[0].union(ends[1]).union(ends[2]).union(ends[3])


def monotone(f: Callable[[arb], arb], ball: arb) -> arb:
    """f of a ball where f is monotone on it: of a wide one from its ends."""
    return f(ball.lower()).union(f(ball.upper())) if is_wide(ball) else f(ball)


@dataclass(frozen=True)
class Rest:
    """ball·e^L with the sign of the ball, None where nobody knows it."""

    ball: arb
    sign: int | None


@dataclass(frozen=True)
class Germ:
    """exact(x) + turns·π + Σ rests[L]·e^L.

    Attributes:
        written: the expression itself, for exponents.
    """

    exact: Poly = NONE
    turns: Fraction = Fraction(0)
    rests: Mapping[Expression, Rest] = field(default_factory=dict)

    @property
    def constant(self) -> Fraction | None:
        """The exact part where it does not depend on x and there is no multiple of π."""
        if self.turns or len(self.exact) > 1:
            return None
        return self.exact[0] if self.exact else Fraction(0)

    @property
    def is_exact(self) -> bool:
        return not self.turns and not self.rests


class BarePlace:
    """A point or a block of x, which keeps a sign; what germs are evaluated at.

    Attributes:
        x: its ball.
        sign: of every x in it.
        functions: how each kind of function is taken apart; `germ_functions.Place` has them.
    """

    functions: ClassVar[Mapping[str, Callable[..., Germ]]] = {}

    def __init__(self, low: Fraction, high: Fraction) -> None:
        self.point = low if low == high else None
        self.x = to_arb(low) if low == high else to_arb(low).union(to_arb(high))
        self.low, self.high = low, high
        self.sign = 0 if low == high == 0 else 1 if low >= 0 else -1 if high <= 0 else None
        if low != high and 0 in (low, high):
            self.sign = None
        self._germs: dict[Expression, Germ] = {}
        self._balls: dict[Expression, arb] = {}

    # -- balls and signs of whole values -------------------------------------------------

    def ball(self, germ: Germ) -> arb:
        total = self.poly_ball(germ.exact)
        if germ.turns:
            total = total + to_arb(germ.turns) * arb.pi()
        for exponent, rest in germ.rests.items():
            total = total + self.rest_ball(exponent, rest)
        return total

    def poly_ball(self, poly: Poly) -> arb:
        if self.point is None and self.sign and len(poly) > 1:
            return self._between_ends(poly)
        total = _ZERO
        for c in reversed(poly):
            total = total * self.x + to_arb(c)
        return total

    def _between_ends(self, poly: Poly) -> arb:
        """Terms of one sign grow with |x|: the sums of each sign are largest at the outer end.

        Smallest at the inner.
        """
        inner, outer = (self.low, self.high) if self.sign == 1 else (self.high, self.low)
        ends = []
        for first, second in ((outer, inner), (inner, outer)):
            total = Fraction(0)
            for k, c in enumerate(poly):
                total += c * (first if c * outer**k > 0 else second) ** k
            ends.append(to_arb(total))
        return ends[0].union(ends[1])

    def rest_ball(self, exponent: Expression, rest: Rest) -> arb:
        if exponent is ZERO:
            return rest.ball
        if rest.sign == 0:
            return _ZERO
        return multiplied(rest.ball, monotone(methodcaller("exp"), self.value(exponent)))

    def value(self, e: Expression) -> arb:
        """A ball of an expression over the place."""
        if e not in self._balls:
            self._balls[e] = self.ball(self.germ(e))
        return self._balls[e]

    def poly_sign(self, poly: Poly) -> int | None:
        signs = {(c > 0) - (c < 0) for c in poly} - {0}
        if not signs:
            return 0
        if self.sign is not None and self.sign != 0:
            signs = {((c > 0) - (c < 0)) * (self.sign**k) for k, c in enumerate(poly) if c}
            if len(signs) == 1:
                return signs.pop()
        elif len(poly) == 1:
            return signs.pop()
        return ball_sign(self.poly_ball(poly))

    def rests_sign(self, rests: Mapping[Expression, Rest]) -> int | None:
        """Of their sum: of one sign, they have it; else the largest exponential is taken out."""
        signs = {rest.sign for rest in rests.values()} - {0}
        if not signs:
            return 0
        if len(signs) == 1 and None not in signs:
            return signs.pop()
        for first in rests:
            total = _ZERO
            for exponent, rest in rests.items():
                apart = simplified(add(exponent, neg(first)))
                total = total + (rest.ball if apart is ZERO else self.rest_ball(apart, rest))
            found = ball_sign(total)
            if found is not None:
                return found
        return None

    def sign_of(self, germ: Germ) -> int | None:
        parts = {self.poly_sign(germ.exact), (germ.turns > 0) - (germ.turns < 0)}
        own = self.rests_sign(germ.rests)
        parts = (parts | {own}) - {0}
        if not parts:
            return 0
        if len(parts) == 1 and None not in parts:
            return parts.pop()
        return ball_sign(self.ball(germ))

    # -- evaluation --------------------------------------------------------------------------

    def germ(self, e: Expression) -> Germ:
        """A branch-free expression in x at this place, at Arb's current precision.

        Its balls are not finite where the expression has no value, or none that can be shown.
        """
        if e not in self._germs:
            self._germs[e] = self._evaluated(e)
        return self._germs[e]

    def _evaluated(self, e: Expression) -> Germ:
        if e.kind == "number":
            return exactly(e.args[0])
        if e.kind == "symbol":
            return exactly(self.point) if self.point is not None else Germ((Fraction(0), Fraction(1)))
        if e.kind == "pi":
            return Germ(turns=Fraction(1))
        parts = [self.germ(p) for p in children(e)]
        if e.kind == "neg":
            return self.scaled(parts[0], Fraction(-1))
        if e.kind == "add":
            return self.added(*parts)
        if e.kind == "sub":
            return self.added(parts[0], self.scaled(parts[1], Fraction(-1)))
        if e.kind == "mul":
            return self.product(*parts)
        if e.kind == "div":
            return self.quotient(*parts)
        if e.kind == "power":
            return self.power(*parts)
        return self.functions[e.kind](self, parts[0], e.args[0])

    def plain(self, ball: arb, sign: int | None = None) -> Germ:
        """Without an exact part, but where the ball is one number."""
        if ball.is_exact() and ball.is_finite():
            mantissa, exponent = ball.man_exp()
            if abs(int(exponent)) < _LARGEST_EXPONENT:
                return exactly(Fraction(int(mantissa)) * Fraction(2) ** int(exponent))
        return rest_of(ball, ball_sign(ball) if sign is None else sign)

    def scaled(self, a: Germ, c: Fraction) -> Germ:
        if not c:
            return Germ()
        side = 1 if c > 0 else -1
        factor = to_arb(c)
        rests = {
            k: Rest(factor * r.ball, None if r.sign is None else side * r.sign) for k, r in a.rests.items()
        }
        return Germ(tuple(c * v for v in a.exact), c * a.turns, rests)

    def added(self, a: Germ, b: Germ) -> Germ:
        return Germ(
            plus(a.exact, b.exact), a.turns + b.turns, self.merged((*a.rests.items(), *b.rests.items()))
        )

    def merged(self, items: tuple[tuple[Expression, Rest], ...]) -> dict[Expression, Rest]:
        """Sums of the rests that have one exponent."""
        found: dict[Expression, Rest] = {}
        for exponent, rest in items:
            old = found.get(exponent)
            if old is None:
                found[exponent] = rest
            else:
                ball = old.ball + rest.ball
                same = old.sign == rest.sign and old.sign is not None
                found[exponent] = Rest(ball, old.sign if same else ball_sign(ball))
        return {k: r for k, r in found.items() if r.sign != 0}

    def product(self, a: Germ, b: Germ) -> Germ:
        for one, other in ((a, b), (b, a)):
            if one.is_exact and one.constant is not None:
                return self.scaled(other, one.constant)
        degree = len(a.exact) + len(b.exact) - 2
        if degree > MOST_DEGREE:
            return rest_of(multiplied(self.ball(a), self.ball(b)), _times(self.sign_of(a), self.sign_of(b)))
        items: list[tuple[Expression, Rest]] = []
        for left, right in ((a, b), (b, a)):
            if right.rests and left.exact:
                ball, sign = self.poly_ball(left.exact), self.poly_sign(left.exact)
                items += [
                    (k, Rest(multiplied(ball, r.ball), _times(sign, r.sign))) for k, r in right.rests.items()
                ]
            if right.rests and left.turns:
                ball, sign = to_arb(left.turns) * arb.pi(), 1 if left.turns > 0 else -1
                items += [
                    (k, Rest(multiplied(ball, r.ball), _times(sign, r.sign))) for k, r in right.rests.items()
                ]
            if left.turns and right.exact and len(right.exact) > 1:
                ball = multiplied(to_arb(left.turns) * arb.pi(), self.poly_ball(right.exact))
                items.append(
                    (ZERO, Rest(ball, _times(1 if left.turns > 0 else -1, self.poly_sign(right.exact))))
                )
        turns = sum(
            (left.turns * right.exact[0] for left, right in ((a, b), (b, a)) if len(right.exact) == 1),
            Fraction(0),
        )
        if a.turns and b.turns:
            items.append(
                (ZERO, Rest(to_arb(a.turns * b.turns) * arb.pi() ** 2, 1 if a.turns * b.turns > 0 else -1))
            )
        for k, r in a.rests.items():
            for m, s in b.rests.items():
                items.append((_sum_of(k, m), Rest(multiplied(r.ball, s.ball), _times(r.sign, s.sign))))
        return Germ(convolved(a.exact, b.exact), turns, self.merged(tuple(items)))

    def quotient(self, a: Germ, b: Germ) -> Germ:
        """q + (a − q·b)/b with q what the exact parts give, where they give one; else balls.

        Or one exponential.
        """
        constant = b.constant
        if b.is_exact and constant is not None:
            return self.scaled(a, 1 / constant) if constant else rest_of(arb.nan(), None)
        if not b.rests and not b.exact and b.turns:  # a multiple of π
            back = (to_arb(b.turns) * arb.pi()) ** -1
            side = 1 if b.turns > 0 else -1
            items = [(k, Rest(r.ball * back, _times(r.sign, side))) for k, r in a.rests.items()]
            if a.exact:
                items.append(
                    (ZERO, Rest(self.poly_ball(a.exact) * back, _times(self.poly_sign(a.exact), side)))
                )
            return Germ(_constant(a.turns / b.turns), Fraction(0), self.merged(tuple(items)))
        if constant and a.constant is not None and not a.turns:
            ratio = a.constant / constant
            left = Germ(
                NONE, Fraction(0), self.merged((*a.rests.items(), *self.scaled(b, -ratio).rests.items()))
            )
            return Germ(_constant(ratio), Fraction(0), self._divided(left.rests, b))
        if not b.exact and not b.turns and len(b.rests) == 1:
            ((exponent, rest),) = b.rests.items()
            back = divided(arb(1), rest.ball)
            items = [(_sum_of(k, neg(exponent)), Rest(multiplied(r.ball, back), _times(r.sign, rest.sign)))
                     for k, r in a.rests.items()]  # fmt: skip
            if a.exact or a.turns:
                whole = Germ(a.exact, a.turns)
                own = _times(self.sign_of(whole), rest.sign)
                items.append((simplified(neg(exponent)), Rest(multiplied(self.ball(whole), back), own)))
            return Germ(NONE, Fraction(0), self.merged(tuple(items)))
        quotient = _divided_poly(a.exact, b.exact) if b.exact and not b.turns and not a.turns else None
        if quotient is not None:
            q, remainder = quotient
            # a/b = q + (remainder + a.rests − q·b.rests)/b
            items = [
                *a.rests.items(),
                *self.product(Germ(tuple(-c for c in q)), Germ(rests=b.rests)).rests.items(),
            ]
            if remainder:
                items.append((ZERO, Rest(self.poly_ball(remainder), self.poly_sign(remainder))))
            return Germ(q, Fraction(0), self._divided(self.merged(tuple(items)), b))
        return rest_of(divided(self.ball(a), self.ball(b)), _times(self.sign_of(a), self.sign_of(b)))

    def _divided(self, rests: Mapping[Expression, Rest], b: Germ) -> dict[Expression, Rest]:
        ball, sign = self.ball(b), self.sign_of(b)
        return {k: Rest(divided(r.ball, ball), _times(r.sign, sign)) for k, r in rests.items()}

    @staticmethod
    def _whole_power(ball: arb, k: int) -> arb:
        return monotone(lambda b: b**k, ball) if ball > 0 or ball < 0 or k % 2 else ball**k

    def power(self, a: Germ, n: Germ) -> Germ:
        exponent = n.constant if n.is_exact else None
        if exponent is not None and exponent.denominator == 1:
            k = int(exponent)
            if 0 <= k <= MOST_FACTORS and (a.rests or a.turns or len(a.exact) * k <= MOST_DEGREE + k):
                found = exactly(Fraction(1))
                for _ in range(k):
                    found = self.product(found, a)
                if k % 2 == 0 and len(found.rests) == 1 and not found.exact and not found.turns:
                    ((e, r),) = found.rests.items()
                    if self.sign_of(a):
                        found = Germ(rests={e: Rest(r.ball, 1)})
                return found
            sign = self.sign_of(a)
            return rest_of(self._whole_power(self.ball(a), k), 1 if k % 2 == 0 and sign else sign)
        base = self.ball(a)
        return self.plain(
            base ** (self.ball(n) if exponent is None else to_arb(exponent)), 1 if base > 0 else None
        )


def exactly(value: Fraction) -> Germ:
    return Germ(_constant(value))


def rest_of(ball: arb, sign: int | None, exponent: Expression = ZERO) -> Germ:
    return Germ() if sign == 0 else Germ(rests={exponent: Rest(ball, sign)})


def _constant(value: Fraction) -> Poly:
    return (value,) if value else NONE


def plus(a: Poly, b: Poly) -> Poly:
    """The sum of two polynomials."""
    n = max(len(a), len(b))
    found = [(a[k] if k < len(a) else 0) + (b[k] if k < len(b) else 0) for k in range(n)]
    while found and not found[-1]:
        found.pop()
    return tuple(Fraction(c) for c in found)


def convolved(a: Poly, b: Poly) -> Poly:
    """The product of two polynomials."""
    if not a or not b:
        return NONE
    found = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, c in enumerate(a):
        for j, d in enumerate(b):
            found[i + j] += c * d
    return tuple(found)


def _divided_poly(a: Poly, b: Poly) -> tuple[Poly, Poly] | None:
    """Quotient and remainder; None where the quotient is 0 or b a constant."""
    if len(b) < 2 or len(a) < len(b):
        return None
    left, q = list(a), [Fraction(0)] * (len(a) - len(b) + 1)
    for k in range(len(q) - 1, -1, -1):
        q[k] = left[k + len(b) - 1] / b[-1]
        for j, c in enumerate(b):
            left[k + j] -= q[k] * c
    return tuple(q), plus(tuple(left[: len(b) - 1]), NONE)


def _times(a: int | None, b: int | None) -> int | None:
    if a == 0 or b == 0:
        return 0
    return None if a is None or b is None else a * b


@lru_cache(maxsize=4096)
def _sum_of(a: Expression, b: Expression) -> Expression:
    return simplified(add(a, b))


@lru_cache(maxsize=4096)
def minus_square(u: Expression) -> Expression:
    """−u², in one form for every way to write it."""
    return simplified(neg(power(u, TWO)))


@lru_cache(maxsize=4096)
def times(c: int, u: Expression) -> Expression:
    return simplified(mul(number(c), u))


__all__ = [
    "BarePlace",
    "Germ",
    "Poly",
    "Rest",
    "ball_sign",
    "convolved",
    "divided",
    "exactly",
    "minus_square",
    "monotone",
    "multiplied",
    "plus",
    "rest_of",
    "times",
    "to_arb",
]
