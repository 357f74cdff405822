"""Quantiles of Student's t, against closed forms and printed tables."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from precision_lab.numeric.students_t import quantile


@pytest.mark.parametrize("within", [0.5, 0.95, 0.98, 0.999])
def test_one_and_two_degrees_of_freedom_have_closed_forms(within: float) -> None:
    assert quantile(within, 1) == pytest.approx(math.tan(math.pi * within / 2), rel=1e-11)
    assert quantile(within, 2) == pytest.approx(within * math.sqrt(2 / (1 - within**2)), rel=1e-11)


@pytest.mark.parametrize(
    ("within", "freedom", "printed"),
    [(0.95, 3, 3.182), (0.95, 12, 2.179), (0.98, 24, 2.492), (0.98, 12, 2.681), (0.99, 30, 2.750)],
)
def test_quantiles_are_those_of_printed_tables(within: float, freedom: int, printed: float) -> None:
    assert quantile(within, freedom) == pytest.approx(printed, abs=0.0005)


def test_without_end_they_are_the_normal_distributions() -> None:
    assert quantile(0.98, math.inf) == pytest.approx(NormalDist().inv_cdf(0.99), rel=1e-9)
    assert quantile(0.95, 1e7) == pytest.approx(quantile(0.95, math.inf), rel=1e-6)
