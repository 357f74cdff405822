"""Outputs with their parameters, as the coefficient arrays that the compiled tiers run."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from precision_lab.exceptions import UsageError
from precision_lab.functions.basis import BASIS
from precision_lab.numeric.error_free import U
from precision_lab.oracle.curve import (
    EXP,
    EXPM1,
    FAR,
    NEAR,
    ONE,
    POSITIVE,
    SLOTS,
    TABLE,
    X2,
    X3,
    Curve,
    Q,
    X,
)
from precision_lab.oracle.exponential import (
    EXP_FLOOR_BOUND,
    EXP_RELATIVE,
    EXPM1_RELATIVE,
    Q_RELATIVE,
)
from precision_lab.oracle.formula_program import formula_program
from precision_lab.oracle.piecewise_values import pack
from precision_lab.oracle.program_record import MAX_TABLES, MAX_TERMS, Pivot, Program

# |computed − exact|/|exact| of each slot; what tables carry is absolute and added apart.
RELATIVE = {ONE: 0.0, X: 0.0, X2: U, X3: 2.01 * U, EXP: EXP_RELATIVE, EXPM1: EXPM1_RELATIVE, Q: Q_RELATIVE}


def program(curves: tuple[Curve, ...]) -> Program:
    """Arrays for the outputs of one function.

    Bound of a sum of n terms: with coefficients rounded once (u), terms off by a relative e_k,
    and one rounding in the product and in each FMA, the result is off by at most
    (max e_k + (n + 1)·u)·Σ|c_k b_k|, to first order; 1 + 2^-40 covers the second order, the rounding
    of Σ|c_k b_k| itself (n + 1 roundings) and of the products with this bound. The factor of a raw
    gradient adds its own two roundings to the coefficient.
    """
    if not all(curve.function.has_terms(curve.output) for curve in curves):
        return formula_program(curves)
    names: list[str] = []
    shape = (3, len(curves))
    slots = np.full((*shape, MAX_TERMS), -1, np.int64)
    weights = np.zeros((*shape, MAX_TERMS))
    relative, absolute = np.zeros(shape), np.zeros(shape)
    needed = np.zeros((3, TABLE + MAX_TABLES), np.bool_)
    for stretch in range(3):
        for j, curve in enumerate(curves):
            factor = curve.factor()
            worst, terms = 0.0, curve.terms(stretch)
            for k, term in enumerate(terms):
                slot = SLOTS.get(term.basis)
                if slot is None:
                    if term.basis not in names:
                        names.append(term.basis)
                    slot = TABLE + names.index(term.basis)
                weight = float(term.coefficient.at(curve.params))
                if factor is not None:
                    weight *= factor[0]
                slots[stretch, j, k], weights[stretch, j, k] = slot, weight
                needed[stretch, slot] = True
                worst = max(worst, RELATIVE.get(slot, 0.0))
                absolute[stretch, j] += abs(weight) * EXP_FLOOR_BOUND if slot == EXP else 0.0
            if terms:
                roundings = len(terms) + (1 if factor is None else 3)
                relative[stretch, j] = (worst + roundings * U) * (1 + 2.0**-40)
                # A product below 2^-1022 loses at most 2^-1075, a sum nothing. A normal number, far below
                # what a format up to fp32 can see: arithmetic on subnormal ones is a hundred times slower.
                # (A raw factor below 2^-1022 loses digits of the weight: at most 2^-1075·2^384 for x³, as
                # invisible, since next to a tie or the edge of a binade the relative bound is what counts.)
                absolute[stretch, j] += 2.0**-1000
    if len(names) > MAX_TABLES:
        raise UsageError(
            f"{curves[0].function.name} needs {len(names)} compiled basis functions, {MAX_TABLES} at most"
        )
    windows, pivots = np.full((*shape, 2, 2), math.inf), np.zeros((*shape, 2, 2))
    for stretch in range(3):
        for j, curve in enumerate(curves):
            for k, found in enumerate((_near_zero(curve, stretch), _far_out(curve, stretch))):
                if found is not None:
                    windows[stretch, j, k], pivots[stretch, j, k] = found
    return Program(slots, weights, relative, absolute, needed, windows, pivots, pack(tuple(names)))


def _near_zero(curve: Curve, stretch: int) -> Pivot | None:
    """f = C + D·x + … with C a float64: for |x| < 2^-30, f − C has the sign of D·x and is below |C|.

    From x² on, the Taylor series of every basis function is at most 2x² in size for |x| < 2^-30, so what
    follows D·x is at most 2W·x² with W = Σ|c_k|. Where no term has a slope, f − C is (B + d)·x² with
    |d| ≤ 2^-20·W. (Claims that a test checks with Arb.)
    """
    if stretch == FAR or curve.factor() is not None:
        return None
    slope = bend = weight = 0.0
    level = True
    exact = Fraction(0)
    for term in curve.terms(stretch):
        taylor = BASIS[term.basis].at_zero
        if taylor is None:
            return None
        coefficient = term.coefficient.at(curve.params)
        exact += coefficient * taylor[0]
        slope += float(coefficient) * taylor[1]
        bend += float(coefficient) * BASIS[term.basis].bend
        level &= taylor[1] == 0
        weight += abs(float(coefficient))
    constant = float(exact)
    if not constant or Fraction(constant) != exact:
        return None
    # 2^-28 and 2^-18: also what D and B, sums of a few rounded products, may be off.
    certain = abs(bend) >= 2.0**-18 * weight if level else abs(slope) >= 2.0**-28 * weight
    if not certain or 2 * weight * 2.0**-30 > abs(constant) / 2:
        return None
    rising = slope > 0 if stretch == POSITIVE else slope < 0
    if level:
        rising = bend > 0
    return (0.0, 2.0**-30), (abs(constant), 1 if rising == (constant > 0) else -1)


def _far_out(curve: Curve, stretch: int) -> Pivot | None:
    """f = C + rest with C a float64, the sign of the rest known and, unless C = 0, the rest below |C|/2.

    The sign is `BasisFunction.approach`; a rest c·e^x is below from x = −log(4c/|C|) down; others are
    at most 2^-16 of their weight from |x| = 64 on (a claim that a test checks with Arb).
    """
    if stretch == NEAR or curve.factor() is not None:
        return None
    where = 1 if stretch == POSITIVE else 0
    exact = [Fraction(0)] * 4
    signs, weight, start = set(), 0.0, 1.0
    for term in curve.terms(stretch):
        basis = BASIS[term.basis]
        asymptote = basis.at_plus_infinity if where else basis.at_minus_infinity
        approach = basis.approach[where]
        if asymptote is None or approach is None:
            return None
        coefficient = term.coefficient.at(curve.params)
        exact = [e + coefficient * Fraction(a) for e, a in zip(exact, asymptote, strict=True)]
        if approach:
            signs.add(approach if coefficient > 0 else -approach)
            weight += abs(float(coefficient))
            start = start if term.basis == "exp" else 64.0
    constant = float(exact[0])
    if len(signs) != 1 or any(exact[1:]) or Fraction(constant) != exact[0]:
        return None
    if constant == 0:  # only the sign is to be known
        return (2.0 if start == 64.0 else 1.0, math.inf), (0.0, signs.pop())
    if start == 64.0 and weight * 2.0**-16 > abs(constant) / 2:
        return None
    if start == 1.0:
        start = max(1.0, math.log(4 * weight) - math.log(abs(constant)))
    return (start, math.inf), (abs(constant), signs.pop() * (1 if constant > 0 else -1))


__all__ = ["Program", "program"]
