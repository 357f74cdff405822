"""Where a formula has a value: the root and the logarithm of a negative number have none, nor has anything over 0."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import flint
import numpy as np
from numpy.typing import NDArray

from precision_lab.formula.expression import Expression
from precision_lab.formula.writing import operations
from precision_lab.oracle.germs import Place
from precision_lab.oracle.infinity import Infinity, branch_at, limit_beside
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
    return tuple(found)


def partial(e: Expression) -> bool:
    """Whether there may be x without a value other than poles."""
    return bool(_arguments(e))


def outside(e: Expression, low: Fraction, high: Fraction) -> bool:
    """Whether no x of a block is proven to have a value: the argument of a root or a logarithm is negative."""
    kept = flint.ctx.prec
    flint.ctx.prec = BITS
    try:
        place = Place(low, high)
        for argument, least, _ in _arguments(e):
            if place.value(argument) < int(least):
                return True
            if not least and place.sign_of(place.germ(argument)) == -1:
                return True
        return False
    finally:
        flint.ctx.prec = kept


def has_no_values_at(e: Expression, sign: int) -> bool:
    """Whether all x far out towards sign·∞ are outside of the domain."""
    if not partial(e):
        return False
    kept = flint.ctx.prec
    flint.ctx.prec = BITS
    try:
        place = Infinity(sign)
        branch = branch_at(e, place)
        if branch is None:
            return False
        return any(bool(place.value(argument) < int(least)) for argument, least, _ in _arguments(branch))
    finally:
        flint.ctx.prec = kept


def mark_outside(index: NDArray[np.int64], result: Reference) -> None:
    """NaN, as the exact result of what has none."""
    result.rounded[index] = result.exact[index] = np.nan
    result.tail[index], result.sign[index] = 0.0, 0
    result.tier[index], result.undecided[index] = BALLS, False


def value_at_pole(e: Expression, x: float) -> float | None:
    """What a formula that is not finite at x goes to: ±∞, or a number where the singularity can be removed.

    At ±0 from the side of the zero's sign, as 1/x does in IEEE arithmetic; elsewhere from both sides, or from the one
    on which there are values. None where the sides differ, or where no limit is proven.
    """
    point = Fraction(x)
    if x == 0:
        return limit_beside(e, point, -1 if np.signbit(x) else 1)
    found = {side: limit_beside(e, point, side) for side in (-1, 1)}
    if partial(e):
        step = Fraction(1, 2**1100)
        for side in (-1, 1):
            if outside(e, point + side * step, point + side * step):
                return found[-side]
    return found[1] if found[1] == found[-1] else None


__all__ = ["mark_outside", "outside", "partial", "value_at_pole"]
