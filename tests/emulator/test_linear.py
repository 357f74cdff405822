"""Extremes of sums under conditions, against every corner tried one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from precision_lab.emulator.linear import Conditions


def test_the_ends_of_a_range_are_found_with_the_numbers_that_take_them() -> None:
    conditions = Conditions(2)
    conditions.at_most({0: 1.0, 1: 2.0}, 14.0)
    conditions.at_least({0: 3.0, 1: -1.0}, 0.0)
    conditions.at_most({0: 1.0, 1: -1.0}, 2.0)
    found = conditions.solved()
    assert found is not None
    value, where = found.most({0: 3.0, 1: 4.0})
    assert value == pytest.approx(34.0) and where == pytest.approx([6.0, 4.0])
    assert found.least({0: 3.0, 1: 4.0})[0] == pytest.approx(0.0)


def test_a_sum_without_a_bound_is_infinite() -> None:
    conditions = Conditions(2)
    conditions.equal({0: 1.0, 1: -1.0}, 0.0)
    found = conditions.solved()
    assert found is not None and found.most({0: 1.0})[0] == math.inf


def test_conditions_that_contradict_each_other_have_no_solution() -> None:
    conditions = Conditions(1)
    conditions.at_least({0: 1.0}, 2.0)
    conditions.at_most({0: 1.0}, 1.0)
    assert conditions.solved() is None


def test_a_condition_said_twice_changes_nothing() -> None:
    conditions = Conditions(2)
    for _ in range(2):
        conditions.equal({0: 1.0, 1: 1.0}, 5.0)
    found = conditions.solved()
    assert found is not None and found.most({0: 2.0, 1: 1.0})[0] == pytest.approx(10.0)


@pytest.mark.parametrize("seed", range(40))
def test_no_corner_lies_beyond_what_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, rows = 3, 4
    table = rng.integers(-3, 4, (rows, n)).astype(float)
    bounds = rng.integers(-2, 7, rows).astype(float)
    conditions = Conditions(n)
    for row, bound in zip(table, bounds, strict=True):
        conditions.at_most(dict(enumerate(row)), bound)
    conditions.at_most(dict.fromkeys(range(n), 1.0), 20.0)  # so that there is an end
    weights = rng.integers(-4, 5, n).astype(float)
    whole = np.vstack([table, np.ones(n), -np.eye(n)])
    limits = np.concatenate([bounds, [20.0], np.zeros(n)])
    corners = []
    for chosen in itertools.combinations(range(len(whole)), n):
        if abs(np.linalg.det(whole[list(chosen)])) > 1e-9:
            at = np.linalg.solve(whole[list(chosen)], limits[list(chosen)])
            if (whole @ at <= limits + 1e-7).all():
                corners.append(float(weights @ at))
    found = conditions.solved()
    assert (found is None) == (not corners)
    if found is not None:
        assert found.most(dict(enumerate(weights)))[0] == pytest.approx(max(corners))
        assert found.least(dict(enumerate(weights)))[0] == pytest.approx(min(corners))
