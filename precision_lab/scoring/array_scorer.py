"""Scores a kernel's values against exact ones that are known input by input: plain numpy, nothing compiled.

For formats of at most 16 bits, of which there are too few inputs for compiling to pay. `scorer.Scorer` has
the same interface, and takes most exact values from float64 enclosures instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import UsageError
from precision_lab.inputs.cells import SPECIAL_STRETCH
from precision_lab.oracle import Reference
from precision_lab.oracle.record import SPECIAL
from precision_lab.scoring import columns, errors
from precision_lab.scoring.array_counts import count_values, count_without_value
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.settled import Counts, Settled
from precision_lab.scoring.standard import NARROW, Standard
from precision_lab.scoring.tally import MINUS_ZERO, NEGATIVE, PLUS_ZERO, POSITIVE, Tally
from precision_lab.system.ieee import flushes, flushing


class ArrayScorer:
    """Counts of the outputs of one case; one scorer per thread.

    Args:
        standards: one per output, all of the same cells.
        edges: keep what judging monotony across chunks needs.

    Raises:
        ValueError: a format of more than 16 bits.
    """

    def __init__(self, standards: Sequence[Standard], *, edges: bool = False) -> None:
        self.standards, self.cells = tuple(standards), standards[0].cells
        for fmt in (self.cells.fmt, *(standard.fmt for standard in standards)):
            if fmt.bits > NARROW:
                raise UsageError(
                    f"format {fmt.name!r} has {fmt.bits} bits: at most {NARROW} are scored by arrays"
                )
        self.tallies = [Tally.empty(self.cells.starts.size) for _ in standards]
        self._keeps_edges = edges
        self._fed = 0

    def score(
        self, x: NDArray[Any], ys: Sequence[NDArray[Any]], runs: NDArray[np.int64], patterns: Patterns
    ) -> None:
        """Counts a chunk of inputs; the arguments are those of `Scorer.score`.

        Raises:
            EnvironmentAltersResultsError: this thread flushes subnormals, before or after.
        """
        if x.size == 0:
            return
        _require_subnormals()
        self._fed += x.size
        length = runs[:, 1] - runs[:, 0]
        chunk = _Chunk(
            _widened(x), np.repeat(runs[:, 2], length), np.repeat(runs[:, 3] == SPECIAL_STRETCH, length),
            np.asarray(patterns.at(np.arange(x.size))),
        )  # fmt: skip
        for standard, tally, values in zip(self.standards, self.tallies, ys, strict=True):
            y = _widened(values)
            exact = standard.reference(chunk.x)
            self._count(standard, tally, chunk, y, exact)
            self._count_moves(tally, chunk, y, exact)
            _keep_nearest(tally, chunk, y)
        _require_subnormals()

    def finish(self) -> list[Tally]:
        """The tallies.

        Raises:
            RuntimeError: an input was counted twice or not at all, which would be a bug in here.
        """
        for standard, tally in zip(self.standards, self.tallies, strict=True):
            counted = int(tally.rows[:, columns.N].sum()) + tally.undecided.size
            if not counted == int(tally.tiers.sum()) == self._fed:
                raise RuntimeError(
                    f"{standard.curve.function.name}.{standard.curve.output}: {self._fed} inputs came in, "
                    f"{counted} were counted"
                )
        return self.tallies

    def _count(
        self, standard: Standard, tally: Tally, chunk: _Chunk, y: NDArray[Any], exact: Reference
    ) -> None:
        forward = standard.curve.output == "forward"
        tiers = np.where(chunk.special, SPECIAL, exact.tier)
        tally.tiers += np.bincount(tiers, minlength=tally.tiers.size)
        sign = exact.sign
        zeros = (chunk.x == 0) & (sign == 0)
        if forward and zeros.any():  # f(±0) = ±0
            sign = np.where(zeros, np.where(np.signbit(chunk.x), -1, 1), sign)
        nan = np.isnan(chunk.x)
        if exact.unjudged is not None and exact.unjudged.any():
            chunk.count_without_value(tally.rows, exact.unjudged, y, standard.fmt.precision, nan=False)
        left = nan if exact.unjudged is None else nan | exact.unjudged
        true = Settled(exact.rounded, exact.tail, exact.ulp, exact.exact, sign)
        undecided = exact.undecided & ~left
        if undecided.any():
            tally.undecided = np.concatenate([tally.undecided, chunk.patterns[undecided]])
        cells, patterns, values = chunk.cells, chunk.patterns, y
        left_out = undecided | left
        if left_out.any():
            kept = np.flatnonzero(~left_out)
            cells, patterns, values = cells[kept], patterns[kept], y[kept]
            true = Settled(*(field[kept] for field in true))
        count_values(Counts(tally.rows, tally.histogram), cells, standard.fmt, patterns, values, true)
        if nan.any():
            chunk.count_without_value(tally.rows, nan, y, standard.fmt.precision, nan=forward)

    def _count_moves(self, tally: Tally, chunk: _Chunk, y: NDArray[Any], exact: Reference) -> None:
        """Steps between neighbours in the chunk that lie on one side of 0, counted where they end."""
        ordinary, positive = ~chunk.special, chunk.x > 0
        connected = ordinary[1:] & ordinary[:-1] & (positive[1:] == positive[:-1])
        against = np.flatnonzero(connected & errors.moves_between(y, exact)) + 1
        np.add.at(tally.rows[:, columns.MONOTONE], 2 * chunk.cells[against], 1)
        ends = np.flatnonzero(ordinary)[[0, -1]] if self._keeps_edges and ordinary.any() else ()
        for i in ends:
            # What nothing could certify promises no step.
            bound = np.inf if exact.undecided[i] else 0.0
            values = columns.values_bits(np.array([y[i], exact.exact[i], bound]))
            line = np.concatenate(([chunk.patterns[i]], values))
            tally.edges = np.concatenate([tally.edges, line[None]])


class _Chunk:
    """Inputs as float64, and of each its cell, its pattern, and whether it is ±0, infinite or NaN."""

    def __init__(
        self, x: NDArray[np.float64], cells: NDArray[np.int64], special: NDArray[np.bool_],
        patterns: NDArray[np.int64],
    ) -> None:  # fmt: skip
        self.x, self.cells, self.special, self.patterns = x, cells, special, patterns

    def count_without_value(
        self, rows: NDArray[np.int64], chosen: NDArray[np.bool_], y: NDArray[Any], precision: int, *,
        nan: bool,
    ) -> None:  # fmt: skip
        """Counts some of the inputs, cell by cell; see `array_counts.count_without_value`."""
        at = np.flatnonzero(chosen)
        for cell in np.unique(self.cells[at]):
            here = at[self.cells[at] == cell]
            count_without_value(rows[2 * cell], self.patterns[here].__getitem__, y[here], precision, nan=nan)


def _widened(values: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return np.asarray(values, np.float64)


def _require_subnormals() -> None:
    if flushed := flushes():
        raise flushing(flushed, "Nothing measured since then is kept")


def _keep_nearest(tally: Tally, chunk: _Chunk, y: NDArray[Any]) -> None:
    """Computed values at ±0 and at the inputs next to them: of each kind the first, patterns ascending."""
    minus = np.signbit(chunk.x)
    for row, chosen in (
        (PLUS_ZERO, (chunk.x == 0) & ~minus),
        (MINUS_ZERO, (chunk.x == 0) & minus),
        (POSITIVE, ~chunk.special & ~minus),
        (NEGATIVE, ~chunk.special & minus),
    ):
        if chosen.any():
            i = int(np.argmax(chosen))
            known = tally.near[row]
            if known[0] == -1 or chunk.patterns[i] < known[0]:
                known[:] = chunk.patterns[i], columns.values_bits(y[i])


__all__ = ["ArrayScorer"]
