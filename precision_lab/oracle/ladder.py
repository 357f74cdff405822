"""The ladder: float64, then double-double, then mpmath, each only for what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from mpmath.libmp import from_float, fzero, mpf_sub, to_float
from numpy.typing import NDArray

from precision_lab.exceptions import UndecidedError
from precision_lab.formats import FloatFormat, get_format
from precision_lab.functions import Activation, get_function
from precision_lab.functions.base import Term, split_exponentials
from precision_lab.functions.basis import BASIS
from precision_lab.oracle import cache
from precision_lab.oracle.double_double import BallDD, ContextDD
from precision_lab.oracle.evaluate import certain_ball, output_ball
from precision_lab.oracle.float64 import Ball64, Context64, NoFastTierError
from precision_lab.oracle.mp import MpContext
from precision_lab.rounding import Rounded, round_ball, round_enclosure

Float64 = NDArray[np.float64]

TIERS = ("special", "float64", "double_double", "mpmath", "asymptote")
FAR = -1.0  # below it, e^x − 1 − x and e^x − 1 are split into e^x, 1 and x
MP_BITS = (80, 160, 640, 2560)  # relative bits tried, in turn, for an undecided rounding


@dataclass(frozen=True)
class Reference:
    """Exact values of one output at n inputs, relative to a format; arrays of shape (n,).

    Attributes:
        rounded: correct rounding, as float64; ±inf or NaN where the exact result overflows
            the format, or is infinite or undefined itself.
        tail: (exact − rounded) in ulps, certified to 2^-10; 0 where `rounded` is not finite.
        ulp: ulp of the exact value.
        exact: the exact value to about float64 precision, for display and relative errors.
        sign: of the exact value: -1, 0, +1; 0 also where it is proven to be below half the
            smallest subnormal and its sign was not needed.
        tier: index into `TIERS` of what settled the input.
        undecided: nothing could certify it.
    """

    fmt: FloatFormat
    rounded: Float64
    tail: Float64
    ulp: Float64
    exact: Float64
    sign: NDArray[np.int8]
    tier: NDArray[np.uint8]
    undecided: NDArray[np.bool_]

    def escalated(self) -> dict[str, int]:
        """How many inputs each tier settled."""
        counts = np.bincount(self.tier, minlength=len(TIERS))
        return {name: int(count) for name, count in zip(TIERS, counts, strict=True)}


def reference(
    function: str | Activation,
    output: str,
    params: Mapping[str, float] | None,
    x: Float64,
    fmt: str | FloatFormat,
    *,
    saturating: bool = False,
) -> Reference:
    """Certified exact values of an output, ready to score values of a format against.

    Args:
        params: effective parameter values, taken as exact float64 numbers.
        x: inputs as float64, shape (n,); NaN and infinities allowed.
        fmt: format of the *output* under test.
        saturating: overflow goes to the largest finite value instead of infinity or NaN.

    Raises:
        ValueError: unknown function, output, format or parameter; a parameter out of range.
    """
    definition, target = get_function(function), get_format(fmt)
    definition.check_output(output)
    case = _Case(definition, output, definition.check_params(params), target, saturating)
    x = np.asarray(x, np.float64)
    result = _empty(target, x.size)
    finite = np.isfinite(x)
    _fill_special(case, x, finite, result)
    with np.errstate(all="ignore"):
        for side, chosen in (("negative", finite & (x <= 0)), ("positive", finite & (x > 0))):
            _climb(case, side, x, np.flatnonzero(chosen), result)
    return result


def enclosures(
    function: str | Activation, output: str, params: Mapping[str, float] | None, x: Float64
) -> tuple[Float64, Float64, Float64]:
    """high + low ± radius of an output at finite inputs, from the double-double tier.

    Raises:
        ValueError: as `reference`, or an x that is not finite.
    """
    definition = get_function(function)
    x = np.asarray(x, np.float64)
    if not np.isfinite(x).all():
        raise ValueError("enclosures are for finite inputs; x contains infinities or NaN")
    case = _Case(definition, output, definition.check_params(params), get_format("fp64"), False)
    result = np.zeros((3, x.size))
    for side, far, chosen in (
        ("negative", False, (x <= 0) & (x >= FAR)),
        ("negative", True, x < FAR),
        ("positive", False, x > 0),
    ):
        if chosen.any():
            result[:, chosen] = _double_double_tier(case, side, far, x[chosen])
    return result[0], result[1], result[2]


@dataclass(frozen=True)
class _Case:
    function: Activation
    output: str
    params: dict[str, float]
    fmt: FloatFormat
    saturating: bool

    def terms(self, side: Any, far: bool) -> tuple[Term, ...]:
        terms = self.function.terms(self.output, side)
        if not far:
            return terms
        return split_exponentials(terms)


def _empty(fmt: FloatFormat, n: int) -> Reference:
    return Reference(
        fmt,
        rounded=np.zeros(n),
        tail=np.zeros(n),
        ulp=np.full(n, fmt.min_subnormal),
        exact=np.zeros(n),
        sign=np.zeros(n, np.int8),
        tier=np.zeros(n, np.uint8),
        undecided=np.zeros(n, bool),
    )


def _fill_special(case: _Case, x: Float64, finite: NDArray[np.bool_], result: Reference) -> None:
    """NaN gives NaN; ±inf gives the limit, rounded."""
    result.rounded[np.isnan(x)] = np.nan
    result.exact[np.isnan(x)] = np.nan
    for sign in (-1, 1):
        where = np.isinf(x) & (np.sign(x) == sign)
        if not where.any():
            continue
        limit = case.function.limit(case.output, case.params, sign)
        result.exact[where] = limit
        result.sign[where] = np.sign(limit)
        if np.isinf(limit):
            result.rounded[where] = case.fmt.overflow(np.array([limit]), saturating=case.saturating)[0]
        else:
            one = round_enclosure(
                np.array([limit]), np.zeros(1), np.zeros(1), case.fmt, saturating=case.saturating
            )
            result.rounded[where], result.tail[where], result.ulp[where] = (
                one.rounded[0],
                one.tail[0],
                one.ulp[0],
            )


def _climb(case: _Case, side: str, x: Float64, index: NDArray[np.intp], result: Reference) -> None:
    index = _asymptote_tier(case, side, x, index, result)
    tiers: tuple[tuple[int, Callable[..., tuple[Any, Any, Any]]], ...] = (
        (1, _float64_tier),
        (2, _double_double_tier),
    )
    cached = any(_needs_mpmath(term.basis) for term in case.terms(side, False))
    if cached:
        tiers = tiers[1:] if case.fmt.bits <= 32 else ()
    for tier, evaluate_tier in tiers:
        for far in (False, True):
            part = index[(x[index] < FAR) == far] if side == "negative" else index[: 0 if far else None]
            if part.size == 0:
                continue
            high, low, radius = evaluate_tier(case, side, far, x[part])
            rounded = round_enclosure(high, low, radius, case.fmt, saturating=case.saturating)
            _store(result, part, rounded, high, low, radius, 3 if cached else tier)
        index = index[result.undecided[index]]
        if index.size == 0:
            return
    for i in index:
        _mpmath_tier(case, float(x[i]), int(i), result)


def _store(
    result: Reference, part: NDArray[np.intp], rounded: Rounded, high: Any, low: Any, radius: Any, tier: int
) -> None:
    # The sign must be known unless the whole enclosure is below half the smallest subnormal.
    known = np.abs(high) * (1 - 2.0**-50) > radius
    exact_zero = (high == 0) & (radius == 0)
    tiny = np.abs(high) + radius < result.fmt.min_subnormal / 4
    result.rounded[part] = rounded.rounded
    result.tail[part] = rounded.tail
    result.ulp[part] = rounded.ulp
    result.exact[part] = high
    result.sign[part] = np.where(known, np.sign(high), 0).astype(np.int8)
    result.tier[part] = tier
    result.undecided[part] = ~(rounded.decided & (known | exact_zero | tiny))


def _asymptote_tier(
    case: _Case, side: str, x: Float64, index: NDArray[np.intp], result: Reference
) -> NDArray[np.intp]:
    """Settles inputs so far out that an exact polynomial and the sign of what is left decide.

    There SiLU(2^k), say, is 2^k less something below 2^-1060: no precision separates them,
    but the sign of the difference says on which side of the power of two the value lies.
    Polynomials are evaluated in double-double and must come out exact (radius 0), with no
    low part below 2^-900: then no boundary lies within 2^-1060 but the value itself.

    Returns:
        The indices that are left.
    """
    terms = case.terms(side, side == "negative")
    where = 0 if side == "negative" else 1
    signs = {term.basis: BASIS[term.basis].approach[where] for term in terms}
    if case.function.raw_factor_argument(case.output, case.params) is not None or None in signs.values():
        return index
    weights = {term.basis: term.coefficient.at(case.params) for term in terms}
    small = {np.sign(float(weights[b])) * sign for b, sign in signs.items() if sign and weights[b]}
    size = sum(abs(float(weight)) for weight in weights.values())
    if len(small) > 1 or size > 2.0**20:
        return index
    start = max((BASIS[term.basis].beyond for term in terms), default=0.0)
    chosen = np.abs(x[index]) >= max(start, -FAR)
    part = index[chosen]
    if part.size == 0:
        return index
    point = BallDD(x[part], np.zeros(part.size), np.zeros(part.size))
    m = ContextDD()
    power: Any = m.one(point)
    totals = [Fraction(0)] * 4
    for term in terms:
        asymptote = BASIS[term.basis].at_minus_infinity if where == 0 else BASIS[term.basis].at_plus_infinity
        assert asymptote is not None
        totals = [t + weights[term.basis] * Fraction(c) for t, c in zip(totals, asymptote, strict=True)]
    value = BallDD(np.zeros(part.size), np.zeros(part.size), np.zeros(part.size))
    for total in totals:
        if total:
            value = value + m.constant(total) * power
        power = power * point
    nudge = np.full(part.size, int(small.pop()) if small else 0, np.int8)
    exact = (value.radius == 0) & ((value.low == 0) | (np.abs(value.low) > 2.0**-900))
    # An fp64 result that is nothing but the remainder has digits: mpmath finds them.
    exact &= (value.high != 0) | (nudge == 0) | (case.fmt.bits <= 32)
    rounded = round_enclosure(
        value.high, value.low, value.radius, case.fmt, saturating=case.saturating, nudge=nudge
    )
    _store(result, part, rounded, value.high, value.low, value.radius, TIERS.index("asymptote"))
    result.sign[part] = np.where(value.high == 0, nudge, np.sign(value.high)).astype(np.int8)
    result.undecided[part] |= ~exact
    return np.concatenate([index[~chosen], part[result.undecided[part]]])


def _sum64(case: _Case, side: str, far: bool, x: Float64) -> Ball64:
    m = Context64()
    point = Ball64(x, np.zeros_like(x))
    total = Ball64(np.zeros_like(x), np.zeros_like(x))
    for term in case.terms(side, far):
        total = total + m.constant(term.coefficient.at(case.params)) * _basis(m, term.basis, point)
    return total


def _basis(m: Any, name: str, point: Any) -> Any:
    basis = BASIS[name]
    return getattr(m, basis.kernel)(point) if basis.kernel else basis.formula(m, point)


def _float64_tier(case: _Case, side: str, far: bool, x: Float64) -> tuple[Any, Any, Any]:
    total = _sum64(case, side, far, x)
    factor = _raw_factor(case)
    if factor is not None:
        total = total * Ball64(factor.high, factor.radius + abs(factor.low))
    return total.middle, np.zeros_like(total.middle), total.radius


def _double_double_tier(case: _Case, side: str, far: bool, x: Float64) -> tuple[Any, Any, Any]:
    m = ContextDD()
    point = BallDD(x, np.zeros_like(x), np.zeros_like(x))
    total: Any = BallDD(np.zeros_like(x), np.zeros_like(x), np.zeros_like(x))
    for term in case.terms(side, far):
        if _needs_mpmath(term.basis):
            value = BallDD(*cache.exact_values(term.basis, x))
        else:
            value = _basis(m, term.basis, point)
        total = total + m.constant(term.coefficient.at(case.params)) * value
    factor = _raw_factor(case)
    if factor is not None:
        total = total * factor
    return total.high, total.low, total.radius


@lru_cache(maxsize=64)
def _needs_mpmath(basis: str) -> bool:
    """Whether the formula uses a function without a fast tier."""
    point = Ball64(np.array([-0.5]), np.zeros(1))
    try:
        _basis(Context64(), basis, point)
    except NoFastTierError:
        return True
    return False


def _raw_factor(case: _Case) -> BallDD | None:
    """1 − e^(−t) of a raw-parameter gradient as a double-double, or None."""
    argument = case.function.raw_factor_argument(case.output, case.params)
    if argument is None:
        return None
    ball = certain_ball(lambda m: 1 - m.exp(m.constant(-argument)), 120)
    high = to_float(ball.middle, rnd="n")
    low = to_float(mpf_sub(ball.middle, from_float(high), 200, "n"), rnd="n")
    # What the pair cuts off, 2^-106, and the ball, 2^-120.
    return BallDD(high, low, abs(high) * 2.0**-105)


def _mpmath_tier(case: _Case, x: float, i: int, result: Reference) -> None:
    """Settle one input with mpmath, or leave it undecided."""
    result.tier[i] = 3

    def value(m: MpContext) -> Any:
        return output_ball(case.function, case.output, case.params, x, m)

    for bits in MP_BITS:
        try:
            ball = certain_ball(value, bits)
        except UndecidedError:
            break
        rounded, tail, _, ulp, decided = round_ball(
            ball.middle, ball.radius, case.fmt, saturating=case.saturating
        )
        if not decided:
            continue
        result.rounded[i], result.tail[i], result.ulp[i] = rounded, tail, ulp
        result.exact[i] = to_float(ball.middle)
        result.sign[i] = 0 if ball.middle == fzero else (-1 if ball.middle[0] else 1)
        result.undecided[i] = False
        return
    result.undecided[i] = True


__all__ = ["TIERS", "Reference", "enclosures", "reference"]
