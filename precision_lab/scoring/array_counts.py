"""Counts of many computed values at once, in plain numpy: what `one_value.score_many` adds, bit for bit.

Every operation on float64 and float32 numbers is the one that `one_value` does, in its order, and every sum
is of integers. So the two agree in every column; tests/scoring/test_array_scorer.py holds them together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat
from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.scoring import columns
from precision_lab.scoring.columns import FLOOR, LIMB, SUM_BITS, SUM_UNIT
from precision_lab.scoring.settled import Counts, Settled

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

BLOCK = 1 << 13  # inputs counted at once: their arrays stay in the second-level cache


def count_values(
    counts: Counts, cells: Int64, fmt: FloatFormat, patterns: Int64, y: Float64, true: Settled
) -> None:
    """Adds what `one_value.score_one` adds of each value; none of them undecided.

    Args:
        cells: of each input; patterns: ascending within each cell. Arrays of shape (n,), as `true` has.
    """
    for start in range(0, y.size, BLOCK):
        part = slice(start, start + BLOCK)
        chosen = Settled(*(field[part] for field in true))
        with np.errstate(over="ignore"):  # an error beyond float64, or beyond float32, has the last bin
            _count_block(counts, cells[part], fmt, patterns[part], y[part], chosen)


def count_without_value(
    row: Int64, pattern_at: Callable[[int], Any], y: NDArray[Any], precision: int, *, nan: bool
) -> None:
    """Counts results of one cell where there is no value: at NaN, outside of the domain, at some ∞.

    Args:
        row: the cell's row of counts.
        pattern_at: the pattern of an input by its index; ascending.
        y: shape (n,).
        nan: whether they must be NaN, as f(NaN); what a gradient is there is nobody's promise.
    """
    row[columns.N] += y.size
    row[columns.BITS] += int(y.size * precision * columns.BITS_SCALE)
    wrong = np.flatnonzero(y == y) if nan else y[:0]
    if not wrong.size:
        return
    row[columns.MISROUNDED] += wrong.size
    row[columns.NONFINITE] += wrong.size
    pattern = int(pattern_at(int(wrong[0])))
    if pattern < row[columns.NONFINITE_PATTERN]:
        row[columns.NONFINITE_PATTERN] = pattern
        row[columns.NONFINITE_VALUE] = np.float64(y[wrong[0]]).view(np.int64)


class _Stretches(NamedTuple):
    """Neighbours that are counted in one row: their first indices, how many each has, and its row."""

    starts: NDArray[np.intp]
    lengths: NDArray[np.intp]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, row: Int64) -> _Stretches:
        starts = np.concatenate(([0], np.flatnonzero(row[1:] != row[:-1]) + 1))
        return cls(starts, np.diff(np.append(starts, row.size)), row[starts])

    def add(self, rows: Int64, column: int, values: NDArray[Any]) -> None:
        """Adds each value to its row: integers or flags."""
        if values.dtype == np.bool_:
            if not values.any():
                return
            values = values.view(np.int8)
        np.add.at(rows[:, column], self.rows, np.add.reduceat(values, self.starts, dtype=np.int64))

    def add_pair(self, rows: Int64, column: int, totals: Float64) -> None:
        """Adds each total, rounded to an integer, to its row's pair of columns: as `adding.add_pair`."""
        units = np.rint(totals).astype(np.int64)
        self.add(rows, column, units & LIMB)
        self.add(rows, column + 1, units >> 31)

    def first(self, chosen: Bool) -> NDArray[np.intp]:
        """Index of the first one chosen in each stretch that has one."""
        found = np.flatnonzero(chosen)
        stretch = np.searchsorted(self.starts, found, side="right")
        return found[np.concatenate(([True], stretch[1:] != stretch[:-1]))] if found.size else found


