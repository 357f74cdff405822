"""Errors of computed values, each by its definition, at values whose exact result is known by hand."""

from __future__ import annotations

import math

import numpy as np

from precision_lab.formats import get_format
from precision_lab.oracle import Reference
from precision_lab.scoring import errors as metrics

BF16 = get_format("bf16")


def exactly(*values: float) -> Reference:
    """The reference of exact values that float64 has, in bf16."""
    exact = np.array(values, np.float64)
    rounded = BF16.round(exact)
    ulp = BF16.ulp(np.where(np.isfinite(exact), exact, 0.0))
    with np.errstate(invalid="ignore"):
        tail = np.where(np.isfinite(rounded), (exact - rounded) / ulp, 0.0)
    n = exact.size
    return Reference(BF16, rounded, tail, ulp, exact, np.sign(exact), np.zeros(n, np.int8), np.zeros(n, bool))


def test_an_error_is_counted_from_the_exact_value_in_its_binade() -> None:
    """1 + 2^-9 lies a quarter of an ulp above 1; just below 2 ulps are as at 1, not as at 2."""
    exact = exactly(1 + 2.0**-9, 1 + 2.0**-9, 2 - 2.0**-20, -3.0, math.inf, 1.0)
    computed = np.array([1.0, 1 + 2.0**-7, 2.0, -3.0625, math.inf, math.nan])
    errors = metrics.ulp_error(computed, exact)
    assert errors[:4].tolist() == [-0.25, 0.75, 2.0**-13, -4.0]
    assert np.isnan(errors[4:]).all()


def test_an_infinity_or_nan_is_wrong_where_rounding_gives_another() -> None:
    exact = exactly(math.inf, math.inf, math.inf, math.nan, math.nan, 1.0, 1.0, 3.4e38 * 1.01, 1.0)
    computed = np.array([math.inf, -math.inf, 1.0, math.nan, 1.0, math.nan, math.inf, math.inf, 1.0])
    assert metrics.nonfinite_mismatch(computed, exact).tolist() == [
        False, True, True, False, True, True, True, False, False,
    ]  # fmt: skip


def test_a_result_is_correctly_rounded_or_not() -> None:
    exact = exactly(1 + 2.0**-9, 1 + 2.0**-9, 0.0, math.nan, math.inf)
    computed = np.array([1.0, 1 + 2.0**-7, -0.0, math.nan, BF16.max_finite])
    assert metrics.not_correctly_rounded(computed, exact).tolist() == [False, True, False, False, True]


def test_a_sign_matters_from_half_the_smallest_number_on() -> None:
    smallest = BF16.min_subnormal
    exact = exactly(1.0, -1.0, 1.0, 0.0, smallest / 2, smallest / 4, smallest / 2)
    computed = np.array([-1.0, 1.0, 0.0, -1.0, -smallest, -smallest, smallest])
    assert metrics.wrong_sign(computed, exact).tolist() == [True, True, False, False, True, False, False]


def test_a_zero_has_the_sign_of_what_rounds_to_it() -> None:
    """f(−0) is −0; a result that rounds to 0 from below is −0, and an exact 0 of a gradient has none."""
    smallest = BF16.min_subnormal
    exact = exactly(0.0, 0.0, 0.0, -smallest / 4, -smallest / 4, -1.0)
    x = np.array([-0.0, -0.0, 0.0, 1.0, 1.0, 1.0])
    computed = np.array([0.0, -0.0, -0.0, 0.0, -0.0, 0.0])
    assert metrics.zero_sign_mismatch(computed, exact, x, "forward").tolist() == [
        True, False, True, True, False, False,
    ]  # fmt: skip
    assert metrics.zero_sign_mismatch(computed, exact, x, "grad_x").tolist() == [
        False, False, False, True, False, False,
    ]  # fmt: skip


def test_correct_bits_are_those_of_the_relative_error_up_to_the_formats_own() -> None:
    exact = exactly(1.0, 1.0, 1.0, 1.0, 1.5, 1.0, math.inf, math.inf)
    computed = np.array([1.0, 1 + 2.0**-7, 1.25, -1.0, 1.5 + 2.0**-6, math.nan, math.inf, 1.0])
    errors = metrics.ulp_error(computed, exact)
    found = metrics.correct_bits(errors, exact)
    assert found[:4].tolist() == [8.0, 7.0, 2.0, 0.0]
    assert found[4] == math.log2(1.5 * 64)
    assert found[5:7].tolist() == [0.0, 8.0]


def test_a_step_against_the_exact_one_is_counted_where_that_is_more_than_rounding() -> None:
    exact = exactly(1.0, 2.0, 3.0, 3.0 + 2.0**-17, 2.5)
    order = np.arange(5)
    assert metrics.monotonicity_violations(np.array([1.0, 2.0, 3.0, 3.0, 2.5]), exact, order) == 0
    # 2 → 1.5 goes down where the exact values go up; 3 → 2.75 by less than rounding tells, as they do.
    assert metrics.monotonicity_violations(np.array([2.0, 1.5, 3.0, 2.75, 2.5]), exact, order) == 1
    assert metrics.monotonicity_violations(np.array([1.0, 2.0, 3.0, 3.0, 3.5]), exact, order) == 1
    assert metrics.monotonicity_violations(np.array([1.0, 1.0, 1.0, 1.0, 1.0]), exact, order) == 0


def test_a_jump_at_zero_is_the_spread_around_it_less_the_exact_one() -> None:
    x = np.array([-1.0, -1e-30, -0.0, 0.0, 1e-30, 5.0])
    exact = exactly(9.0, 0.25, 0.25, 0.25, 0.5, 9.0)
    assert metrics.jump_at_zero(np.array([9.0, 0.25, 0.25, 0.25, 0.5, 9.0]), exact, x) == 0.0
    assert metrics.jump_at_zero(np.array([9.0, 0.25, 0.75, 0.25, 0.5, 9.0]), exact, x) == 0.25
    assert metrics.jump_at_zero(np.array([9.0, -1.0, 0.25, 0.25, 0.5, 99.0]), exact, x) == 1.25
    assert math.isnan(metrics.jump_at_zero(np.array([9.0, math.inf, 0.25, 0.25, 0.5, 9.0]), exact, x))


def test_a_move_against_a_step_too_small_to_be_sure_of_is_none() -> None:
    """2^-9 ulp is as much as the oracle leaves open: at 1 in bf16, 2^-16."""
    computed, order = np.array([1.0, 0.9921875]), np.array([0, 1])
    assert metrics.monotonicity_violations(computed, exactly(1.0, 1 + 2.0**-17), order) == 0
    assert metrics.monotonicity_violations(computed, exactly(1.0, 1 + 2.0**-15), order) == 1
    assert metrics.monotonicity_violations(computed[::-1], exactly(1.0, 1 + 2.0**-15), order) == 0
