"""Tier 3's balls, at several precisions, against Arb's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from arb_witness import arithmetic, to_arb
from basis_witness import BASES, basis_inputs, basis_witness
from flint import arb, fmpz
from mpmath.libmp import from_float, fzero

from precision_lab.functions.basis import BASIS
from precision_lab.oracle.balls import Ball, MpContext


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


def ball(low: float, high: float) -> Ball:
    m = MpContext(60)
    return Ball(from_float((low + high) / 2), from_float((high - low) / 2), m)


def contains(found: Ball, value: arb) -> bool:
    with arithmetic(200):
        return bool(abs(value - to_ball(found.middle)) <= to_ball(found.radius) * (1 + arb(2) ** -20))


def test_quotients_and_products_of_wide_balls_contain_their_ends() -> None:
    a, b = ball(1.0, 3.0), ball(2.0, 4.0)
    for x in (1, 3):
        for y in (2, 4):
            assert contains(a * b, arb(x * y)) and contains(-a * b, arb(-x * y))
            assert contains(a / b, arb(x) / y)
            assert contains(a + b, arb(x + y)) and contains(a - b, arb(x - y))


def test_functions_of_wide_balls_contain_the_functions_of_their_ends() -> None:
    m = MpContext(60)
    for low, high in ((-1.0, 1.0), (1.1, 1.9), (-1.9, -1.1), (0.75, 0.875)):
        for end in (arb(low), arb(high)):
            x = ball(low, high)
            assert contains(m.exp(x), end.exp()), (low, high)
            assert contains(m.erfc(x), end.erfc()), (low, high)
            assert contains(m.atan_over_pi(x), end.atan() / arb.pi()), (low, high)
            if low == 0.75:  # a wider one is refused
                assert contains(m.sigmoid(x), 1 / (1 + (-end).exp()))
                assert contains(m.softplus(x), (1 + end.exp()).log())
                assert contains(m.sqrt(x), end.sqrt())


def test_certain_is_what_the_radius_says() -> None:
    found = ball(1 - 2.0**-10, 1 + 2.0**-10)
    assert found.is_certain(9) and not found.is_certain(10)
    assert found.sign() == 1 and (-found).sign() == -1 and ball(-1.0, 2.0).sign() == 0
