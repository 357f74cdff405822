"""Every bound that the compiled tiers claim, attacked with Arb's balls; and mpmath as a second witness."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from basis_witness import BASES, containment
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from precision_lab.functions.basis import BASIS
from precision_lab.numeric import error_free as exact
from precision_lab.oracle import double_double as dd
from precision_lab.oracle import exponential as tier1
from precision_lab.oracle import piecewise_compiler
from precision_lab.oracle.arb_precision import working_precision

COMPILED = tuple(
    [
        "sigmoid",
        "sigmoid'",
        "sigmoid_of_minus_x",
        "tanh",
        "tanh'",
        "softplus",
        "logsigmoid",
        "silu",
        "silu'",
        "mish",
        "mish'",
        "gelu",
        "gelu'",
        "gelu_tanh",
        "gelu_tanh'",
        "atlu",
        "atlu'",
    ]
)
FP32_SMALLEST = 2.0**-149  # the first tier serves formats up to fp32


def near(points: np.ndarray, reach: int = 2) -> np.ndarray:
    """Points and their float64 neighbours."""
    found = [points]
    for _ in range(reach):
        found += [np.nextafter(found[-1], np.inf), np.nextafter(found[0], -np.inf)]
    return np.concatenate(found)


def exp_points(n: int, seed: int) -> np.ndarray:
    """x ≤ 0: boundaries of the reduction, binades, −1, the floor, subnormals of fp32, random."""
    rng = np.random.default_rng(seed)
    k = np.arange(1, 2021)
    x = np.concatenate(
        [
            near(-k * (math.log(2) / 2)),
            near(-np.ldexp(1.0, np.arange(-149, 10))),
            near(np.array([-1.0, -700.0, -0.347, -0.5])),
            -np.ldexp(rng.uniform(1, 2, n // 4), rng.integers(-149, 9, n // 4)),
            rng.uniform(-700, 0, n // 4),
            rng.uniform(-2, 0, n // 2).astype(np.float32).astype(np.float64),
        ]
    )
    return x[(x >= -700) & (x < 0)]


def tiles(function: Any, x: np.ndarray, outputs: int = 1) -> list[np.ndarray]:
    results = [np.empty(x.size) for _ in range(outputs)]
    for start in range(0, x.size, 256):
        part = np.ascontiguousarray(x[start : start + 256])
        buffers = [np.empty(256) for _ in range(outputs + (2 if function is dd.exp_block else 0))]
        function(part, part.size, *buffers)
        for result, buffer in zip(results, buffers, strict=False):
            result[start : start + part.size] = buffer[: part.size]
    return results


def check_float64(n: int, seed: int) -> dict[str, float]:
    """Largest observed error over claimed bound, per function of the first tier."""
    x = exp_points(n, seed)
    inside = x[x >= -1]
    (e,) = tiles(tier1.exp_tile, x)
    (q,) = tiles(tier1.q_tile, inside)
    m = inside + q
    zero = np.zeros_like
    return {
        "exp": containment("exp", x, e, zero(e), e * tier1.EXP_RELATIVE)[0],
        "q": containment("expm1_minus_x", inside, q, zero(q), q * tier1.Q_RELATIVE)[0],
        "expm1": containment("expm1", inside, m, zero(m), -m * tier1.EXPM1_RELATIVE)[0],
    }


def check_double_double(n: int, seed: int) -> dict[str, float]:
    x = exp_points(n, seed)
    inside = x[x >= -1]
    e, e_low = tiles(dd.exp_block, x, 2)
    q, q_low = tiles(dd.q_block, inside, 2)
    return {
        "exp": containment("exp", x, e, e_low, e * dd.EXP_RELATIVE_DD + 2.0**-1074)[0],
        "q": containment("expm1_minus_x", inside, q, q_low, q * dd.Q_RELATIVE_DD)[0],
    }


def test_first_tier_of_the_exponentials_keeps_its_bounds() -> None:
    # The bounds are not idle either: the worst of these inputs uses a good part of each.
    for name, ratio in check_float64(4000, 1).items():
        assert 0.1 < ratio <= 1, (name, ratio)


def test_second_tier_of_the_exponentials_keeps_its_bounds() -> None:
    for name, ratio in check_double_double(1500, 2).items():
        assert 0.01 < ratio <= 1, (name, ratio)


@pytest.mark.exhaustive
def test_exponentials_keep_their_bounds_on_a_million_inputs() -> None:
    for name, ratio in {**check_float64(1_000_000, 3)}.items():
        assert ratio <= 1, (name, ratio)
    for name, ratio in check_double_double(1_000_000, 4).items():
        assert ratio <= 1, (name, ratio)


# -- double-double arithmetic -----------------------------------------------------------------------

floats = st.floats(allow_nan=False, allow_infinity=False, width=64).filter(
    lambda v: v == 0 or abs(v) > 1e-140
)
moderate = floats.filter(lambda v: abs(v) < 1e140)


def pair(high: float, share: float) -> tuple[float, float]:
    """A normalised double-double number near `high`."""
    low = high * share * 2.0**-53
    return exact.fast_two_sum(high, low)


shares = st.sampled_from([0.0, 1.0, -1.0, 0.5, -0.75, 2.0**-40]) | st.floats(-1, 1)


@given(moderate, moderate)
def test_sums_and_products_of_two_floats_are_exact(a: float, b: float) -> None:
    s, e = exact.two_sum(a, b)
    assert Fraction(s) + Fraction(e) == Fraction(a) + Fraction(b)
    p, e = exact.two_product(a, b)
    assert Fraction(p) + Fraction(e) == Fraction(a) * Fraction(b)


@given(moderate, shares, moderate, shares)
def test_double_double_steps_keep_their_relative_bounds(a: float, i: float, b: float, j: float) -> None:
    (ah, al), (bh, bl) = pair(a, i), pair(b, j)
    x, y = Fraction(ah) + Fraction(al), Fraction(bh) + Fraction(bl)
    u2 = Fraction(1, 2**106)
    for found, true, factor in (
        (exact.dd_plus_dd(ah, al, bh, bl), x + y, Fraction(301, 100)),
        (exact.dd_times_float(ah, al, b), x * Fraction(b), Fraction(2)),
        (exact.dd_times_dd(ah, al, bh, bl), x * y, Fraction(4)),
    ):
        assert abs(Fraction(found[0]) + Fraction(found[1]) - true) <= factor * u2 * abs(true)


radii = st.sampled_from([0.0, 1e-300, 1e-20]) | st.floats(0, 1e10)
anything = (
    st.floats(-1e150, 1e150) | st.floats(-1e-150, 1e-150) | st.sampled_from([0.0, 5e-324, 2.0**-540, 1.0])
)


@given(anything, shares, radii, anything, shares, radii)
def test_sums_and_products_of_enclosures_contain_the_exact_ones(
    a: float, i: float, r: float, b: float, j: float, t: float
) -> None:
    (ah, al), (bh, bl) = pair(a, i), pair(b, j)
    ends_a = [Fraction(ah) + Fraction(al) + side * Fraction(r) for side in (-1, 0, 1)]
    ends_b = [Fraction(bh) + Fraction(bl) + side * Fraction(t) for side in (-1, 0, 1)]
    for operation, found in (
        (lambda x, y: x + y, dd.ball_add(ah, al, r, bh, bl, t)),
        (lambda x, y: x * y, dd.ball_times(ah, al, r, bh, bl, t)),
    ):
        middle, radius = Fraction(found[0]) + Fraction(found[1]), Fraction(found[2])
        assert all(abs(operation(x, y) - middle) <= radius for x in ends_a for y in ends_b)


@given(st.integers(-(2**50), 2**50), st.integers(-60, 60), st.integers(-(2**26), 2**26))
def test_what_combines_exactly_has_radius_0(a: int, e: int, b: int) -> None:
    x, y = math.ldexp(a, e), float(b)
    assert dd.ball_add(x, 0.0, 0.0, y, 0.0, 0.0)[2] == 0
    assert dd.ball_times(x, 0.0, 0.0, y, 0.0, 0.0)[2] == 0


# -- what the first tier knows beyond its bounds ------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, basis in BASIS.items() if basis.at_zero is not None])
def test_value_and_slope_at_zero_are_the_definitions(name: str) -> None:
    from precision_lab.oracle import arb_series

    value, slope = BASIS[name].at_zero  # type: ignore[misc]
    with working_precision(200, 6):
        for side in (-1, 1):
            taylor = piecewise_compiler._series(BASIS[name], side, 0, 6, None)
            # 3/5 is no binary number; 190 bits tell it from any other value that a slip would give.
            assert taylor[0].overlaps(arb_series.to_arb(value))
            assert taylor[0].is_exact() or taylor[0].rel_accuracy_bits() > 190
            assert abs(float(taylor[1]) * side - slope) < 1e-5
            # From x² on at most 2x² in all, for |x| < 2^-30: coefficients around the whole stretch.
            around = piecewise_compiler._series(BASIS[name], side, arb(0, 2.0**-30), 3, None)
            assert abs(around[2]) <= 2
            if slope == 0:  # then it is exactly that, and x² has the sign and the weight of its bend
                assert taylor[1].is_zero() and abs(around[2] - BASIS[name].bend) <= arb(2) ** -20
            else:
                assert BASIS[name].bend == 0  # which nobody reads


FAR = [
    (name, side)
    for name, basis in BASIS.items()
    for side in (-1, 1)
    if basis.approach[0 if side < 0 else 1] is not None
]


@pytest.mark.parametrize(("name", "side"), FAR)
def test_the_side_from_which_an_asymptote_is_approached(name: str, side: int) -> None:
    from arb_witness import arithmetic

    basis = BASIS[name]
    sign = basis.approach[0 if side < 0 else 1]
    asymptote = basis.at_minus_infinity if side < 0 else basis.at_plus_infinity

    def rest(x: float) -> arb:
        point = arb(side * x)
        powers = (arb(1), point, point * point, point * point * point)
        polynomial = sum((arb(float(c)) * p for c, p in zip(asymptote, powers, strict=True)), arb(0))
        return BASES[name](point) - polynomial

    # That the sign stays is said in `BasisFunction`; here it is looked at, closely.
    with arithmetic(9000):
        top = min(basis.beyond * 1.1, 900.0) if 0 < basis.beyond < math.inf else 2.0**40
        for x in np.geomspace(2.0, top, 400).tolist() if sign else ():
            assert rest(x) > 0 if sign > 0 else rest(x) < 0, (name, x)
        for x in (64.0, 128.0, 500.0):
            assert abs(rest(x)) < arb(2) ** -16
        if 0 < basis.beyond < math.inf:
            assert abs(rest(basis.beyond)) < arb(2) ** -1060
            assert abs(rest(2 * basis.beyond)) < arb(2) ** -2000


def test_a_closed_slope_is_the_derivative_of_its_formula() -> None:
    from precision_lab.oracle import arb_series

    for name, basis in BASIS.items():
        if basis.slope is None:
            continue
        for point in (-7.5, -1.0, -0.1, 0.0, 0.3, 2.0, 40.0):
            with working_precision(300, 8):
                m, x = arb_series.ArbSeriesContext(), arb_series.ArbSeries(arb_series.arb_series([point, 1]))
                formula, slope = basis.formula(m, x), basis.slope(m, x)
                for k in range(6):
                    assert (formula.coefficient(k + 1) * (k + 1)).overlaps(slope.coefficient(k)), (
                        name,
                        point,
                    )
