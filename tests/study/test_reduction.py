"""Reduced parameter gradients are scored against an exactly rounded sum."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from by_name import case, enclosures, exact_sum, get_implementation, measure_reductions, tensors

from precision_lab.formats import BF16, FP32, FloatFormat
from precision_lab.oracle import evaluate
from precision_lab.results import Failure, Reduction
from precision_lab.running.case import Case
from precision_lab.study.reduction import DATA, ExactSum, _blank, _score, failed_reductions

PARAMS = {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}
ITEMS = tuple(sorted(PARAMS.items()))


def test_exact_sum_of_squares_is_exact():
    x, upstream = tensors("bf16", "random")
    terms = (Fraction(g) * Fraction(v) ** 2 for g, v in zip(upstream, x, strict=True) if v > 0)
    exact = exact_sum("xielu", "grad_alpha_p", ITEMS, "bf16", "random")
    assert sum(map(Fraction, exact.parts), Fraction(0)) == sum(terms, Fraction(0))
    assert exact.error == 0.0


def test_enclosures_contain_the_exact_value():
    x = np.array([-3.0, -0.7, -1e-3, -1e-30, 0.0, 2.5])
    high, low, radius = enclosures("xielu", "grad_alpha_n", PARAMS, x)
    for value, h, t, r in zip(x, high, low, radius, strict=True):
        exact = evaluate("xielu", float(value), PARAMS, output="grad_alpha_n", bits=160)
        distance = abs(exact - h - t)
        assert distance <= r + abs(exact) * 2.0**-150


def test_cancelling_terms_have_a_large_condition_number():
    aligned = exact_sum("xielu", "grad_alpha_n", ITEMS, "fp32", "aligned")
    random = exact_sum("xielu", "grad_alpha_n", ITEMS, "fp32", "random")
    assert aligned.condition == pytest.approx(1.0, abs=1e-9)
    assert random.condition > 10


def test_every_parameter_and_data_set_is_reported():
    results = measure_reductions(get_implementation("xielu", "stable"), "fp32", PARAMS)
    assert {(r.output, r.data) for r in results} == {
        (output, words) for output in ("grad_alpha_p", "grad_alpha_n", "grad_beta") for words in DATA.values()
    }
    assert all(r.failure is None and abs(r.error_ulps) <= 1.0 for r in results)


def scored(got: Failure | tuple[float, FloatFormat], exact: ExactSum) -> Reduction:
    return _score(_blank(stable(), "grad_beta", "random"), got, exact)


def stable() -> Case:
    found: Case = case(get_implementation("xielu", "stable"), None, "bf16")
    return found


def test_a_sums_error_is_in_ulps_of_the_gradients_dtype_at_the_exact_sum() -> None:
    """Of a sum that float64 has as −4: 2^-5 in bf16 and 2^-21 in fp32."""
    exact = ExactSum((-4.0, 2.0**-60), 0.0, 7.0)
    r = scored((-4.0625, BF16), exact)
    assert (r.computed, r.exact, r.condition) == (-4.0625, -4.0, 7.0)
    assert r.error_ulps == pytest.approx(-0.0625 / 2.0**-5, rel=1e-12)
    assert r.relative_error == pytest.approx(0.0625 / 4, rel=1e-12)
    assert scored((-4.0625, FP32), exact).error_ulps == pytest.approx(-0.0625 / 2.0**-21, rel=1e-12)
    assert scored((-4.0, FP32), exact).error_ulps == -(2.0**-60) / 2.0**-21  # the second part counts


def test_sums_without_a_finite_figure_keep_the_exact_one() -> None:
    exact = ExactSum((2.0,), 0.0, 3.0)
    infinite = scored((float("inf"), FP32), exact)
    assert (infinite.computed, infinite.exact, infinite.condition) == (float("inf"), 2.0, 3.0)
    assert np.isnan(infinite.error_ulps)
    failed = scored(Failure("raised", "no"), exact)
    assert failed.failure is not None and np.isnan(failed.computed) and failed.exact == 2.0
    assert scored((1.0, FP32), ExactSum((0.0,), 0.0, 3.0)).relative_error == float("inf")


def test_a_sum_that_is_not_certified_is_no_figure() -> None:
    with pytest.raises(AssertionError, match="certified only to"):
        scored((2.0, FP32), ExactSum((2.0,), 2.0**-31, 1.0))
    assert scored((2.0, FP32), ExactSum((2.0,), 2.0**-33, 1.0)).error_ulps == 0.0


def test_the_condition_of_a_sum_is_that_of_its_terms() -> None:
    x, upstream = tensors("bf16", "random")
    terms = [Fraction(g) * Fraction(v) ** 2 for g, v in zip(upstream, x, strict=True) if v > 0]
    exact = exact_sum("xielu", "grad_alpha_p", ITEMS, "bf16", "random")
    assert exact.condition == pytest.approx(float(sum(map(abs, terms)) / abs(sum(terms))), rel=1e-12)
    assert set(tensors("bf16", "aligned")[1]) == {1.0}
    assert np.array_equal(tensors("bf16", "aligned")[0], x)


def test_failed_sums_are_named_for_every_parameter_and_data_set() -> None:
    found = failed_reductions(stable(), Failure("device_lost", "gone"))
    assert [(r.output, r.data) for r in found] == [
        (output, words) for words in DATA.values() for output in ("grad_alpha_p", "grad_alpha_n", "grad_beta")
    ]
    assert all(r.failure == Failure("device_lost", "gone") for r in found)


def test_small_parts_of_enclosures_are_part_of_the_sum():
    """d/dα_n in double-double: the sum of high parts alone is off by more than what is certified."""
    x, _ = tensors("fp32", "aligned")
    high, low, _ = enclosures("xielu", "grad_alpha_n", PARAMS, x)
    exact = exact_sum("xielu", "grad_alpha_n", ITEMS, "fp32", "aligned")
    whole = sum((Fraction(h) + Fraction(s) for h, s in zip(high, low, strict=True)), Fraction(0))
    assert sum(map(Fraction, exact.parts), Fraction(0)) == whole
    assert abs(whole - sum(map(Fraction, high), Fraction(0))) > Fraction(exact.error) > 0
