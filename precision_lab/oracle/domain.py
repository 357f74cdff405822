"""Where a formula has a value: the root and the logarithm of a negative number have none.

Nor has anything over 0.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from flint import arb
from numpy.typing import NDArray

from precision_lab.formula.expression import Expression, comparison, number, symbols_of
from precision_lab.formula.rewriting import sub
from precision_lab.formula.writing import operations
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.branches import branch_between
from precision_lab.oracle.germ_functions import Place
from precision_lab.oracle.infinity import Infinity, ball_beside, decided, truth
from precision_lab.oracle.record import BALLS, Reference

BITS = 256


def _whole(e: Expression) -> bool:
    return e.kind == "number" and e.args[0].denominator == 1


@lru_cache(maxsize=1024)
def _arguments(e: Expression) -> tuple[tuple[Expression, Fraction, bool], ...]:
    """Expressions that must not be below a number, and whether they may be equal to it."""
    found = []
    for part in operations(e):
        if part.kind in ("log", "rsqrt"):
            found.append((part.args[0], Fraction(0), False))
        elif part.kind == "log1p":
            found.append((part.args[0], Fraction(-1), False))
        elif part.kind == "sqrt" or (part.kind == "power" and not _whole(part.args[1])):
            found.append((part.args[0], Fraction(0), True))
    return tuple(one for one in found if not _is_constant_above(*one[:2]))


def _is_constant_above(argument: Expression, least: Fraction) -> bool:
    """Whether an argument is a constant for which there is a value, as in √2."""
    return not symbols_of(argument) and _sign(sub(argument, number(least)), Fraction(0), Fraction(0)) == 1


def _sign(e: Expression, low: Fraction, high: Fraction) -> int | None:
    """Of an expression without conditions, at every x of a block; None: unknown."""
    with working_precision(BITS):
        place = Place(low, high)
        return place.sign_of(place.germ(e))


def partial(e: Expression) -> bool:
    """Whether there may be x without a value other than poles."""
    return bool(_arguments(e))


def outside(e: Expression, low: Fraction, high: Fraction) -> bool:
    """Whether every x of a block is proven to have no value: a root's or logarithm's argument is negative."""
    return any(_sign(sub(a, number(least)), low, high) == -1 for a, least, _ in _arguments(e))


def inside(e: Expression, low: Fraction, high: Fraction) -> bool:
    """Whether a branch-free expression is proven to have all its arguments' values on a block.

    Poles of quotients are no matter of this.
    """
    return all(
        _sign(sub(a, number(least)), low, high) in ((0, 1) if closed else (1,))
        for a, least, closed in _arguments(e)
    )


def branch_inside(
    e: Expression, function: Expression | None, low: Fraction, high: Fraction
) -> Expression | None:
    """`branch_between` of an expression, where what it is a derivative of is proven to have values.

    Args:
        function: None where that has values for all x.
    """
    if function is not None:
        own = branch_between(function, low, high)
        if own is None or not inside(own, low, high):
            return None
    return branch_between(e, low, high)


def empty_between(e: Expression, low: float, high: float) -> bool:
    """Whether an expression is proven to have no value at any x from one number to another."""
    if not partial(e):
        return False
    ends = Fraction(low), Fraction(high)
    # Conditions are of open intervals: a little more than the closed one.
    wider = Fraction(math.nextafter(low, -math.inf)), Fraction(math.nextafter(high, math.inf))
    branch = branch_between(e, *wider)
    return branch is not None and outside(branch, *ends)


def has_gaps(e: Expression) -> bool:
    """Whether some binade of x has no values, proven."""
    binades = [(2.0**k, 2.0 ** (k + 1)) for k in range(-24, 12)]
    return any(empty_between(e, *ends) for a, b in binades for ends in ((a, b), (-b, -a)))


def mark_outside(index: NDArray[np.int64], result: Reference) -> None:
    """NaN, as the exact result of what has none."""
    result.rounded[index] = result.exact[index] = np.nan
    result.tail[index], result.sign[index] = 0.0, 0
    result.tier[index], result.undecided[index] = BALLS, False


def value_at_pole(e: Expression, x: float, function: Expression | None = None) -> arb | float | None:
    """What a formula that is not finite at x goes to: ±∞, or a number where the singularity can be removed.

    From the one side on which it has values; else at ±0 from the side of the zero's sign, as 1/x does in IEEE
    arithmetic; else from the side on which the function has values, or from both. None where the sides
    differ, or where no limit is proven.

    Args:
        function: what the formula is a derivative of: 1/(1 + x) has values below −1, log(1 + x) has none.
    """
    point = Fraction(x)
    inside = _only_side(e, point)
    if inside is None and x == 0:
        inside = -1 if np.signbit(x) else 1
    if inside is None and function is not None:
        inside = _only_side(function, point)
    if inside is not None:
        return ball_beside(e, point, inside)
    below, above = (ball_beside(e, point, side) for side in (-1, 1))
    if below is None or above is None:
        return None
    return above if float(below) == float(above) else None


def _only_side(e: Expression, point: Fraction) -> int | None:
    """The side of a point on which there are values, where there are none on the other."""
    if not partial(e):
        return None
    step = Fraction(1, 2**1100)
    for side in (-1, 1):
        beside = point + side * step
        branch = branch_between(e, beside, beside)
        if branch is not None and outside(branch, beside, beside):
            return -side
    return None


def ends_before(e: Expression, sign: int) -> bool:
    """Whether there are no values towards sign·∞, proven."""
    with working_precision(BITS):
        place = Infinity(sign)
        branch = decided(e, place)
        if branch is None:
            return False
        return any(
            truth(comparison(argument, number(least), True), place)
            for argument, least, _ in _arguments(branch)
        )


__all__ = [
    "branch_inside",
    "empty_between",
    "ends_before",
    "has_gaps",
    "inside",
    "mark_outside",
    "outside",
    "partial",
    "value_at_pole",
]
