"""Counts one computed value at a time: every input that the vectorised `tile` cannot decide.

Whatever enclosure an exact value has, `oracle.decide` settled it before. Its errors are those that `errors`
defines, for one value; tests/scoring/test_one_ulp.py holds the two together.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.numeric.jit import compiled, entry, float32_to_bits, float_to_bits
from precision_lab.oracle.format_row import EMIN, PRECISION
from precision_lab.scoring.adding import (
    add_pair,
    add_roundings,
    add_sum,
    correct_bits,
    relative_bits,
    scale_of,
    value_bits,
)
from precision_lab.scoring.columns import (
    AWAY_SUMS,
    BIN_BASE,
    BIN_SHIFT,
    BINS,
    BITS,
    BITS_SCALE,
    CLIP,
    FLOOR,
    INEXACT,
    LARGEST,
    MAX_ERROR,
    MAX_PATTERN,
    MAX_RELATIVE,
    MAX_VALUE,
    MISROUNDED,
    NEAREST,
    NEAREST_RELATIVE,
    NEGATIVE,
    NONFINITE,
    NONFINITE_PATTERN,
    PACKED,
    RELATIVE,
    RELATIVE_SQUARES,
    SIGN_PATTERN,
    SQUARES,
    SUM_BITS,
    SUM_UNIT,
    SUMS,
    VALID,
    WITHIN,
    WRONG_SIGN,
    ZERO_SIGN,
    N,
)
from precision_lab.scoring.settled import Counts, Settled


@compiled
def witness(row: Any, bits: int, pattern: int, value: float) -> None:
    """Keeps the largest error, and of equal ones the smallest pattern."""
    if bits > row[MAX_ERROR] or (bits == row[MAX_ERROR] and pattern < row[MAX_PATTERN]):
        row[MAX_ERROR] = bits
        row[MAX_PATTERN] = pattern
        row[MAX_VALUE] = float_to_bits(value)


@compiled
def first(row: Any, column: int, pattern: int, value: float) -> None:
    """Keeps the smallest pattern, which in a cell is the input nearest to 0."""
    if pattern < row[column]:
        row[column] = pattern
        row[column + 1] = value_bits(value)


@compiled
def count_relative(row: Any, relative: float, precision: int) -> float:
    """Correct bits of a relative error, between 0 and p; keeps the largest error."""
    least = math.ldexp(1.0, -precision)
    clipped = min(max(relative, least), 1.0)
    as_bits = float32_to_bits(np.float32(clipped))
    row[MAX_RELATIVE] = max(row[MAX_RELATIVE], as_bits)
    return float(correct_bits(as_bits))


@compiled
def rounding_code(gap: float, a: float, misrounded: bool, toward: bool) -> Any:
    """For a result within one ulp of a value that is no number of the format, which way it was rounded.

    As `add_roundings` takes it. A misrounded result within one ulp is the neighbour on the error's side.

    Args:
        gap: of the correct rounding; a: |error|, both in ulps.
    """
    direction = np.int64(1 << 3 * PACKED) if toward else np.int64(1 << 2 * PACKED)
    code = np.int64(1) + (np.int64(1 << PACKED) if gap > 0 else np.int64(0))
    code += direction if misrounded else np.int64(0)
    return code if (abs(gap) > CERTIFIED_ULPS) & (a < WITHIN) else np.int64(0)


@compiled
def score_one(counts: Counts, cell: int, fmt: Any, pattern: int, y: float, true: Settled) -> None:
    """Counts one computed value against what `decide` found of the exact one."""
    subnormal = true.exact != 0 and abs(true.exact) < math.ldexp(1.0, int(fmt[EMIN]))
    row = counts.rows[2 * cell + 1] if subnormal else counts.rows[2 * cell]
    row[N] += 1
    got, expected = math.isfinite(y), math.isfinite(true.rounded)
    same = y == true.rounded or (y != y and true.rounded != true.rounded)
    if not same:
        row[MISROUNDED] += 1
    if got != expected or (not got and not expected and not same):
        row[NONFINITE] += 1
        first(row, NONFINITE_PATTERN, pattern, y)
    # Values below half the smallest number have no sign that matters. `exact` does not tell: in fp64 it may
    # be a stand-in, or read the same as half the smallest number beside it.
    matters = true.rounded != 0 or abs(true.tail) >= 0.5
    if matters and ((y < 0 and true.sign > 0) or (y > 0 and true.sign < 0)):
        row[WRONG_SIGN] += 1
        first(row, SIGN_PATTERN, pattern, y)
    if y == 0 and true.rounded == 0 and true.sign != 0 and (math.copysign(1.0, y) < 0) != (true.sign < 0):
        row[ZERO_SIGN] += 1
    bits = float(fmt[PRECISION])
    if got and expected:
        bits = _count_error(row, counts.histogram, int(fmt[PRECISION]), pattern, y, true)
    elif expected:
        bits = count_relative(row, 1.0, int(fmt[PRECISION]))
    row[BITS] += int(np.rint(bits * BITS_SCALE))


@compiled
def _count_error(row: Any, histogram: Any, precision: int, pattern: int, y: float, true: Settled) -> float:
    """The correct bits of one valid result, whose error is counted and summed."""
    # Values of the format: near each other their difference is exact. Beyond float64's range the
    # error is its largest number.
    signed = (y - true.rounded) / true.ulp - true.tail
    error = min(abs(signed), LARGEST)
    # The size in ulps; of what rounds to 0, the tail, since `exact` may be a stand-in.
    ulps = abs(true.tail) if true.rounded == 0 else abs(true.exact) / true.ulp
    row[VALID] += 1
    error_bits = float_to_bits(error)
    witness(row, error_bits, pattern, y)
    scale = scale_of(error_bits)
    units = int(np.rint(math.ldexp(error, SUM_BITS - scale)))
    add_sum(row, SUMS, scale, units)
    away = -signed if true.sign < 0 else signed
    if true.exact == 0 or true.sign == 0:
        away = -error if y == 0 else error
    if away > 0:
        add_sum(row, AWAY_SUMS, scale, units)
    # Of an error next to nothing the sign may be lost, but 0 lies toward 0.
    _count_signed(row, precision, error, away < 0 or y == 0, ulps, y == true.rounded, true)
    in_float32 = float32_to_bits(np.float32(error))
    histogram[min(max((in_float32 >> BIN_SHIFT) - BIN_BASE, 0), BINS - 1)] += 1
    if true.exact != 0:
        return count_relative(row, max(error, FLOOR) / max(ulps, FLOOR), precision)
    return count_relative(row, 1.0, precision) if error != 0 else float(precision)


@compiled
def _count_signed(
    row: Any, precision: int, error: float, toward: bool, ulps: float, same: bool, true: Settled
) -> None:
    """Relative errors, squares, the correct rounding's own errors and the direction, of one valid result.

    Each is rounded to its unit once and added as an integer, so that the order of additions changes nothing.

    Args:
        error: in ulps; toward: whether it goes toward zero; ulps: the exact value's size in ulps.
        same: the result is the correct rounding.
    """
    squared = min(error, CLIP)
    add_pair(row, SQUARES, int(np.rint(squared * squared * SUM_UNIT)))
    if true.exact == 0:
        # Relative to 0 every error is as large as it can be.
        relative, gap, nearest = (1.0 if error != 0 else 0.0), 0.0, 0.0
    else:
        floored = max(ulps, FLOOR)
        # An error below FLOOR is 0, unless the value itself is that small.
        counts = error > FLOOR or ulps <= FLOOR
        relative = min(max(error, FLOOR) / floored, 1.0) if counts else 0.0
        # The correct rounding's error, positive where it lies away from 0. What rounds to 0 loses all.
        gap = -floored if true.rounded == 0 else (true.tail if true.sign < 0 else -true.tail)
        nearest = max(gap / floored, -1.0)
    signed = -relative if toward else relative
    unit = math.ldexp(1.0, relative_bits(precision))
    add_pair(row, RELATIVE, int(np.rint(signed * unit)))
    scaled = min(math.ldexp(relative, precision), CLIP)
    add_pair(row, RELATIVE_SQUARES, int(np.rint(scaled * scaled * SUM_UNIT)))
    add_pair(row, NEAREST, int(np.rint(gap * SUM_UNIT)))
    add_pair(row, NEAREST_RELATIVE, int(np.rint(nearest * unit)))
    if true.exact != 0:
        code = rounding_code(gap, error, not same, toward)
        add_roundings(row, INEXACT + NEGATIVE if true.sign < 0 else INEXACT, code)


@entry
def score_many(
    counts: Counts, cells: Any, fmt: Any, patterns: Any, y: Any, true: Settled, undecided: Any
) -> None:
    """`score_one` for arrays; undecided inputs enter no count."""
    rounded, tail, ulp, exact, sign = true
    for i in range(y.size):
        if not undecided[i]:
            one = Settled(rounded[i], tail[i], ulp[i], exact[i], sign[i])
            score_one(counts, cells[i], fmt, patterns[i], y[i], one)