def _count_block(
    counts: Counts, cells: Int64, fmt: FloatFormat, patterns: Int64, y: Float64, true: Settled
) -> None:
    rows, precision = counts.rows, fmt.precision
    size = np.abs(true.exact)
    row = 2 * cells + ((size < fmt.min_normal) & (size != 0))
    stretches = _Stretches.of(row)
    np.add.at(rows[:, columns.N], stretches.rows, stretches.lengths)
    got, expected = np.isfinite(y), np.isfinite(true.rounded)
    same = y == true.rounded
    same |= (y != y) & (true.rounded != true.rounded)
    stretches.add(rows, columns.MISROUNDED, ~same)
    nonfinite = (got != expected) | ~(got | expected | same)
    _count_first(rows, stretches, row, columns.NONFINITE, columns.NONFINITE_PATTERN, nonfinite, patterns, y)
    matters = (true.rounded != 0) | (np.abs(true.tail) >= 0.5)
    wrong = matters & (((y < 0) & (true.sign > 0)) | ((y > 0) & (true.sign < 0)))
    _count_first(rows, stretches, row, columns.WRONG_SIGN, columns.SIGN_PATTERN, wrong, patterns, y)
    zeros = (y == 0) & (true.rounded == 0) & (true.sign != 0)
    if zeros.any():
        stretches.add(rows, columns.ZERO_SIGN, zeros & (np.signbit(y) != (true.sign < 0)))
    valid = got & expected
    bits = np.full(y.size, float(precision))
    if valid.all():
        bits = _count_errors(counts, stretches, row, precision, patterns, y, true)
    else:
        if valid.any():
            chosen = np.flatnonzero(valid)
            part = row[chosen]
            bits[chosen] = _count_errors(
                counts, _Stretches.of(part), part, precision, patterns[chosen], y[chosen],
                Settled(*(field[chosen] for field in true)),
            )  # fmt: skip
        missing = np.flatnonzero(expected & ~got)
        if missing.size:
            bits[missing] = _correct_bits(rows, _Stretches.of(row[missing]), np.ones(missing.size), precision)
    stretches.add(rows, columns.BITS, np.rint(bits * columns.BITS_SCALE).astype(np.int64))


def _count_first(
    rows: Int64, stretches: _Stretches, row: Int64, column: int, kept: Any, flags: Bool,
    patterns: Int64, y: Float64,
) -> None:  # fmt: skip
    """Counts what is flagged, and keeps the smallest pattern of it in each row: as `one_value.first`."""
    if not flags.any():
        return
    stretches.add(rows, column, flags)
    at = stretches.first(flags)
    at = at[np.lexsort((patterns[at], row[at]))]
    at = at[np.concatenate(([True], row[at][1:] != row[at][:-1]))]
    at = at[patterns[at] < rows[row[at], kept]]
    rows[row[at], kept] = patterns[at]
    rows[row[at], kept + 1] = columns.values_bits(y[at])


def _count_errors(
    counts: Counts, stretches: _Stretches, row: Int64, precision: int, patterns: Int64, y: Float64,
    true: Settled,
) -> Float64:  # fmt: skip
    """The correct bits of results that are numbers, whose errors are counted and summed."""
    rows = counts.rows
    zero, negative, gone = true.exact == 0, true.sign < 0, true.rounded == 0
    signed = (y - true.rounded) / true.ulp - true.tail
    error = np.minimum(np.abs(signed), columns.LARGEST)
    ulps = np.abs(true.exact) / true.ulp
    in_float32 = error.astype(np.float32).view(np.int32)
    if gone.any():
        ulps = np.where(gone, np.abs(true.tail), ulps)
    np.add.at(rows[:, columns.VALID], stretches.rows, stretches.lengths)
    _witness(rows, stretches, row, error.view(np.int64), patterns, y)
    away = np.where(negative, -signed, signed)
    nameless = zero | (true.sign == 0)
    if nameless.any():
        away = np.where(nameless, np.where(y == 0, -error, error), away)
    _add_sums(rows, stretches, row, error, away > 0)
    bins = np.clip((in_float32 >> columns.BIN_SHIFT) - columns.BIN_BASE, 0, columns.BINS - 1)
    counts.histogram[:] += np.bincount(bins, minlength=columns.BINS)
    toward = (away < 0) | (y == 0)
    _count_signed(rows, stretches, precision, error, toward, ulps, y == true.rounded, true)
    relative = np.maximum(error, FLOOR) / np.maximum(ulps, FLOOR)
    if not zero.any():
        return _correct_bits(rows, stretches, relative, precision)
    # Of an error against 0 nothing is correct; where there is none, all is and no size is kept.
    counted = ~zero | (error != 0)
    bits = np.full(y.size, float(precision))
    if counted.any():
        relative = np.where(zero, 1.0, relative)[counted]
        bits[counted] = _correct_bits(rows, _Stretches.of(row[counted]), relative, precision)
    return bits


