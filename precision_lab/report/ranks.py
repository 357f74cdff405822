"""Rank correlation of two short lists, and how far few items and few seeds let one believe it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

DRAWS = 4000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """How far the order of some items here is that of another list of the same items.

    Attributes:
        names: of the items, in the other list's order.
        tau: Kendall's τ-b, which allows for ties; NaN where either list has but one value.
        low, high: 95 % interval; NaN with a single seed, of which no spread is known.
        same, pairs: pairs in the same order in both, of those that the other list tells apart.
        apart, every: pairs whose order here is the same in 97.5 % of the draws of other seeds, of all pairs.
        chance: the probability that an order drawn at random agrees, or disagrees, at least as much.
        seeds: that have all items.
    """

    names: tuple[str, ...]
    tau: float
    low: float
    high: float
    same: int
    pairs: int
    apart: int
    every: int
    chance: float
    seeds: int

    @property
    def is_known(self) -> bool:
        """Whether it can be told from no agreement at all: from chance, and by its interval."""
        return self.chance <= 0.05 and (self.low > 0 or self.high < 0)


def order(
    here: Mapping[str, Mapping[int, float]],
    there: Mapping[str, float],
    *,
    normal: float = 0.0,
    rounded: float = 0.0,
    seed: int = 0,
) -> Order | None:
    """The order of means over seeds, beside another list's.

    The interval is of these items: what other seeds, and another run of the other list, might have given.
    4000 times, each item's residuals (its value of a seed, less its mean, less what that seed moves all items
    by, which changes no order) are drawn anew with replacement, as many as there are seeds, and made larger
    by √(s/(s−1))·√(n/(n−1)) for s seeds and n items, which the two means have taken away from them; their
    mean is added to the item's mean; and to the other list's values noise is added. The interval holds 95 %
    of the resulting τ, and τ itself. It leans towards 0, since noise is added to what is noisy already.

    That these items are few is not in the interval: `chance` says what that means. It is exact.

    Args:
        here: value by seed, by item. Items that the other list lacks are passed over, and so are seeds that
            lack one of the others.
        there: the other list.
        normal: standard deviation of its values' noise.
        rounded: half of a unit of the last digit to which its values are given.

    Returns:
        None for fewer than three items, or no seed that has all.

    Source: Kendall, Rank Correlation Methods; the residuals of a two-way layout as in Davison and Hinkley,
    Bootstrap Methods and their Application, section 6.
    """
    names = tuple(sorted((name for name in here if name in there), key=lambda name: there[name]))
    if len(names) < 3:
        return None
    seeds = sorted(set.intersection(*(set(here[name]) for name in names)))
    if not seeds:
        return None
    values = np.array([[here[name][k] for k in seeds] for name in names])
    other = np.array([there[name] for name in names])
    means = values.mean(1)
    tau = float(_tau(means[None], other[None])[0])
    low = high = math.nan
    apart = 0
    if len(seeds) > 1 and math.isfinite(tau):
        rng = np.random.default_rng(seed)
        ours = _drawn(values, rng)
        noise = rng.normal(0, normal, ours.shape) + rng.uniform(-rounded, rounded, ours.shape)
        # A draw of the other list in which all are equal has no τ, and agrees with nothing.
        ends = np.quantile(np.nan_to_num(_tau(ours, other + noise)), [0.025, 0.975])
        low, high = min(float(ends[0]), tau), max(float(ends[1]), tau)
        before = (_signs(ours) > 0).mean(0)
        apart = int((before >= 0.975).sum())
    signs = _signs(means[None])[0] * _signs(other[None])[0]
    same, less = int((signs > 0).sum()) // 2, int((signs < 0).sum()) // 2
    pairs = int((_signs(other[None])[0] != 0).sum()) // 2
    every = math.comb(len(names), 2)
    luck = chance(other.tolist(), same - less)
    return Order(names, tau, low, high, same, pairs, apart, every, luck, len(seeds))


def _drawn(values: Array, rng: np.random.Generator) -> Array:
    """What the items' means might have been with other seeds, shape (draws, items)."""
    n, s = values.shape
    means = values.mean(1, keepdims=True)
    residuals = values - means - values.mean(0) + values.mean()
    residuals *= math.sqrt(s / (s - 1)) * math.sqrt(n / (n - 1))
    chosen = rng.integers(0, s, (DRAWS, n, s))
    found: Array = means[:, 0] + np.take_along_axis(residuals[None], chosen, 2).mean(2)
    return found


def _signs(values: Array) -> Array:
    """Of each pair's difference, for each row: shape (rows, n, n)."""
    found: Array = np.sign(values[:, :, None] - values[:, None, :])
    return found


def _tau(a: Array, b: Array) -> Array:
    """Kendall's τ-b of the rows of two arrays of one shape."""
    x, y = _signs(a), _signs(b)
    norm = np.sqrt((x * x).sum((1, 2)) * (y * y).sum((1, 2)))
    with np.errstate(invalid="ignore"):  # 0/0 where all are equal
        found: Array = (x * y).sum((1, 2)) / norm
    return found


def chance(other: Sequence[float], score: int) -> float:
    """P(|concordant − discordant| ≥ |score|) over all orders of as many different values, exactly.

    Pairs that are equal in `other` count neither way. Values here that are equal count as if they differed.

    Source: the orders of a multiset by their number of inversions are a q-multinomial coefficient
    (MacMahon), here multiplied out as a polynomial.
    """
    groups = list(Counter(other).values())
    counts = [1]  # of arrangements, by inversions
    placed = 0
    for size in groups:
        counts = _product(counts, _binomial(placed + size, size))
        placed += size
    pairs = len(counts) - 1  # that are told apart: the most inversions
    whole = sum(counts)
    beyond = sum(count for k, count in enumerate(counts) if abs(pairs - 2 * k) >= abs(score))
    return float(Fraction(beyond, whole))


def _product(a: Sequence[int], b: Sequence[int]) -> list[int]:
    found = [0] * (len(a) + len(b) - 1)
    for (i, x), (j, y) in itertools.product(enumerate(a), enumerate(b)):
        found[i + j] += x * y
    return found


def _binomial(n: int, k: int) -> list[int]:
    """The Gaussian binomial coefficient: arrangements of k and n − k equal things, by inversions."""
    rows = [[1] for _ in range(n + 1)]  # of m things, none chosen
    for chosen in range(1, k + 1):
        above = rows
        rows = [[0] for _ in range(n + 1)]
        rows[chosen] = [1]
        for m in range(chosen + 1, n + 1):
            moved = [0] * (m - chosen) + above[m - 1]
            kept = rows[m - 1]
            length = max(len(moved), len(kept))
            rows[m] = [
                (kept[j] if j < len(kept) else 0) + (moved[j] if j < len(moved) else 0) for j in range(length)
            ]
    return rows[n]


__all__ = ["Order", "chance", "order"]
