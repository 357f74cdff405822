"""Whether the branches of a formula meet at 0."""

from __future__ import annotations

from fractions import Fraction

from precision_lab.formula.branching import first_condition
from precision_lab.formula.expression import Comparison, Expression
from precision_lab.formula.rewriting import bound, holds, taken

_NEXT = Fraction(1, 2**300)  # nearer to 0 than any edge that a float64 number can give


def meets_at_zero(e: Expression) -> bool:
    """Whether both sides of 0 are proven to meet there, for an expression in x alone.

    The conditions are decided beside 0; the two expressions left have to be the same number at 0, or the same
    expression. False also where a condition is none between rational numbers: then nobody has shown it.
    """
    sides = [_beside(e, side) for side in (-1, 1)]
    first, second = (None if s is None else bound(s, {"x": Fraction(0)}) for s in sides)
    return first is not None and first is second


def _beside(e: Expression, side: int) -> Expression | None:
    """The expression without conditions that holds on one side of 0."""
    while (condition := first_condition(e)) is not None:
        truth = _truth(condition, side)
        if truth is None:
            return None
        e = taken(e, {condition: truth})
    return e


def _truth(condition: Comparison, side: int) -> bool | None:
    near = [bound(part, {"x": side * _NEXT}) for part in (condition.left, condition.right)]
    if near[0].kind != "number" or near[1].kind != "number":
        return None
    return holds(Comparison(near[0], near[1], condition.strict))
