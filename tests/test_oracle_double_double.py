"""Tier 2's exact transformations against fractions, and its balls against Arb's."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from basis_witness import CONTEXT_BASES, basis_inputs, basis_witness, containment
from flint import arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_lab.functions.basis import BASIS
from precision_lab.oracle import double_double
from precision_lab.oracle.double_double import BallDD, ContextDD, two_product, two_sum

SETTINGS = settings(max_examples=300, deadline=None, derandomize=True, database=None)
PER_BASIS = 20_000
NARROW = 2.0**-94  # radius over |value| where nothing cancels


def evaluate(basis: str, x: np.ndarray) -> BallDD:
    function = BASIS[basis]
    zero = np.zeros_like(x)
    m = ContextDD()
    with np.errstate(all="ignore"):
        point = BallDD(x, zero, zero)
        ball = getattr(m, function.kernel)(point) if function.kernel else function.formula(m, point)
    return BallDD(ball.high + zero, ball.low + zero, ball.radius + zero)


def worst_ratio(basis: str, x: np.ndarray) -> tuple[float, float]:
    ball = evaluate(basis, x)
    return containment(basis, x, ball.high, ball.low, ball.radius)


@pytest.mark.parametrize("basis", CONTEXT_BASES)
def test_every_ball_contains_arbs(basis: str) -> None:
    ratio, where = worst_ratio(basis, basis_inputs(basis, PER_BASIS, seed=128))
    assert ratio <= 1, f"{basis} leaves its ball at x={where!r} ({where.hex()}): error/radius {ratio}"


@pytest.mark.exhaustive
@pytest.mark.parametrize("basis", CONTEXT_BASES)
def test_a_million_balls_contain_arbs(basis: str) -> None:
    ratio, where = worst_ratio(basis, basis_inputs(basis, 1_000_000, seed=228))
    assert ratio <= 1, f"{basis} leaves its ball at x={where!r} ({where.hex()}): error/radius {ratio}"


@pytest.mark.parametrize("basis", ["exp", "expm1", "expm1_minus_x", "sigmoid", "silu"])
def test_balls_are_narrow_where_nothing_cancels(basis: str) -> None:
    ball = evaluate(basis, x := -np.geomspace(2.0**-400, 600, 4001))
    relative = ball.radius / np.abs(ball.high)
    assert relative.max() <= NARROW, x[np.argmax(relative)]


@SETTINGS
@given(st.floats(-690, 600), st.floats(-110, -13))
@pytest.mark.parametrize("name", ["exp", "expm1", "sigmoid"])
def test_an_uncertain_argument_widens_the_ball_enough(name: str, x: float, log_radius: float) -> None:
    radius = 2.0**log_radius
    ball = getattr(ContextDD(), name)(BallDD(np.array([x]), np.zeros(1), np.array([radius])))
    middle = Fraction(float(ball.high[0])) + Fraction(float(ball.low[0]))
    for end in (Fraction(x) - Fraction(radius), Fraction(x) + Fraction(radius)):
        with_bits = basis_witness(name, end, 1200)
        before, ctx.prec = ctx.prec, 1300
        try:
            error = abs(with_bits - arb(float(ball.high[0])) - arb(float(ball.low[0])))
            assert error <= arb(float(ball.radius[0])), float(middle)
        finally:
            ctx.prec = before


# -- exact transformations ---------------------------------------------------------------------


@SETTINGS
@given(st.floats(-1e307, 1e307), st.floats(-1e307, 1e307))
def test_two_sum_loses_nothing(a: float, b: float) -> None:
    s, e = two_sum(a, b)
    assert s == a + b
    assert Fraction(s) + Fraction(e) == Fraction(a) + Fraction(b)


WITHIN = st.builds(math.ldexp, st.floats(0.5, 1), st.integers(-480, 494)) | st.just(0.0)


@SETTINGS
@given(WITHIN, WITHIN, st.booleans())
def test_two_product_loses_nothing_in_its_range(a: float, b: float, negative: bool) -> None:
    a = -a if negative else a
    p, e = two_product(a, b)
    if p != 0 and abs(p) < 2.0**-960:
        return
    assert Fraction(p) + Fraction(e) == Fraction(a) * Fraction(b)


def test_two_product_is_not_exact_below_its_range() -> None:
    """The range is no decoration: below it the low part is lost, which is why it is charged."""
    a = math.ldexp(1 + 2.0**-52, -520)
    p, e = two_product(a, a)
    assert Fraction(p) + Fraction(e) != Fraction(a) * Fraction(a)


# -- ball operations ----------------------------------------------------------------------------

HIGH = st.one_of(
    st.floats(-1e290, 1e290),
    st.floats(-8, 8),
    st.builds(math.ldexp, st.floats(-2, 2), st.integers(-1074, -800)),
    st.builds(math.ldexp, st.floats(-2, 2), st.integers(-560, -380)),
    st.just(0.0),
)
LOW = st.floats(-0.5, 0.5)
RELATIVE = st.sampled_from([0.0, 2.0**-104, 2.0**-60, 0.01])


def make(high: float, low: float, relative: float) -> tuple[BallDD, list[Fraction]]:
    low_part = low * math.ulp(high) if high and abs(high) > 2.0**-960 else 0.0
    radius = abs(high) * relative
    high, low_part = (float(v) for v in two_sum(high, low_part))
    middle = Fraction(high) + Fraction(low_part)
    return BallDD(np.array([high]), np.array([low_part]), np.array([radius])), [
        middle - Fraction(radius),
        middle,
        middle + Fraction(radius),
    ]


@SETTINGS
@given(HIGH, LOW, RELATIVE, HIGH, LOW, RELATIVE)
@pytest.mark.parametrize("operation", ["+", "-", "*", "/"])
def test_operations_contain_every_exact_result(
    operation: str, a: float, al: float, ar: float, b: float, bl: float, br: float
) -> None:
    exact: dict[str, Callable[[Any, Any], Any]] = {
        "+": lambda p, q: p + q,
        "-": lambda p, q: p - q,
        "*": lambda p, q: p * q,
        "/": lambda p, q: p / q,
    }
    left, left_ends = make(a, al, ar)
    right, right_ends = make(b, bl, br)
    with np.errstate(all="ignore"):
        ball = exact[operation](left, right)
    high, low, radius = float(ball.high[0]), float(ball.low[0]), float(ball.radius[0])
    if not (math.isfinite(high) and math.isfinite(low) and math.isfinite(radius)):
        return  # nothing is claimed: NaN and infinity decide nothing in `round_enclosure`
    for p in left_ends:
        for q in right_ends:
            if operation == "/" and q == 0:
                pytest.fail("a quotient by a ball around 0 claims a finite radius")
            assert abs(exact[operation](p, q) - Fraction(high) - Fraction(low)) <= Fraction(radius)


@SETTINGS
@given(st.floats(2.0**-700, 1e290), LOW, st.sampled_from([0.0, 2.0**-104, 2.0**-60]))
def test_square_roots_contain_the_exact_root(x: float, low: float, relative: float) -> None:
    ball, interval = make(x, low, relative)
    root = ContextDD().sqrt(ball)
    middle = Fraction(float(root.high[0])) + Fraction(float(root.low[0]))
    radius = Fraction(float(root.radius[0]))
    assert (middle - radius) ** 2 <= interval[0] and interval[2] <= (middle + radius) ** 2
    if relative == 0:
        assert radius <= middle * Fraction(1, 2**95)


def test_combinations_that_are_exact_have_no_radius() -> None:
    x = BallDD(np.array([1 + 2.0**-20]), np.zeros(1), np.zeros(1))
    assert (x * x - x + 1).radius[0] == 0


def test_the_constants_are_what_they_claim() -> None:
    before, ctx.prec = ctx.prec, 400
    try:
        high, low, _ = double_double.LN2
        assert abs(arb(2).log() - arb(high) - arb(low)) <= arb(double_double.LN2_RADIUS)
        pi = ContextDD().pi
        assert abs(arb.pi() - arb(float(pi.high)) - arb(float(pi.low))) <= arb(float(pi.radius))
    finally:
        ctx.prec = before


# -- the instrument is seen to fail -------------------------------------------------------------


def _shift(k: int, relative: float) -> Any:
    entries = list(double_double._COEFFICIENTS)
    high, low, rest = entries[k]
    entries[k] = (high, low + high * relative, rest)
    return tuple(entries)


def _ln2_off() -> tuple[float, float, float]:
    high, low, rest = double_double.LN2
    return high, low * (1 + 2.0**-40), rest


MUTATIONS: dict[str, tuple[str, Callable[[], Any], str]] = {
    "a coefficient off by 2^-88": ("_COEFFICIENTS", lambda: _shift(1, 2.0**-88), "expm1_minus_x"),
    "a series that ends too early": (
        "_COEFFICIENTS",
        lambda: double_double._COEFFICIENTS[:18],
        "expm1_minus_x",
    ),
    "ln 2's low part off by 2^-40": ("LN2", _ln2_off, "expm1"),
    "a product that drops its low part": ("two_product", lambda: lambda a, b: (a * b, 0.0 * a), "x^3"),
    "a sum that drops its low part": ("two_sum", lambda: lambda a, b: (a + b, 0.0 * a), "expm1"),
    "a floor that is not one": ("EXP_FLOOR_BOUND", lambda: 2.0**-1015, "exp"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_bound_or_constant_is_caught(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, value, basis = MUTATIONS[mutation]
    monkeypatch.setattr(double_double, name, value())
    ratio, _ = worst_ratio(basis, basis_inputs(basis, 4000, seed=128))
    assert not ratio <= 1
