"""How each function is taken apart into exact parts and rests: see `germs`."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from operator import methodcaller
from typing import Any

from flint import arb

from precision_lab.formula.expression import Expression
from precision_lab.formula.rewriting import TWO, function, mul, simplified
from precision_lab.formula.rewriting import ZERO as _PLAIN  # the exponent of a rest without one
from precision_lab.oracle import arb_program
from precision_lab.oracle.germs import (
    BarePlace,
    Germ,
    Poly,
    Rest,
    convolved,
    divided,
    exactly,
    minus_square,
    monotone,
    plus,
    rest_of,
    times,
    to_arb,
)

_HALF = Fraction(1, 2)
_LARGEST_EXPONENT = 20_000
FAR = 64  # |u| from which erfc is a series in 1/u²: e^(−64²) needs no more than its leading digits


def _small(ball: arb) -> bool:
    return bool(abs(ball) < 1)


def _exp(place: BarePlace, u: Germ, e: Expression) -> Germ:
    ball = place.ball(u)
    if _small(ball):
        sign = place.sign_of(u)
        return Germ(
            (Fraction(1),),
            rests={} if sign == 0 else {_PLAIN: Rest(monotone(methodcaller("expm1"), ball), sign)},
        )
    return rest_of(arb(1), 1, e)


def _expm1(place: BarePlace, u: Germ, e: Expression) -> Germ:
    ball = place.ball(u)
    if ball < -1 or ball > 1:
        return Germ((Fraction(-1),), rests={e: Rest(arb(1), 1)})
    return rest_of(monotone(methodcaller("expm1"), ball), place.sign_of(u))


def _exp2(place: BarePlace, u: Germ, e: Expression) -> Germ:
    n = u.constant if u.is_exact else None
    if n is not None and n.denominator == 1 and abs(n) < _LARGEST_EXPONENT:
        return exactly(Fraction(2) ** int(n))
    ball = place.ball(u)
    if _small(ball):
        sign = place.sign_of(u)
        return Germ(
            (Fraction(1),),
            rests={}
            if sign == 0
            else {_PLAIN: Rest(monotone(lambda b: (b * arb.const_log2()).expm1(), ball), sign)},
        )
    return rest_of(arb(1), 1, simplified(mul(function("log", TWO), e)))


def _decay(place: BarePlace, u: Germ, e: Expression, c: int) -> Rest:
    """Of σ(c·u) with c·u ≤ 0 as m·e^(c·u): m = 1/(1 + e^(c·u)) is between 1/2 and 1."""
    return Rest(monotone(lambda b: 1 / (1 + (c * b).exp()), place.ball(u)), 1)


def _sigmoid(place: BarePlace, u: Germ, e: Expression) -> Germ:
    ball = place.ball(u)
    if ball > 1:
        rest = _decay(place, u, e, -1)
        return Germ((Fraction(1),), rests={times(-1, e): Rest(-rest.ball, -1)})
    if ball < -1:
        return Germ(rests={times(1, e): _decay(place, u, e, 1)})
    sign = place.sign_of(u)
    return Germ(
        (_HALF,),
        rests={} if sign == 0 else {_PLAIN: Rest(monotone(lambda b: (b / 2).tanh() / 2, ball), sign)},
    )


def _sigmoid_slope(place: BarePlace, u: Germ, e: Expression) -> Germ:
    """σ(u)·σ(−u) = e^−|u|/(1 + e^−|u|)² = 1/4 − tanh²(u/2)/4."""
    ball = place.ball(u)
    if ball > 1 or ball < -1:
        c = -1 if ball > 0 else 1
        m = monotone(lambda b: (1 / (1 + (c * b).exp())) ** 2, ball)
        return Germ(rests={times(c, e): Rest(m, 1)})
    sign = place.sign_of(u)
    side = None if sign is None else -abs(sign)
    return Germ(
        (Fraction(1, 4),),
        rests={} if sign == 0 else {_PLAIN: Rest(_halved(lambda b: -((b / 2).tanh() ** 2) / 4, ball), side)},
    )


def _softplus(place: BarePlace, u: Germ, e: Expression) -> Germ:
    """log(1 + t)/t is between log 2 and 1 for 0 < t ≤ 1."""
    ball = place.ball(u)
    if ball > 1:
        m = monotone(_log1p_over, -ball)
        added: Germ = place.added(u, Germ(rests={times(-1, e): Rest(m, 1)}))
        return added
    if ball < -1:
        return Germ(rests={times(1, e): Rest(monotone(_log1p_over, ball), 1)})
    return rest_of(monotone(arb_program.softplus, ball), 1)


def _log1p_over(u: arb) -> arb:
    """log(1 + eᵘ)/eᵘ for u < 0: 1 − t/2·θ with 0 < θ < 1 where t = eᵘ is too small for a quotient."""
    t = u.exp()
    if t < arb(2) ** -200 or not t > 0:
        return arb(1) - (t / 2) * arb(0.5, 0.5)
    return t.log1p() / t


def _tanh(place: BarePlace, u: Germ, e: Expression) -> Germ:
    ball = place.ball(u)
    if ball > 1 or ball < -1:
        c = -2 if ball > 0 else 2
        m = monotone(lambda b: 2 / (1 + (c * b).exp()), ball)
        side = 1 if ball > 0 else -1
        return Germ((Fraction(side),), rests={times(c, e): Rest(-side * m, -side)})
    return rest_of(monotone(methodcaller("tanh"), ball), place.sign_of(u))


def _erfcx(u: arb) -> arb:
    """e^(u²)·erfc(u) for u > 1: beyond `FAR` 1/(u√π)·(1 − θ/(2u²)) with 0 < θ < 1 (NIST 7.12.1.

    First term left out).
    """
    if u > FAR:
        return (1 - arb(0.5, 0.5) / (2 * u * u)) / (u * arb.pi().sqrt())
    return (u * u).exp() * u.erfc()


def _tail(place: BarePlace, u: Germ, e: Expression, side: int) -> tuple[Expression, Rest]:
    """erfc(side·u) for side·u > 1 as m·e^(−u²)."""
    return minus_square(e), Rest(monotone(_erfcx, side * place.ball(u)), 1)


def _erfc(place: BarePlace, u: Germ, e: Expression) -> Germ:
    ball = place.ball(u)
    if ball > 1:
        exponent, rest = _tail(place, u, e, 1)
        return Germ(rests={exponent: rest})
    if ball < -1:
        exponent, rest = _tail(place, u, e, -1)
        return Germ((Fraction(2),), rests={exponent: Rest(-rest.ball, -1)})
    sign = place.sign_of(u)
    return Germ(
        (Fraction(1),),
        rests={}
        if sign == 0
        else {_PLAIN: Rest(-monotone(methodcaller("erf"), ball), None if sign is None else -sign)},
    )


def _erf(place: BarePlace, u: Germ, e: Expression) -> Germ:
    ball = place.ball(u)
    if ball > 1 or ball < -1:
        side = 1 if ball > 0 else -1
        exponent, rest = _tail(place, u, e, side)
        return Germ((Fraction(side),), rests={exponent: Rest(-side * rest.ball, -side)})
    return rest_of(monotone(methodcaller("erf"), ball), place.sign_of(u))


def _halved(f: Callable[[arb], arb], ball: arb) -> arb:
    """f of a ball, f being even and monotone on each side of 0."""
    return monotone(f, ball) if ball > 0 or ball < 0 else f(ball).union(arb(0))


def _root(value: Fraction) -> Fraction | None:
    """√value where that is rational."""
    if value < 0:
        return None
    top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
    return Fraction(top, bottom) if (top * top, bottom * bottom) == value.as_integer_ratio() else None


def _polynomial_root(p: Poly) -> Poly | None:
    """q with a remainder p − q² of lower degree than q's; None where there is none with rational numbers."""
    degree = len(p) - 1
    first = _root(p[-1]) if degree >= 2 and degree % 2 == 0 else None
    if not first:
        return None
    q = [Fraction(0)] * (degree // 2) + [first]
    for j in range(1, len(q)):
        # Of x^(2k − j) in q²: 2·first·q[k − j] and products of what is known.
        known = sum((q[-1 - i] * q[i - j - 1] for i in range(1, j)), Fraction(0))
        q[-1 - j] = (p[-1 - j] - known) / (2 * first)
    return tuple(q)


def _beside_root(place: BarePlace, u: Germ, q: Poly) -> Germ | None:
    """√(q² + r) = |q| + r/(√(q² + r) + |q|), where q keeps its sign and the rest is the smaller part."""
    side = place.poly_sign(q)
    if side not in (1, -1):
        return None
    q = tuple(side * c for c in q)
    size = place.poly_ball(q)
    below = monotone(methodcaller("sqrt"), place.ball(u)) + size
    r = plus(u.exact, tuple(-c for c in convolved(q, q)))
    rests = place.merged((
        *(((_PLAIN, Rest(divided(place.poly_ball(r), below), place.poly_sign(r))),) if r else ()),
        *((k, Rest(divided(rest.ball, below), rest.sign)) for k, rest in u.rests.items()),
    ))  # fmt: skip
    return Germ(q, rests=rests) if size > abs(place.ball(Germ(rests=rests))) else None


def _sqrt(place: BarePlace, u: Germ, e: Expression) -> Germ:
    """√(r² + rest) = r + rest/(√(r² + rest) + r)."""
    constant = u.constant
    root = None if constant is None else _root(constant)
    if not root:
        if u.is_exact and constant == 0:
            return Germ()
        q = None if u.turns else _polynomial_root(u.exact)
        beside = None if q is None else _beside_root(place, u, q)
        if beside is not None:
            return beside
        ball = place.ball(u)
        return place.plain(monotone(methodcaller("sqrt"), ball), 1 if place.sign_of(u) == 1 else None)
    below = monotone(methodcaller("sqrt"), place.ball(u)) + to_arb(root)
    return Germ((root,), rests={k: Rest(divided(r.ball, below), r.sign) for k, r in u.rests.items()})


def _rsqrt(place: BarePlace, u: Germ, e: Expression) -> Germ:
    found: Germ = place.quotient(exactly(Fraction(1)), _sqrt(place, u, e))
    return found


def _log(place: BarePlace, u: Germ, e: Expression) -> Germ:
    if u.constant == 1:
        ball = place.ball(Germ(rests=u.rests))
        return rest_of(monotone(methodcaller("log1p"), ball), place.rests_sign(u.rests))
    return place.plain(monotone(methodcaller("log"), place.ball(u)))


def _log1p(place: BarePlace, u: Germ, e: Expression) -> Germ:
    ball = place.ball(u)
    return (
        rest_of(monotone(methodcaller("log1p"), ball), place.sign_of(u))
        if ball > -1
        else place.plain(ball.log1p())
    )


def _atan(place: BarePlace, u: Germ, e: Expression) -> Germ:
    """arctan(±1) = ±π/4; beyond 1 it is ±π/2 − arctan(1/u)."""
    if u.is_exact and u.constant in (1, -1):
        return Germ(turns=Fraction(int(u.constant), 4))
    ball = place.ball(u)
    if ball > 1 or ball < -1:
        side = 1 if ball > 0 else -1
        return Germ(
            turns=Fraction(side, 2), rests={_PLAIN: Rest(monotone(lambda b: -(1 / b).atan(), ball), -side)}
        )
    return rest_of(monotone(methodcaller("atan"), ball), place.sign_of(u))


def _even(small: Callable[[arb], arb], side: int, large: Callable[[arb], arb], sign: int | None) -> Any:
    """Of cos and cosh: 1 + small(u) for |u| < 1, with the side that it lies on."""

    def found(place: BarePlace, u: Germ, e: Expression) -> Germ:
        ball = place.ball(u)
        if not _small(ball):
            return place.plain(large(ball), sign)
        own = place.sign_of(u)
        return Germ(
            (Fraction(1),),
            rests={} if own == 0 else {_PLAIN: Rest(_halved(small, ball), side if own else None)},
        )

    return found


def _odd(name: str, everywhere: bool) -> Any:
    """Of a function with the sign of its argument, everywhere or where that is small."""

    def found(place: BarePlace, u: Germ, e: Expression) -> Germ:
        ball = place.ball(u)
        small = everywhere or _small(ball)
        value = monotone(methodcaller(name), ball) if small else getattr(ball, name)()
        return rest_of(value, place.sign_of(u)) if small else place.plain(value)

    return found


FUNCTIONS: dict[str, Callable[[BarePlace, Germ, Expression], Germ]] = {
    "exp": _exp, "expm1": _expm1, "exp2": _exp2, "sigmoid": _sigmoid, "sigmoid_slope": _sigmoid_slope,
    "softplus": _softplus, "tanh": _tanh, "erf": _erf, "erfc": _erfc, "sqrt": _sqrt, "rsqrt": _rsqrt,
    "log": _log, "log1p": _log1p, "atan": _atan, "sin": _odd("sin", False), "tan": _odd("tan", False),
    "sinh": _odd("sinh", True),
    "cos": _even(lambda b: -2 * (b / 2).sin() ** 2, -1, lambda b: b.cos(), None),
    "cosh": _even(lambda b: 2 * (b / 2).sinh() ** 2, 1, lambda b: b.cosh(), 1),
}  # fmt: skip


class Place(BarePlace):
    """A point or a block of x, where any formula without conditions has its germ."""

    functions = FUNCTIONS
