"""Any value to any number of bits: the definition over mpmath balls, precision raised until certain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import mpmath
from mpmath.libmp import fzero

from precision_lab.exceptions import UndecidedError
from precision_lab.functions import Activation, get_function
from precision_lab.functions.base import split_exponentials
from precision_lab.functions.basis import BASIS
from precision_lab.oracle.mp import Ball, MpContext

# x = 2^-1074 squared away from 1 needs about 2200 bits; 2^16 leaves room for parameters
# that cancel each other to the last bit of a double.
MAX_PRECISION = 1 << 16


def output_ball(
    function: Activation, output: str, params: Mapping[str, float], x: float | Fraction, m: MpContext
) -> Ball:
    """Ball of the output at a finite x, at the precision of `m`."""
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
        raise ValueError(f"bits={bits!r}: at least 2 bits must be asked for")
    point = float(x)
    if not math.isnan(point) and point != x:
        raise ValueError(f"x={x!r} is not a float64 number; the nearest is {point!r}")
    context = mpmath.MPContext()
    context.prec = max(bits + 32, 53)
    if math.isnan(point):
        return context.mpf("nan")
    if math.isinf(point):
        return context.mpf(definition.limit(output, values, 1 if point > 0 else -1))
    ball = certain_ball(lambda m: output_ball(definition, output, values, point, m), bits)
    if ball.middle == fzero:
        return context.mpf(0)
    return context.make_mpf(ball.middle)


__all__ = ["certain_ball", "evaluate", "output_ball"]
