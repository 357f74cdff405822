"""Any formula at any float64 number, to any number of bits, over Arb's balls."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from flint import arb

from precision_lab.exceptions import UndecidedError
from precision_lab.formula.expression import Expression
from precision_lab.formula.writing import text
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.arb_program import loop
from precision_lab.oracle.branches import pieces
from precision_lab.oracle.domain import empty_between, outside, partial, value_at_pole
from precision_lab.oracle.germ_functions import Place
from precision_lab.oracle.germs import to_arb

MAX_PRECISION = 1 << 16


def value(e: Expression, x: float, bits: int, function: Expression | None = None) -> arb | float:
    """A ball of an expression in x at a finite number, with a relative accuracy of at least `bits` bits.

    A float where there is no number: NaN outside of the domain, the limit at a pole (`domain.value_at_pole`).

    Raises:
        UndecidedError: that could not be certified; or, at a pole, its sides differ.
    """
    ((piece, _),) = pieces(e, np.array([x]))
    point = Fraction(x)
    if partial(piece) and outside(piece, point, point):
        return float("nan")
    if function is not None and empty_between(function, x, x):
        return float("nan")
    run, precision = loop(piece), max(64, bits + 32)
    while precision <= MAX_PRECISION:
        (found,) = run([x], precision)
        if found.is_zero() or found.rel_accuracy_bits() >= bits:
            return found
        precision *= 2
    exact = _exactly(piece, point, bits)
    if exact is not None:
        return exact
    pole = None if found.is_finite() else value_at_pole(piece, x, function)
    if pole is None:
        raise UndecidedError(
            f"{text(piece)} at x={x!r} could not be certified to {bits} bits with {MAX_PRECISION}"
        )
    return pole


def _exactly(e: Expression, x: Fraction, bits: int) -> arb | None:
    """Where the germ is a rational number and nothing beside it."""
    with working_precision(bits + 64):
        germ = Place(x, x).germ(e)
        return to_arb(germ.constant) if germ.is_exact and germ.constant is not None else None
