"""Kendall's τ, its interval and its chance, against definitions written out."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest

from precision_lab.report import ranks
from precision_lab.report.ranks import chance, order


def sign(a: float, b: float) -> int:
    return (a > b) - (a < b)


def score(a: list[float], b: list[float]) -> int:
    """Concordant pairs less discordant ones."""
    return sum(sign(a[i], a[j]) * sign(b[i], b[j]) for i, j in itertools.combinations(range(len(a)), 2))


def tau_b(a: list[float], b: list[float]) -> float:
    pairs = list(itertools.combinations(range(len(a)), 2))
    apart = [sum(v[i] != v[j] for i, j in pairs) for v in (a, b)]
    return score(a, b) / math.sqrt(apart[0] * apart[1])


def named(values: list[float]) -> dict[str, float]:
    return {f"n{k}": v for k, v in enumerate(values)}


def of(values: list[list[float]]) -> dict[str, dict[int, float]]:
    return {f"n{k}": dict(enumerate(seeds)) for k, seeds in enumerate(values)}


TIED = [[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 2.0, 3.0], [2.0, 1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 2.0, 3.0, 3.0],
        [7.0, 7.0, 1.0]]  # fmt: skip


@pytest.mark.parametrize("other", TIED, ids=str)
def test_chance_is_the_share_of_all_permutations(other: list[float]) -> None:
    scores = [score(list(p), other) for p in itertools.permutations(map(float, range(len(other))))]
    for least in range(math.comb(len(other), 2) + 1):
        share = Fraction(sum(abs(s) >= least for s in scores), len(scores))
        assert chance(other, least) == chance(other, -least) == float(share)


def test_four_items_cannot_be_told_from_chance_and_thirteen_can() -> None:
    assert chance([1.0, 2.0, 3.0, 4.0], 6) == pytest.approx(2 / 24)
    # 13 items of which two pairs are equal, as in Table 4: 13!/(2!·2!) orders, two of them the extremes.
    ties = [1.0, 1.0, *map(float, range(2, 8)), 8.0, 8.0, 9.0, 10.0, 11.0]
    assert chance(ties, 76) == pytest.approx(2 * 4 / math.factorial(13), rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_tau_allows_for_ties(seed: int) -> None:
    draw = random.Random(seed)
    a, b = ([float(draw.randint(0, 4)) for _ in range(9)] for _ in range(2))
    found = order(of([[v] for v in a]), named(b))
    assert found is not None
    assert found.tau == pytest.approx(tau_b(a, b))
    differ = [(i, j) for i, j in itertools.combinations(range(9), 2) if b[i] != b[j]]
    assert found.pairs == len(differ)
    assert found.same == sum(sign(a[i], a[j]) == sign(b[i], b[j]) for i, j in differ)
    assert math.isnan(found.low) and found.seeds == 1 and not found.is_known


def test_clear_differences_leave_an_interval_of_a_point() -> None:
    found = order(of([[1.0, 1.1, 0.9], [2.0, 2.1, 1.9], [3.0, 3.1, 2.9]]), named([5.0, 6.0, 7.0]))
    assert found is not None and (found.tau, found.low, found.high) == (1.0, 1.0, 1.0)
    assert (found.apart, found.every) == (3, 3)


def test_what_a_seed_moves_all_items_by_changes_nothing() -> None:
    values = [[1.00, 1.03, 0.98], [1.02, 1.00, 1.01], [1.05, 1.01, 1.04], [1.03, 1.06, 1.02]]
    moved = [[v + shift for v, shift in zip(row, (0.0, 5.0, -3.0), strict=True)] for row in values]
    other = named([1.0, 2.0, 3.0, 4.0])
    first, second = order(of(values), other), order(of(moved), other)
    assert first is not None and second is not None
    assert (first.tau, first.low, first.high) == (second.tau, second.low, second.high)
    assert first.low < first.tau <= first.high


def test_the_spread_of_a_mean_of_seeds_is_that_of_its_standard_error() -> None:
    """Two of four items, σ of the seeds' spread known: how often their order turns is the normal's tail."""
    draw, n = random.Random(1), 400
    noise = [[draw.gauss(0, 1) for _ in range(n)] for _ in range(4)]
    centred = [[v - sum(row) / n for v in row] for row in noise]
    values = [[v + centre for v in row] for row, centre in zip(centred, (0.0, 0.1, 50.0, 90.0), strict=True)]
    found = ranks._drawn(np.array(values), np.random.default_rng(0))
    assert found.std(0) == pytest.approx([1 / math.sqrt(n)] * 4, rel=0.1)
    turned = float((found[:, 0] > found[:, 1]).mean())
    assert turned == pytest.approx(0.5 * math.erfc(0.1 / math.sqrt(2 / n) / math.sqrt(2)), abs=0.03)


def test_the_other_lists_noise_widens_the_interval() -> None:
    here = of([[1.0, 1.01], [2.0, 2.01], [3.0, 3.01], [4.0, 4.01]])
    other = named([2.323, 2.327, 2.337, 2.353])
    sharp, noisy = order(here, other), order(here, other, normal=0.004)
    assert sharp is not None and noisy is not None
    assert sharp.low == sharp.high == noisy.high == 1.0 and noisy.low < 0.7
    # Equal figures that were rounded: either may be the smaller one.
    tied = order(here, named([17.52, 17.52, 18.0, 19.0]), rounded=0.005)
    assert tied is not None and tied.pairs == 5 and tied.low < tied.tau < 1.0 and tied.high == 1.0


def test_only_what_both_lists_have_and_seeds_that_have_all_of_it_count() -> None:
    here = {**of([[1.0, 9.0], [2.0, 8.0], [3.0, 7.0]]), "n9": {0: 0.0}}
    here["n2"].pop(1)
    found = order(here, named([1.0, 2.0, 3.0]))
    assert found is not None and found.seeds == 1 and found.tau == 1.0 and found.names == ("n0", "n1", "n2")
    assert order(here, named([1.0, 2.0])) is None
    assert order({**here, "n2": {5: 1.0}}, named([1.0, 2.0, 3.0])) is None


def test_equal_lists_have_no_correlation() -> None:
    found = order(of([[1.0, 1.0]] * 3), named([1.0, 2.0, 3.0]))
    assert found is not None and math.isnan(found.tau) and math.isnan(found.low) and not found.is_known
