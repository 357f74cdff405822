"""The largest and the smallest value of a weighted sum of numbers that linear conditions hold.

The simplex method in two phases on a dense table, with Bland's rule, which never runs in a circle. Problems
here have some hundred unknowns at most.

Source: Dantzig, "Linear Programming and Extensions" (1963); Bland, "New finite pivoting rules for the simplex
method", Mathematics of Operations Research 2 (1977).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NEGLIGIBLE = 1e-9  # beside conditions of about 1
_STEPS = 20_000

Sums = Mapping[int, float]  # the factor of each unknown, by its number


class Conditions:
    """Unknowns that are not negative, and conditions of weighted sums of them."""

    def __init__(self, unknowns: int) -> None:
        self.unknowns = unknowns
        self._rows: list[tuple[Sums, float, int]] = []

    def equal(self, sums: Sums, value: float) -> None:
        self._rows.append((sums, value, 0))

    def at_most(self, sums: Sums, value: float) -> None:
        self._rows.append((sums, value, 1))

    def at_least(self, sums: Sums, value: float) -> None:
        self._rows.append(({k: -factor for k, factor in sums.items()}, -value, 1))

    def solved(self) -> Solution | None:
        """What is needed to ask for extremes; None where no numbers meet all conditions."""
        rows, slack = len(self._rows), sum(kind for *_, kind in self._rows)
        width = self.unknowns + slack
        table = np.zeros((rows, width + rows + 1))
        at = self.unknowns
        for k, (sums, value, kind) in enumerate(self._rows):
            for unknown, factor in sums.items():
                table[k, unknown] += factor
            if kind:
                table[k, at] = 1.0
                at += 1
            table[k, -1] = value
            if value < 0:
                table[k] = -table[k]
            table[k, width + k] = 1.0
        basis = list(range(width, width + rows))
        artificial = np.zeros(width + rows)
        artificial[width:] = -1.0
        value = _maximised(table, basis, artificial)
        if value < -1e-7:
            return None
        for k in range(rows):  # one that is still there is 0: any column takes its place
            if basis[k] >= width:
                usable = np.flatnonzero(np.abs(table[k, :width]) > 1e-7)
                if usable.size:
                    _pivot(table, basis, k, int(usable[0]))
        kept = [k for k in range(rows) if basis[k] < width]
        return Solution(
            np.delete(table[kept], np.s_[width : width + rows], axis=1), [basis[k] for k in kept],
            self.unknowns,
        )  # fmt: skip


class Solution:
    """Conditions that can be met."""

    def __init__(self, table: NDArray[Any], basis: list[int], unknowns: int) -> None:
        self._table, self._basis, self._unknowns = table, basis, unknowns

    def most(self, sums: Sums) -> tuple[float, NDArray[Any]]:
        """The largest value of a weighted sum, and the unknowns where it is taken; infinity has none."""
        table, basis = self._table.copy(), list(self._basis)
        factors = np.zeros(table.shape[1] - 1)
        for unknown, factor in sums.items():
            factors[unknown] = factor
        value = _maximised(table, basis, factors)
        found = np.zeros(table.shape[1] - 1)
        found[basis] = table[:, -1]
        return value, found[: self._unknowns]

    def least(self, sums: Sums) -> tuple[float, NDArray[Any]]:
        """The smallest value, as `most`."""
        value, found = self.most({k: -factor for k, factor in sums.items()})
        return -value, found


def _maximised(table: NDArray[Any], basis: list[int], factors: NDArray[Any]) -> float:
    """Moves to the vertex with the largest value, which is returned."""
    for _ in range(_STEPS):
        reduced = factors - factors[basis] @ table[:, :-1]
        rising = np.flatnonzero(reduced > _NEGLIGIBLE)
        if not rising.size:
            return float(factors[basis] @ table[:, -1])
        column = int(rising[0])
        positive = np.flatnonzero(table[:, column] > _NEGLIGIBLE)
        if not positive.size:
            return math.inf
        ratios = table[positive, -1] / table[positive, column]
        nearest = positive[ratios <= ratios.min() + 1e-12]
        _pivot(table, basis, int(min(nearest, key=lambda k: basis[k])), column)
    raise ArithmeticError("the simplex method does not end")


def _pivot(table: NDArray[Any], basis: list[int], row: int, column: int) -> None:
    table[row] /= table[row, column]
    others = table[:, column].copy()
    others[row] = 0.0
    table -= np.outer(others, table[row])
    basis[row] = column
