"""Tier 1's balls against Arb's: every enclosure holds, and is as narrow as it was built to be."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from basis_witness import CONTEXT_BASES, basis_inputs, basis_witness, containment
from flint import arb, ctx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from precision_lab.functions.basis import BASIS
from precision_lab.oracle import float64
from precision_lab.oracle.float64 import Ball64, Context64

SETTINGS = settings(max_examples=300, deadline=None, derandomize=True, database=None)
PER_BASIS = 20_000
# Radius over |value| where nothing cancels: a bound that is merely huge fails this.
NARROW = 2.0**-47


def evaluate(basis: str, x: np.ndarray) -> Ball64:
    function = BASIS[basis]
    point = Ball64(x, np.zeros_like(x))
    m = Context64()
    with np.errstate(all="ignore"):
        ball = getattr(m, function.kernel)(point) if function.kernel else function.formula(m, point)
    shape = np.zeros_like(x)
    return Ball64(ball.middle + shape, ball.radius + shape)


def worst_ratio(basis: str, x: np.ndarray) -> tuple[float, float]:
    """Largest error over radius, and where."""
    ball = evaluate(basis, x)
    return containment(basis, x, ball.middle, np.zeros_like(x), ball.radius)


@pytest.mark.parametrize("basis", CONTEXT_BASES)
def test_every_ball_contains_arbs(basis: str) -> None:
    ratio, where = worst_ratio(basis, basis_inputs(basis, PER_BASIS, seed=64))
    assert ratio <= 1, f"{basis} leaves its ball at x={where!r} ({where.hex()}): error/radius {ratio}"


@pytest.mark.exhaustive
@pytest.mark.parametrize("basis", CONTEXT_BASES)
def test_a_million_balls_contain_arbs(basis: str) -> None:
    ratio, where = worst_ratio(basis, basis_inputs(basis, 1_000_000, seed=164))
    assert ratio <= 1, f"{basis} leaves its ball at x={where!r} ({where.hex()}): error/radius {ratio}"


@pytest.mark.parametrize("basis", ["exp", "expm1", "expm1_minus_x", "sigmoid", "silu"])
def test_balls_are_narrow_where_nothing_cancels(basis: str) -> None:
    x = -np.geomspace(2.0**-400, 600, 4001)
    if basis == "expm1_minus_x":  # its q(x) is about x²/2
        x = x[np.abs(x) > 2.0**-400]
    ball = evaluate(basis, x)
    relative = ball.radius / np.abs(ball.middle)
    assert relative.max() <= NARROW, x[np.argmax(relative)]


def test_arguments_outside_the_range_are_given_up() -> None:
    ball = evaluate("exp", np.array([701.0, 1e300]))
    assert np.isinf(ball.radius).all()
    wide = Context64().exp(Ball64(np.array([-1.0]), np.array([1.5])))
    assert np.isinf(wide.radius).all()


@SETTINGS
@given(st.floats(-690, 600), st.floats(-60, -0.5))
@pytest.mark.parametrize("name", ["exp", "expm1", "sigmoid"])
def test_an_uncertain_argument_widens_the_ball_enough(name: str, x: float, log_radius: float) -> None:
    radius = 2.0**log_radius
    ball = getattr(Context64(), name)(Ball64(np.array([x]), np.array([radius])))
    for end in (Fraction(x) - Fraction(radius), Fraction(x) + Fraction(radius)):
        exact = basis_witness(name, end, 200)
        assert abs(exact - arb(float(ball.middle[0]))) <= arb(float(ball.radius[0]))


# -- operations against exact fractions ------------------------------------------------------

FLOATS = st.one_of(
    st.floats(-1e300, 1e300),
    st.floats(-8, 8),
    st.builds(math.ldexp, st.floats(-2, 2), st.integers(-1074, -900)),
    st.builds(math.ldexp, st.floats(-2, 2), st.integers(-560, -440)),
)
RELATIVE = st.sampled_from([0.0, 2.0**-53, 2.0**-30, 0.01])


def ends(middle: float, radius: float) -> list[Fraction]:
    return [Fraction(middle) - Fraction(radius), Fraction(middle), Fraction(middle) + Fraction(radius)]


@SETTINGS
# |A/B|·rb underflows here, and dividing it by |B| made much of what was lost.
@example(a=1.1125369292536007e-308, ra=0.0, b=4.770225277725574e-67, rb=2.0**-53)
@given(FLOATS, RELATIVE, FLOATS, RELATIVE)
@pytest.mark.parametrize("operation", ["+", "-", "*", "/"])
def test_operations_contain_every_exact_result(
    operation: str, a: float, ra: float, b: float, rb: float
) -> None:
    exact: dict[str, Callable[[Any, Any], Any]] = {
        "+": lambda p, q: p + q,
        "-": lambda p, q: p - q,
        "*": lambda p, q: p * q,
        "/": lambda p, q: p / q,
    }
    ra, rb = abs(a) * ra, abs(b) * rb
    left, right = Ball64(np.array([a]), np.array([ra])), Ball64(np.array([b]), np.array([rb]))
    with np.errstate(all="ignore"):
        ball = exact[operation](left, right)
    middle, radius = float(ball.middle[0]), float(ball.radius[0])
    if not math.isfinite(middle) or not math.isfinite(radius):
        assert operation in "*/+-" and not radius <= 1e300  # nothing is claimed
        return
    for p in ends(a, ra):
        for q in ends(b, rb):
            if operation == "/" and q == 0:
                assert math.isinf(radius)
                continue
            assert abs(exact[operation](p, q) - Fraction(middle)) <= Fraction(radius)


@SETTINGS
@given(st.floats(2.0**-1000, 1e300), RELATIVE)
def test_square_roots_contain_the_exact_root(x: float, relative: float) -> None:
    ball = Context64().sqrt(Ball64(np.array([x]), np.array([x * relative])))
    low, high = (Fraction(float(ball.middle[0])) + s * Fraction(float(ball.radius[0])) for s in (-1, 1))
    interval = ends(x, x * relative)
    assert low**2 <= interval[0] and interval[-1] <= high**2


def test_the_constants_of_the_reduction_are_what_they_claim() -> None:
    ctx_before, ctx.prec = ctx.prec, 300
    try:
        rest = abs(arb(2).log() - arb(float64.LN2_HIGH) - arb(float64.LN2_LOW))
        assert rest <= arb(float64.LN2_REST)
    finally:
        ctx.prec = ctx_before
    mantissa, _ = math.frexp(float64.LN2_HIGH)
    assert (mantissa * 2.0**32).is_integer(), "n·LN2_HIGH is exact only with 32 bits"
    assert basis_witness("exp", float64.EXP_FLOOR, 100) < arb(float64.EXP_FLOOR_BOUND)


# -- the instrument is seen to fail ----------------------------------------------------------


def _shift_coefficient(k: int) -> tuple[float, ...]:
    entries = list(float64.COEFFICIENTS)
    entries[k] *= 1 + 2.0**-40
    return tuple(entries)


MUTATIONS: dict[str, tuple[str, Any, str]] = {
    "no error of the series": ("Q_RELATIVE", 0.0, "expm1_minus_x"),
    "a coefficient off by 2^-40": ("COEFFICIENTS", _shift_coefficient(1), "expm1_minus_x"),
    "ln 2's low part off by 2^-25": ("LN2_LOW", float64.LN2_LOW * (1 + 2.0**-25), "expm1"),
    "no unit roundoff": ("U", 0.0, "sigmoid"),
    "a floor that is not one": ("EXP_FLOOR_BOUND", 2.0**-1015, "exp"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_bound_or_constant_is_caught(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, value, basis = MUTATIONS[mutation]
    monkeypatch.setattr(float64, name, value)
    ratio, _ = worst_ratio(basis, basis_inputs(basis, 4000, seed=64))
    assert not ratio <= 1
