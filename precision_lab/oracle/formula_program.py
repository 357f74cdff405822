"""Outputs of any formula as the arrays that the first tier runs: one table for each output and side.

What the fast tiers know of basis functions by hand (on which side of a constant an output lies next to 0 and
far out) is derived here with Arb, or not used.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from precision_lab.exceptions import UsageError
from precision_lab.formula.expression import Expression
from precision_lab.formula.rewriting import ZERO
from precision_lab.oracle.blocks import Shape, shape
from precision_lab.oracle.curve import EDGE, FAR, NEAR, ONE, POSITIVE, TABLE, Curve
from precision_lab.oracle.domain import branch_inside
from precision_lab.oracle.formula_tables import own_domain, tables
from precision_lab.oracle.piecewise_compiler import Table
from precision_lab.oracle.piecewise_values import pack_tables
from precision_lab.oracle.program_record import MAX_TABLES, MAX_TERMS, Pivot, Program

STRETCHES = 4
NEXT_TO_ZERO = 2.0**-30
FARTHEST = 2.0**128
_PART = 2.0**6
_FAR_FROM = tuple(2.0**k for k in range(2, 12))


def formula_program(curves: tuple[Curve, ...]) -> Program:
    """Arrays for the outputs of one formula, at the curves' parameters.

    A table carries the whole bound: the product with 1.0 is exact, and there is no sum.
    """
    if len(curves) > MAX_TABLES:
        raise UsageError(f"outputs of {curves[0].function.name}: at most {MAX_TABLES} are scored together")
    shape_ = (STRETCHES, len(curves))
    slots = np.full((*shape_, MAX_TERMS), -1, np.int64)
    weights = np.zeros((*shape_, MAX_TERMS))
    relative, absolute = np.zeros(shape_), np.zeros(shape_)
    needed = np.zeros((STRETCHES, TABLE + MAX_TABLES), np.bool_)
    windows, pivots = np.full((*shape_, 2, 2), math.inf), np.zeros((*shape_, 2, 2))
    found: list[Table] = []
    for j, curve in enumerate(curves):
        e = curve.function.bound_expression(curve.output, curve.params)
        domain = own_domain(curve.function, curve.params)
        found += tables(curve.function, curve.output, curve.params)
        for stretch in (NEAR, FAR, POSITIVE):
            if e is ZERO:
                continue
            slots[stretch, j, 0], weights[stretch, j, 0] = TABLE + j, 1.0
            needed[stretch, TABLE + j] = True
            for k, pivot in enumerate((_near_zero(e, stretch, domain), _far_out(e, stretch, domain))):
                if pivot is not None:
                    windows[stretch, j, k], pivots[stretch, j, k] = pivot
        # At an edge nothing is known of the value: an infinite bound sends it on.
        slots[EDGE, j, 0], weights[EDGE, j, 0], needed[EDGE, ONE] = ONE, 1.0, True
        relative[EDGE, j] = absolute[EDGE, j] = math.inf
    return Program(slots, weights, relative, absolute, needed, windows, pivots, pack_tables(found))


def _sign(stretch: int) -> int:
    return 1 if stretch == POSITIVE else -1


def _between(e: Expression, sign: int, low: float, high: float, domain: Expression | None) -> Shape | None:
    """The shape on low ≤ |x| ≤ high without an edge between: one constant and side on every part.

    In parts, since an Arb ball does not hold both ends of a wide range.

    Args:
        domain: what has values on all of it, where some expression does not.
    """
    whole = None
    while low < high:
        top = min(low * _PART, high)
        ends = (low, top) if sign > 0 else (-top, -low)
        branch = branch_inside(e, domain, Fraction(ends[0]), Fraction(ends[1]))
        found = None if branch is None else shape(branch, *ends)
        if found is None or found.slope or found.side is None:
            return None
        if whole is None:
            whole = found
        elif (found.constant, found.side) != (whole.constant, whole.side):
            return None
        whole = replace(whole, reach=max(whole.reach, found.reach))
        low = top
    return whole


def _near_zero(e: Expression, stretch: int, domain: Expression | None) -> Pivot | None:
    """f = C + rest with C a float64 and the sign of the rest known, for all fp32 numbers below 2^-30."""
    if stretch == FAR:
        return None
    found = _between(e, _sign(stretch), 2.0**-149, NEXT_TO_ZERO, domain)
    return _pivot(found, (0.0, NEXT_TO_ZERO))


def _far_out(e: Expression, stretch: int, domain: Expression | None) -> Pivot | None:
    """Likewise from some power of two on, to the end of fp32."""
    if stretch == NEAR:
        return None
    for start in _FAR_FROM:
        found = _pivot(_between(e, _sign(stretch), start, FARTHEST, domain), (start, math.inf))
        if found is not None:
            return found
    return None


def _pivot(found: Shape | None, window: tuple[float, float]) -> Pivot | None:
    if found is None:
        return None
    constant = float(found.constant)
    if constant != found.constant or (constant and not found.reach < abs(constant) / 2):
        return None
    if not found.side:  # the constant itself: not below it, which is all that the side 1 is taken for
        return (window, (abs(constant), 1)) if constant and not found.reach else None
    if constant == 0:
        return (window, (0.0, found.side)) if window[0] else None
    return window, (abs(constant), found.side * (1 if constant > 0 else -1))
