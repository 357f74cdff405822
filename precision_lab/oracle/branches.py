"""Which branch every input takes: comparisons are decided before anything is evaluated.

What a discarded branch would give, an infinity or NaN, then reaches nothing. A comparison of a polynomial of
the first degree is decided exactly, any other by the sign of Arb's ball of the difference.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import UndecidedError
from precision_lab.formula.branching import first_condition, linear
from precision_lab.formula.expression import Comparison, Expression
from precision_lab.formula.rewriting import sub, taken
from precision_lab.formula.writing import comparison_text
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.arb_program import loop
from precision_lab.oracle.germ_functions import Place

Float64 = NDArray[np.float64]
PRECISIONS = (64, 256, 1024, 4096)
BITS = 128  # for a whole interval
HALVINGS = 3  # of an interval on which a ball of a difference contains 0


def truth(condition: Comparison, x: Float64) -> NDArray[np.bool_]:
    """Where it holds, at float64 numbers x.

    Raises:
        UndecidedError: both sides may be equal at some x: no precision tells.

    Where a side has no value, as 1/x at 0, the condition does not hold.
    """
    difference = sub(condition.left, condition.right)
    found = linear(difference)
    if found is not None:
        return _linear_truth(*found, condition.strict, x)
    result = np.zeros(x.size, np.bool_)
    left = np.arange(x.size)
    for precision in PRECISIONS:
        open_ = []
        for i, y in zip(left.tolist(), loop(difference)(x[left].tolist(), precision), strict=True):
            if y.is_zero():
                result[i] = not condition.strict
            elif precision == PRECISIONS[-1] and not y.is_finite():
                result[i] = False  # a side without a value: the condition does not hold there
            elif y < 0 or y > 0:
                result[i] = bool(y < 0)
            else:
                open_.append(i)
        left = np.array(open_, np.int64)
        if not open_:
            return result
    raise UndecidedError(
        f"{comparison_text(condition)} is undecided at x={float(x[left[0]])!r}: both sides agree to "
        f"{PRECISIONS[-1]} bits there; write the condition in another form"
    )


def _linear_truth(a: Fraction, b: Fraction, strict: bool, x: Float64) -> NDArray[np.bool_]:
    """a·x + b < 0, or ≤ 0."""
    if a == 0:
        return np.full(x.shape, b < 0 or (b == 0 and not strict))
    edge = -b / a
    nearest = float(edge)
    if Fraction(nearest) == edge:  # the edge is a float64 number, which may be an input
        below, beyond = x < nearest, x > nearest
        return np.asarray((below if a > 0 else beyond) | ((x == nearest) & (not strict)))
    low = nearest if Fraction(nearest) < edge else math.nextafter(nearest, -math.inf)
    return np.asarray(x <= low if a > 0 else x > low)


def pieces(e: Expression, x: Float64) -> list[tuple[Expression, NDArray[np.int64]]]:
    """Branch-free expressions, and the indices of the inputs that each is for."""
    return _pieces(e, x, np.arange(x.size))


def _pieces(
    e: Expression, x: Float64, index: NDArray[np.int64]
) -> list[tuple[Expression, NDArray[np.int64]]]:
    if not index.size:
        return []
    first = first_condition(e)
    if first is None:
        return [(e, index)]
    where = truth(first, x[index])
    return [
        *_pieces(taken(e, {first: True}), x, index[where]),
        *_pieces(taken(e, {first: False}), x, index[~where]),
    ]


def branch_between(e: Expression, low: Fraction, high: Fraction) -> Expression | None:
    """The branch-free expression that holds for every x strictly between two numbers.

    None where a condition changes there, or where that cannot be excluded.
    """
    while (condition := first_condition(e)) is not None:
        known = _truth_between(condition, low, high)
        if known is None:
            return None
        e = taken(e, {condition: known})
    return e


def _truth_between(condition: Comparison, low: Fraction, high: Fraction) -> bool | None:
    difference = sub(condition.left, condition.right)
    line = linear(difference)
    sign: int | None
    if line is not None:
        a, b = line
        ends = {_sign(a * x + b) for x in (low, high)} - {0} if a else {_sign(b)}
        sign = ends.pop() if len(ends) == 1 else None
    else:
        sign = sign_between(difference, low, high, HALVINGS)
    return None if sign is None else sign < 0 or (sign == 0 and not condition.strict)


def _sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)


def sign_between(e: Expression, low: Fraction, high: Fraction, halvings: int = 0) -> int | None:
    """The sign of an expression without conditions at every x of a closed interval; None: not proven."""
    with working_precision(BITS):
        place = Place(low, high)
        germ = place.germ(e)
        found = place.sign_of(germ) if place.ball(germ).is_finite() else None
    if found is not None or not halvings:
        return found
    middle = (low + high) / 2
    first = sign_between(e, low, middle, halvings - 1)
    return first if first is not None and first == sign_between(e, middle, high, halvings - 1) else None
