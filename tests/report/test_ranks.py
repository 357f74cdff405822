"""Kendall's τ, its interval and its chance, against definitions written out."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest

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


def test_a_pair_that_is_not_known_may_stand_either_way() -> None:
    """Residuals ±0.05 of four items with two seeds: 3 degrees of freedom, s² = 8·0.05²/3."""
    values = [
        [1.0 + 0.05, 1.0 - 0.05],
        [1.3 - 0.05, 1.3 + 0.05],
        [3.0 + 0.05, 3.0 - 0.05],
        [5.0 - 0.05, 5.0 + 0.05],
    ]
    margin = 4.541 * math.sqrt(8 * 0.05**2 / 3 * 2 / 2)
    assert 0.3 < margin < 0.4
    found = order(of(values), named([1.0, 2.0, 3.0, 4.0]))
    assert found is not None
    assert (found.apart, found.every, found.tau) == (5, 6, 1.0)
    assert (found.low, found.high) == (pytest.approx(4 / 6), 1.0)
    apart = order(
        of([[v + 0.05 * (k > 0) for v in row] for k, row in enumerate(values)]), named([1.0, 2.0, 3.0, 4.0])
    )
    assert apart is not None and (margin < 0.35) == (apart.apart == 6)


def test_what_a_seed_moves_all_items_by_changes_nothing() -> None:
    values = [[1.00, 1.03, 0.98], [1.02, 1.00, 1.01], [1.05, 1.01, 1.04], [1.13, 1.16, 1.12]]
    moved = [[v + shift for v, shift in zip(row, (0.0, 5.0, -3.0), strict=True)] for row in values]
    other = named([1.0, 2.0, 3.0, 4.0])
    first, second = order(of(values), other), order(of(moved), other)
    assert first is not None and second is not None
    assert (first.tau, first.low, first.high, first.apart) == (
        second.tau,
        second.low,
        second.high,
        second.apart,
    )
    assert first.low < first.tau <= first.high and 0 < first.apart < 6


def test_what_the_other_list_does_not_tell_apart_may_stand_either_way() -> None:
    here = of([[1.0, 1.01], [2.0, 2.01], [3.0, 3.01], [4.0, 4.01]])
    other = named([2.323, 2.327, 2.337, 2.353])
    sharp, noisy = order(here, other), order(here, other, normal=0.004)
    assert sharp is not None and noisy is not None
    assert (sharp.low, sharp.high) == (1.0, 1.0)
    # 2.326·√2·0.004 = 0.0132: 0.004 and 0.010 are within.
    assert (noisy.low, noisy.high) == (pytest.approx((4 - 2) / 6), 1.0)
    # Equal figures that were rounded: either may be the smaller one, and so with one unit between them.
    tied = order(here, named([17.52, 17.52, 18.0, 19.0]), rounded=0.005)
    assert tied is not None and (tied.pairs, tied.low, tied.high) == (5, pytest.approx(4 / 6), 1.0)


@pytest.mark.parametrize(("seeds", "sigma"), [(2, 0.05), (3, 0.05), (3, 0.02), (10, 0.05)])
def test_the_interval_holds_the_true_correlation(seeds: int, sigma: float) -> None:
    """Of thirteen items over 0.12, with noise that is not alike in all: in 95 % of 300 worlds and more."""
    draw = random.Random(seeds)
    other = [17.52, 17.52, 17.58, 17.75, 17.84, 17.88, 17.91, 17.91, 18.12, 18.15, 18.18, 18.40, 18.57]
    held = 0
    for world in range(300):
        true = [0.01 * k for k in range(13)]
        if world % 3 == 0:
            draw.shuffle(true)
        else:
            true = [v + draw.gauss(0, 0.03 * (world % 3 - 1)) for v in true]
        moved = [draw.gauss(0, 0.1) for _ in range(seeds)]
        own = [sigma * math.exp(draw.gauss(0, 0.3)) for _ in true]
        values = [[v + draw.gauss(0, o) + by for by in moved] for v, o in zip(true, own, strict=True)]
        found = order(of(values), named(other), rounded=0.005)
        assert found is not None
        held += found.low - 1e-9 <= tau_b(true, other) <= found.high + 1e-9
    assert held >= 285


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
