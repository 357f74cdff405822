"""Tier 3's balls, at several precisions, against Arb's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from arb_witness import arithmetic, to_arb
from basis_witness import BASES, basis_inputs, basis_witness
from flint import arb, fmpz
from mpmath.libmp import fzero

from precision_lab.functions.basis import BASIS
from precision_lab.oracle.mp import MpContext


def to_ball(raw: tuple[int, int, int, int]) -> arb:
    sign, man, exp, _ = raw
    return arb((fmpz(-int(man) if sign else int(man)), fmpz(int(exp))))


@pytest.mark.parametrize("precision", [53, 113, 300, 1000])
@pytest.mark.parametrize("basis", BASES)
def test_every_ball_contains_arbs(basis: str, precision: int) -> None:
    x = basis_inputs(basis, 80, seed=precision)
    x = x[(np.abs(x) < 40) & ((x == 0) | (np.abs(x) > 2.0**-200))]
    m, judged = MpContext(precision), 0
    for value in x.tolist():
        try:
            ball = BASIS[basis].formula(m, m.constant(value))
        except ZeroDivisionError:
            continue  # says that the precision must be raised
        exact = basis_witness(basis, value, 2 * precision + 900)
        with arithmetic(2 * precision + 1000):
            error = abs(exact - to_ball(ball.middle))
            assert error <= to_ball(ball.radius) or (ball.radius == fzero and error.is_zero()), value
        judged += 1
    assert judged > 10


def test_exact_arithmetic_has_no_radius() -> None:
    m = MpContext(60)
    x = m.constant(math.pi)
    cube = x * x * x - x
    assert cube.radius == fzero
    with arithmetic(400):
        value = to_arb(math.pi)
        assert (to_ball(cube.middle) - (value * value * value - value)).is_zero()