def _count_signed(
    rows: Int64, stretches: _Stretches, precision: int, error: Float64, toward: Bool, ulps: Float64,
    same: Bool, true: Settled,
) -> None:  # fmt: skip
    """As `one_value._count_signed`, of arrays."""
    zero, negative = true.exact == 0, true.sign < 0
    squared = np.minimum(error, columns.CLIP)
    stretches.add_pair(rows, columns.SQUARES, squared * squared * SUM_UNIT)
    floored = np.maximum(ulps, FLOOR)
    relative = np.minimum(np.maximum(error, FLOOR) / floored, 1.0)
    relative[(error <= FLOOR) & (ulps > FLOOR)] = 0.0
    gap = np.where(negative, true.tail, -true.tail)
    gap = np.where(true.rounded == 0, -floored, gap)
    nearest = np.maximum(gap / floored, -1.0)
    if zero.any():
        relative[zero] = np.where(error[zero] != 0, 1.0, 0.0)
        gap[zero] = nearest[zero] = 0.0
    unit = 2.0 ** columns.relative_bits(precision)
    stretches.add_pair(rows, columns.RELATIVE, np.where(toward, -relative, relative) * unit)
    scaled = np.minimum(relative * 2.0**precision, columns.CLIP)
    stretches.add_pair(rows, columns.RELATIVE_SQUARES, scaled * scaled * SUM_UNIT)
    stretches.add_pair(rows, columns.NEAREST, gap * SUM_UNIT)
    stretches.add_pair(rows, columns.NEAREST_RELATIVE, nearest * unit)
    inexact = (np.abs(gap) > CERTIFIED_ULPS) & (error < columns.WITHIN)
    for flags, offset in (
        (inexact, columns.INEXACT),
        (inexact & (gap > 0), columns.NEAREST_AWAY),
        (inexact & ~same & ~toward, columns.AWAY),
        (inexact & ~same & toward, columns.TOWARD),
    ):
        stretches.add(rows, offset, flags & ~negative)
        stretches.add(rows, offset + columns.NEGATIVE, flags & negative)


def _witness(
    rows: Int64, stretches: _Stretches, row: Int64, bits: Int64, patterns: Int64, y: Float64
) -> None:
    """Keeps each row's largest error, and of equal ones the smallest pattern: as `one_value.witness`."""
    most = np.repeat(np.maximum.reduceat(bits, stretches.starts), stretches.lengths)
    at = stretches.first(bits == most)
    at = at[np.lexsort((patterns[at], -bits[at], row[at]))]
    at = at[np.concatenate(([True], row[at][1:] != row[at][:-1]))]
    known = rows[row[at], columns.MAX_ERROR]
    equal = (bits[at] == known) & (patterns[at] < rows[row[at], columns.MAX_PATTERN])
    at = at[(bits[at] > known) | equal]
    rows[row[at], columns.MAX_ERROR] = bits[at]
    rows[row[at], columns.MAX_PATTERN] = patterns[at]
    rows[row[at], columns.MAX_VALUE] = y[at].view(np.int64)


def _add_sums(rows: Int64, stretches: _Stretches, row: Int64, error: Float64, away: Bool) -> None:
    """Adds errors to the limbs of `columns.SUMS`, and those away from 0 to AWAY_SUMS: as `adding.add_sum`."""
    scale = np.maximum((error.view(np.int64) >> 52) - 1023 - 30, 0)
    if not scale.any():  # the rule: then two limbs hold an error
        units = np.rint(error * SUM_UNIT).astype(np.int64)
        for column, total in ((columns.SUMS, units), (columns.AWAY_SUMS, np.where(away, units, 0))):
            stretches.add(rows, int(column), total & LIMB)
            stretches.add(rows, int(column) + 1, total >> 31)
        return
    units = np.rint(np.ldexp(error, SUM_BITS - scale)).astype(np.int64)
    limb, shift = scale // 31, scale % 31
    low, high = (units & LIMB) << shift, (units >> 31) << shift
    parts = (low & LIMB, (low >> 31) + (high & LIMB), high >> 31)
    for k, part in enumerate(parts):
        np.add.at(rows, (row, int(columns.SUMS) + limb + k), part)
        np.add.at(rows, (row[away], columns.AWAY_SUMS + limb[away] + k), part[away])


def _correct_bits(rows: Int64, stretches: _Stretches, relative: Float64, precision: int) -> Float64:
    """Correct bits of relative errors, between 0 and p; keeps each row's largest error.

    As `one_value.count_relative` and `adding.correct_bits`: float32 numbers, each rounded once.
    """
    clipped = np.minimum(np.maximum(relative, 2.0**-precision), 1.0).astype(np.float32)
    bits = clipped.view(np.int32)
    most = np.maximum.reduceat(bits, stretches.starts)
    np.maximum.at(rows[:, columns.MAX_RELATIVE], stretches.rows, most.astype(np.int64))
    exponent = ((bits >> 23) - 127).astype(np.float32)
    t = ((bits & 0x7FFFFF) | 0x3F800000).view(np.float32) - columns.ONE32
    p = columns.LOG[5] * t + columns.LOG[4]
    for k in (3, 2, 1, 0):
        p = p * t + columns.LOG[k]
    return (-(p * t + exponent)).astype(np.float64)


__all__ = ["count_values", "count_without_value"]
