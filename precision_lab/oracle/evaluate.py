"""Any value to any number of bits: the definition over mpmath balls, precision raised until certain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
from mpmath.libmp import from_man_exp, fzero, mpf_neg, mpf_shift

from precision_lab.exceptions import UndecidedError, UsageError, door
from precision_lab.functions import Activation, get_function
from precision_lab.functions.basis import BASIS
from precision_lab.functions.terms import split_exponentials
from precision_lab.oracle.balls import Ball, MpContext

# x = 2^-1074 squared away from 1 needs about 2200 bits; 2^16 leaves room for parameters
# that cancel each other to the last bit of a double.
MAX_PRECISION = 1 << 16
# From here on `BasisFunction.approach` is the sign of what a basis function has beyond its asymptote.
FAR_OUT = 2.0


def output_ball(
    function: Activation, output: str, params: Mapping[str, float], x: float | Fraction, m: MpContext
) -> Ball:
    """Ball of the output at a finite x, at the precision of `m`."""
    if not function.has_terms(output):
        return _general_ball(function, output, params, x, m)
    point = m.constant(x)
    total = m.constant(0)
    terms = function.terms(output, "positive" if x > 0 else "negative")
    for term in split_exponentials(terms) if x < -1 else terms:
        coefficient = term.coefficient.at(params)
        if coefficient:
            total = total + m.constant(coefficient) * BASIS[term.basis].formula(m, point)
    argument = function.raw_factor_argument(output, params)
    if argument is not None:
        total = total * (1 - m.exp(m.constant(-argument)))
    return total


@dataclass(frozen=True)
class Beside:
    """An exact number and something of known sign beside it: 2^33 − 2^33·σ(−2^33).

    Attributes:
        anchor: the exact number, raw libmp.
        side: 1 or -1: the value is strictly above or below the anchor; 0: it is the anchor.
        reach: the value is no farther from it than this.
    """

    anchor: Any
    side: int
    reach: Any


def beside(
    function: Activation, output: str, params: Mapping[str, float], x: float | Fraction, m: MpContext
) -> Beside | None:
    """The output as its asymptote and the sign of the rest, where that sign is certain.

    Far out every output is a polynomial with exact coefficients plus remainders such as −x·σ(−x).
    No working precision sees 2^(−10^10) beside 2^33, yet it decides a tie: then its sign is all that
    matters. Each remainder is enclosed and has the sign that `BasisFunction.approach` proves. Those of
    one sign cannot cancel; of others the sum of enclosures has to exclude 0. A raw gradient's
    factor 1 − e^(−t) takes away the anchor's product with e^(−t), one remainder more.

    Returns None where there is no such anchor (near 0; an irrational asymptote; t < 1) or no sign.
    """
    t = function.raw_factor_argument(output, params)
    if t is not None and t < 1:
        return None
    terms = function.terms(output, "positive" if x > 0 else "negative")
    point, exact_point = m.constant(x), Fraction(x)
    anchor = Fraction(0)
    rests: list[tuple[int, Ball]] = []
    for term in split_exponentials(terms) if x < 0 else terms:
        coefficient = term.coefficient.at(params)
        if not coefficient:
            continue
        basis = BASIS[term.basis]
        asymptote = basis.at_plus_infinity if x > 0 else basis.at_minus_infinity
        approach = basis.approach[1 if x > 0 else 0]
        if asymptote is None or approach is None or (approach and abs(exact_point) < FAR_OUT):
            return None
        exact = sum((Fraction(a) * exact_point**k for k, a in enumerate(asymptote)), Fraction(0))
        anchor += coefficient * exact
        if approach:
            rest = m.constant(coefficient) * (basis.formula(m, point) - m.constant(exact))
            sign = approach if coefficient > 0 else -approach
            assert rest.sign() != -sign, f"{basis.name} at {x!r} contradicts its declared approach"
            rests.append((sign, rest))
    denominator = anchor.denominator
    if denominator & (denominator - 1):
        return None
    middle = from_man_exp(anchor.numerator, 1 - denominator.bit_length())
    if t is not None:
        shrinking = m.exp(m.constant(-t))
        rests = [(sign, rest * (1 - shrinking)) for sign, rest in rests]
        if anchor:
            rests.append((-1 if anchor > 0 else 1, -(Ball(middle, fzero, m) * shrinking)))
    if not rests:
        return Beside(middle, 0, fzero)
    total = m.constant(0)
    for sign, rest in rests:
        total = total + _one_sided(rest, sign)
    signs = {sign for sign, _ in rests}
    side = signs.pop() if len(signs) == 1 else total.sign()
    return Beside(middle, side, total.reach()) if side else None


def _one_sided(ball: Ball, sign: int) -> Ball:
    """The numbers of a ball that have a sign."""
    if ball.sign():
        return ball
    # |end|/2 ± |end|/2, the end being the ball's farthest on that side.
    half = mpf_shift(ball.reach(), -1)
    return Ball(half if sign > 0 else mpf_neg(half), half, ball.context)


def certain_ball(evaluate_at: Callable[[MpContext], Ball], bits: int) -> Ball:
    """The ball of a quantity, at the first doubled precision where it has `bits` relative bits.

    Raises:
        UndecidedError: not certain at MAX_PRECISION.
    """
    precision = bits + 32
    while precision <= MAX_PRECISION:
        try:
            ball = evaluate_at(MpContext(precision))
            if ball.is_certain(bits):
                return ball
        except ZeroDivisionError:
            pass  # a divisor's ball contains 0 at this precision: raise it
        precision *= 2
    raise UndecidedError(f"not certain to {bits} bits at a working precision of {MAX_PRECISION} bits")


@door
def evaluate(
    function: str | Activation,
    x: float | int | Fraction | mpmath.mpf,
    params: Mapping[str, float] | None = None,
    *,
    output: str = "forward",
    bits: int = 200,
) -> mpmath.mpf:
    """Exact value of an output at x, with a relative error of at most 2^-bits.

    The working precision is raised until that is proven, near roots and near 0 as much
    as at ±1e30. At ±inf the limit is returned (to double precision where it is an
    irrational number), NaN gives NaN.

    >>> print(evaluate("silu", -90.5, bits=80))
    -4.49777749368296549172740349142139e-38
    >>> evaluate("xielu", 0.0, {"alpha_n": 0.8}, output="grad_x")
    mpf('0.5')

    Args:
        x: a float, an int, or an `mpf` that a float64 holds exactly.
        params: effective parameters; defaults where missing.

    Raises:
        ValueError: unknown function, output or parameter; a parameter out of its range;
            an x that is not a float64 number; bits < 2.
        UndecidedError: `bits` could not be certified.
    """
    definition = get_function(function)
    values = definition.check_params(params)
    definition.check_output(output)
    if bits < 2:
        raise UsageError(f"bits={bits!r}: at least 2 bits must be asked for")
    point = float(x)
    if not math.isnan(point) and point != x:
        raise UsageError(f"x={x!r} is not a float64 number; the nearest is {point!r}")
    context = mpmath.MPContext()
    context.prec = max(bits + 32, 53)
    if math.isnan(point):
        return context.mpf("nan")
    if not definition.has_terms(output):
        return _general(definition, output, values, point, bits, context)
    if math.isinf(point):
        return context.mpf(definition.limit(output, values, 1 if point > 0 else -1))
    ball = certain_ball(lambda m: output_ball(definition, output, values, point, m), bits)
    if ball.middle == fzero:
        return context.mpf(0)
    return context.make_mpf(ball.middle)


def _general_ball(
    function: Activation, output: str, params: Mapping[str, float], x: float | Fraction, m: MpContext
) -> Ball:
    """`output_ball` of a formula that is no sum of known basis functions: Arb's ball, in mpmath's numbers."""
    import numpy as np
    from flint import fmpq

    from precision_lab.oracle.arb_program import loop
    from precision_lab.oracle.branches import pieces

    # Conditions are decided at the float64 number next to x.
    ((piece, _),) = pieces(function.bound_expression(output, params), np.array([float(x)]))
    point = Fraction(x)
    found = loop(piece)([fmpq(point.numerator, point.denominator)], m.precision)[0]
    if not found.is_finite():
        raise ZeroDivisionError(
            f"{function.name}.{output} at x={x!r} has no finite ball; raise the precision"
        )
    parts = []
    for number in (found.mid(), found.rad()):
        mantissa, exponent = number.man_exp()
        parts.append(from_man_exp(int(mantissa), int(exponent)))
    return Ball(parts[0], parts[1], m)


def _general(
    definition: Activation, output: str, params: Mapping[str, float], x: float, bits: int, context: Any
) -> mpmath.mpf:
    """`evaluate` of a formula that is no sum of known basis functions, over Arb's balls."""
    from precision_lab.oracle.arb_value import value
    from precision_lab.oracle.certified import limit_of

    if math.isinf(x):
        limit = limit_of(definition, output, params, 1 if x > 0 else -1)
        if limit is None:
            raise UndecidedError(f"{definition.name}: no limit of {output} at x={x!r} is proven or declared")
        return context.mpf(limit)
    function = definition.bound_expression("forward", params)
    found = value(definition.bound_expression(output, params), x, bits, function)
    if isinstance(found, float):
        return context.mpf(found)
    mantissa, exponent = found.mid().man_exp()
    return context.make_mpf(from_man_exp(int(mantissa), int(exponent)))


__all__ = ["MAX_PRECISION", "Beside", "beside", "certain_ball", "evaluate", "output_ball"]
