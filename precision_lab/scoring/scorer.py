"""Scores a kernel's values, chunk by chunk, through all tiers of the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import EnvironmentAltersResultsError, UsageError
from precision_lab.inputs.cells import EMPTY_STRETCH, SPECIAL_STRETCH
from precision_lab.oracle.format_row import format_row
from precision_lab.oracle.program import program
from precision_lab.oracle.record import BALLS, FLOAT64, SPECIAL
from precision_lab.scoring import columns, errors, first_tier
from precision_lab.scoring.array_counts import count_without_value
from precision_lab.scoring.one_value import score_many
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.settled import Counts, settled
from precision_lab.scoring.standard import Standard
from precision_lab.scoring.tally import EDGE_COLUMNS, MASK, MINUS_ZERO, NEGATIVE, PLUS_ZERO, POSITIVE, Tally
from precision_lab.scoring.tile_records import Left

MAX_OUTPUTS = 8  # a tuple of arrays has its length in its type: one length, one compilation
BATCH = 1 << 16  # inputs left by the first tier are taken on together
_FLUSHED = ("", "results", "operands", "results and operands")
_NOTHING = np.zeros(0, np.float32)


class Scorer:
    """Counts of the outputs of one case; one scorer per thread.

    Args:
        standards: one per output, all of the same cells.
        edges: keep what judging monotony across chunks needs.
    """

    def __init__(
        self,
        standards: Sequence[Standard],
        *,
        edges: bool = False,
    ) -> None:
        outputs = tuple(standard.curve.output for standard in standards)
        if len(outputs) > MAX_OUTPUTS:
            raise UsageError(f"outputs={outputs!r}: at most {MAX_OUTPUTS} are scored together")
        self.standards, self.cells, self.outputs = tuple(standards), standards[0].cells, outputs
        # One array for all outputs, of which each tally's rows are a part: compiled code takes it whole.
        self._rows = np.stack([columns.empty(self.cells.starts.size) for _ in outputs])
        self._histograms = np.zeros((len(outputs), columns.BINS), np.int64)
        self.tallies = [Tally(r, h) for r, h in zip(self._rows, self._histograms, strict=True)]
        self._keeps_edges = edges
        self._fed = 0
        self._fmts = np.array([format_row(s.fmt, s.saturating) for s in standards])
        self._left: list[list[tuple[Any, ...]]] = [[] for _ in outputs]
        self._fast = all(fmt.bits <= 32 for fmt in (self.cells.fmt, *(s.fmt for s in standards)))
        if self._fast:
            self._program = program(tuple(standard.curve for standard in standards))
        points = np.array([0.0, -0.0, np.inf, -np.inf])
        self._special = [standard.reference(points) for standard in standards]

    def score(
        self, x: NDArray[Any], ys: Sequence[NDArray[Any]], runs: NDArray[np.int64], patterns: Patterns
    ) -> None:
        """Counts a chunk of inputs.

        Args:
            x: inputs in ascending order of their patterns; float32, or float64 for an fp64 format.
            ys: computed values of each output, of the same dtype.
            runs: of `Cells.runs`.
            patterns: of the inputs.

        Raises:
            EnvironmentAltersResultsError: this thread flushes subnormals, before or after.
        """
        self._fed += x.size
        special = runs[:, 3] == SPECIAL_STRETCH
        ordinary = np.ascontiguousarray(runs[runs[:, 3] >= 0])
        for start, end, cell, _ in runs[special].tolist():
            self._score_special(x[start:end], [y[start:end] for y in ys], cell, patterns.between(start, end))
        for start, end, cell, _ in runs[runs[:, 3] == EMPTY_STRETCH].tolist():
            self._score_empty([y[start:end] for y in ys], cell, patterns.between(start, end))
        self._keep_nearest(runs[~special], ys, patterns)
        if ordinary.size == 0:
            return
        count = len(self.outputs)
        if self._fast:
            left, n_left = np.empty((count, x.size), np.int64), np.zeros((count, 1), np.int64)
            edges = np.full((count, 2, 4), -1.0)
            padded = (*ys, *[_NOTHING] * (MAX_OUTPUTS - count))
            seen = first_tier.score_chunk(
                first_tier.Chunk(x, padded, count, ordinary, patterns.as_array, patterns.first),
                self._program, self._fmts,
                Counts(self._rows, self._histograms), Left(left, n_left), edges, first_tier.PROBE,
            )  # fmt: skip
            if seen:
                raise EnvironmentAltersResultsError(
                    f"a thread that scores flushes subnormal {_FLUSHED[seen]} to zero: the kernel, or a "
                    "library that it uses, switched that on. Nothing measured since then is kept"
                )
            total = int((ordinary[:, 1] - ordinary[:, 0]).sum())
        else:
            everything = np.concatenate([np.arange(a, b) for a, b in ordinary[:, :2]])
        for j, tally in enumerate(self.tallies):
            if self._fast:
                chosen = left[j, : n_left[j, 0]]
                tally.tiers[FLOAT64] += total - chosen.size
                if self._keeps_edges:
                    self._keep_edges(tally, edges[j], patterns)
            else:
                chosen = everything
            if chosen.size:
                cell = ordinary[np.searchsorted(ordinary[:, 0], chosen, side="right") - 1, 2]
                self._left[j].append((x[chosen], ys[j][chosen], cell, patterns.at(chosen)))
                self._escalate_when_many(j)

    def finish(self) -> list[Tally]:
        """The tallies, with what was still waiting for the slower tiers.

        Raises:
            RuntimeError: an input was counted twice or not at all, which would be a bug in here.
        """
        for j, tally in enumerate(self.tallies):
            self._escalate(j)
            counted = int(tally.rows[:, columns.N].sum()) + tally.undecided.size
            if not counted == int(tally.tiers.sum()) == self._fed:
                raise RuntimeError(
                    f"{self.standards[j].curve.function.name}.{self.outputs[j]}: {self._fed} inputs came in, "
                    f"{counted} were counted"
                )
        return self.tallies

    def _escalate_when_many(self, j: int) -> None:
        if sum(part[0].size for part in self._left[j]) >= BATCH:
            self._escalate(j)

    def _escalate(self, j: int) -> None:
        """Everything the first tier left of output j: through double-double and mpmath into the counts."""
        if not self._left[j]:
            return
        x, y, cell, pattern = (np.concatenate(parts) for parts in zip(*self._left[j], strict=True))
        self._left[j] = []
        tally = self.tallies[j]
        exact = self.standards[j].reference(x.astype(np.float64))
        tally.tiers += np.bincount(exact.tier, minlength=tally.tiers.size)
        left = np.zeros(x.size, np.bool_) if exact.unjudged is None else exact.unjudged
        for one in np.unique(cell[left]):
            here = np.flatnonzero(left & (cell == one))
            count_without_value(
                tally.rows[2 * one], pattern[here].__getitem__, y[here], self.standards[j].fmt.precision,
                nan=False,
            )  # fmt: skip
        kept = slice(None) if not left.any() else np.flatnonzero(~left)
        score_many(
            Counts(tally.rows, tally.histogram), cell[kept], self._fmts[j], pattern[kept],
            y[kept].astype(np.float64), settled(exact, kept), exact.undecided[kept],
        )  # fmt: skip
        if not self._fast:  # the first tier judges monotony in passing
            order = np.arange(x.size)
            for sign in (x > 0, x < 0):
                side = order[sign]  # falling where x < 0: neighbours are what counts
                tally.rows[2 * cell[0], columns.MONOTONE] += errors.monotonicity_violations(y, exact, side)
        if exact.undecided.any():
            tally.undecided = np.concatenate([tally.undecided, pattern[exact.undecided]])

    def _keep_edges(self, tally: Tally, edges: NDArray[Any], patterns: Patterns) -> None:
        for edge in edges:
            if edge[0] >= 0:
                line = np.empty(EDGE_COLUMNS, np.int64)
                line[0] = patterns.at(int(edge[0]))
                line[1:] = columns.values_bits(edge[1:])
                tally.edges = np.concatenate([tally.edges, line[None]])

    def _keep_nearest(self, runs: NDArray[np.int64], ys: Sequence[NDArray[Any]], patterns: Patterns) -> None:
        """The inputs next to ±0: each sign's first, patterns being ascending."""
        signs = self.cells.sign[runs[:, 2]]
        for row, sign in ((POSITIVE, 1), (NEGATIVE, -1)):
            found = np.flatnonzero(signs == sign)
            if found.size:
                self._note(row, int(runs[found[0], 0]), ys, patterns)

    def _note(self, row: int, index: int, ys: Sequence[NDArray[Any]], patterns: Patterns) -> None:
        pattern = int(patterns.at(index))
        for tally, y in zip(self.tallies, ys, strict=True):
            known = tally.near[row]
            if known[0] == -1 or pattern & MASK < int(known[0]) & MASK:
                known[:] = pattern, int(columns.values_bits(np.float64(y[index])))

    def _score_special(
        self, x: NDArray[Any], ys: Sequence[NDArray[Any]], cell: int, patterns: Patterns
    ) -> None:
        """±0, infinities and NaN: what f is there follows from its definition and limits alone."""
        with np.errstate(invalid="ignore"):  # signalling NaNs
            part = np.asarray(x, np.float64)
        nan = np.isnan(part)
        for j, (tally, exact, standard) in enumerate(
            zip(self.tallies, self._special, self.standards, strict=True)
        ):
            with np.errstate(invalid="ignore"):
                y = np.asarray(ys[j], np.float64)
            tally.tiers[SPECIAL] += part.size
            unjudged = np.zeros(part.size, np.bool_)
            for i in np.flatnonzero(~nan):
                k = (1 if np.signbit(part[i]) else 0) + (2 if part[i] else 0)
                sign = int(exact.sign[k])
                if part[i] == 0 and sign == 0 and self.outputs[j] == "forward":
                    sign = -1 if np.signbit(part[i]) else 1  # f(±0) = ±0
                if part[i] == 0:
                    self._note(MINUS_ZERO if k == 1 else PLUS_ZERO, int(i), ys, patterns)
                if exact.unjudged is not None and exact.unjudged[k]:
                    unjudged[i] = True
                    continue
                pattern = int(patterns.at(i))
                if exact.undecided[k]:
                    tally.undecided = np.append(tally.undecided, pattern)
                here = slice(k, k + 1)
                score_many(
                    Counts(tally.rows, tally.histogram), np.array([cell]), self._fmts[j], np.array([pattern]),
                    y[i : i + 1], settled(exact, here)._replace(sign=np.array([sign], np.int8)),
                    exact.undecided[here],
                )  # fmt: skip
            row, precision = tally.rows[2 * cell], standard.fmt.precision
            for chosen, held in ((nan, self.outputs[j] == "forward"), (unjudged, False)):
                index = np.flatnonzero(chosen)
                if index.size:
                    listed = np.asarray(patterns.at(index))
                    count_without_value(row, listed.__getitem__, y[index], precision, nan=held)

    def _score_empty(self, ys: Sequence[NDArray[Any]], cell: int, patterns: Patterns) -> None:
        """Where the function has no value, all of a cell: it must be NaN, a derivative need not be."""
        for tally, y, standard, output in zip(self.tallies, ys, self.standards, self.outputs, strict=True):
            tally.tiers[BALLS] += y.size
            row = tally.rows[2 * cell]
            count_without_value(row, patterns.at, y, standard.fmt.precision, nan=output == "forward")


__all__ = ["Scorer"]
