"""Reduced parameter gradients are scored against an exactly rounded sum."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from precision_lab.implementations import get_implementation
from precision_lab.oracle import enclosures, evaluate
from precision_lab.reduction import DATA, exact_sum, measure_reductions, tensors

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
