"""Counts of one output per cell, as integers, so that adding them up is exact in any order.

A cell is a set of inputs with one sign, one exponent and one region; results whose exact
value is subnormal are kept in a row of their own. Every statistic is a row of int64
columns: counts and sums are added; maxima and first witnesses are chosen by value, then
by pattern. So merging is associative and commutative, bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.numeric.certainty import CERTIFIED_ULPS

# Columns.
N, VALID, MISROUNDED, WRONG_SIGN, NONFINITE, ZERO_SIGN, MONOTONE, BITS = range(8)
MAX_ERROR, MAX_PATTERN, MAX_VALUE = 8, 9, 10  # |error| as float64 bits, the input and the computed value
MAX_RELATIVE = 11  # largest relative error, as float32 bits
# Of columns that compiled functions take as an argument: see `numeric.jit.ZERO`.
_column: Any = np.int64
SIGN_PATTERN, SIGN_VALUE = _column(12), 13  # first input of wrong sign, and the computed value
NONFINITE_PATTERN, NONFINITE_VALUE = _column(14), 15
SUMS = _column(16)  # Σ |error| as Σ_k limb_k·2^(31k − 20)
LIMBS = 36  # errors up to float64's largest number of ulps
FIRST_COLUMNS = SUMS + LIMBS  # the columns that version 1 of a digest covers

# Signed sums, over the VALID results. An error is positive where the computed value lies away from zero,
# seen from the exact one: (y − f)·sign(f). Where f is 0, or its sign is not known because it is next to
# nothing, y = 0 counts as toward zero and any other y as away.
AWAY_SUMS = FIRST_COLUMNS  # the part of SUMS that positive errors have, limb by limb
# Pairs (low, high), low + high·2^31:
RELATIVE = AWAY_SUMS + LIMBS  # Σ (y − f)/f, clipped to ±1, in units of `relative_unit`
NEAREST = RELATIVE + 2  # Σ of the correct rounding's errors at the same inputs, in units of 2^-20 ulp
NEAREST_RELATIVE = NEAREST + 2  # and relative, as RELATIVE
SQUARES = NEAREST_RELATIVE + 2  # Σ min(|error|, CLIP)² in units of 2^-20 ulp²
RELATIVE_SQUARES = SQUARES + 2  # Σ min(2^p·|(y − f)/f|, CLIP)² in units of 2^-20
# Counts of roundings: results within one ulp of an exact value that is told apart from every number of the
# format, by more than 2^-10 ulp; of these, those whose correct rounding lies away from zero; and those that
# are one step beyond, and one step short of, the correct rounding. Exact values above 0, then below.
INEXACT = RELATIVE_SQUARES + 2
NEAREST_AWAY, AWAY, TOWARD = INEXACT + 1, INEXACT + 2, INEXACT + 3
NEGATIVE = 4  # from a column for positive exact values to that for negative ones
COLUMNS = INEXACT + 2 * NEGATIVE
ADDED = (N, VALID, MISROUNDED, WRONG_SIGN, NONFINITE, ZERO_SIGN, MONOTONE, BITS, *range(SUMS, COLUMNS))

NO_PATTERN = 2**63 - 1
# Processors differ in the NaN that an invalid operation gives: all are kept as that of x86.
NAN_BITS = -(2**51)  # 0xfff8000000000000 as int64
BITS_SCALE = 2.0**12  # correct bits are summed in units of 2^-12
# Errors are summed in units of 2^-20 ulp while a tile's are below 2^31, beyond in units of 2^-50 of the
# tile's largest or smaller.
SUM_BITS = 20
SUM_UNIT = 2.0**SUM_BITS
LIMB = (1 << 31) - 1
PACKED = 15  # bits of each of a tile's counts of roundings, packed into one integer
CLIP = 1024.0  # larger errors count as this in squares: a tile's sum is then below 2^50

# Histogram of |error|: 32 bins per octave from 2^-12 ulp on, that is float32's exponent and five more bits.
BINS = 4096
BIN_SHIFT = 18
BIN_BASE = (127 - 12) << 5

# Smaller errors and sizes, in ulps, count as this where only their ratio matters: dividing subnormal
# float32 numbers would be a hundred times slower.
FLOOR = 2.0**-40
# A neighbour of a value that is CERTIFIED_ULPS from every number is nearer; an error of one ulp is not.
WITHIN = 1 - CERTIFIED_ULPS / 2
LARGEST = float(np.finfo(np.float64).max)

ONE32 = np.float32(1)
# log2(1+t)/t on [0, 1]: weighted least squares on Chebyshev points; |t·P(t) − log2(1+t)| < 2^-18.
LOG = tuple(
    np.float32(c) for c in (1.44253478, -0.71803359, 0.45715812, -0.27734165, 0.12147295, -0.02579235)
)


def values_bits(values: Any) -> NDArray[np.int64]:
    """Bits of float64 numbers, the same for every NaN."""
    return np.where(np.isnan(values), NAN_BITS, np.asarray(values, np.float64).view(np.int64))


def empty(cells: int) -> NDArray[np.int64]:
    """Rows for `cells` cells, two each: results that are normal (or zero), and subnormal ones."""
    rows = np.zeros((2 * cells, COLUMNS), np.int64)
    rows[:, [MAX_PATTERN, SIGN_PATTERN, NONFINITE_PATTERN]] = NO_PATTERN
    return rows


def merge(into: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    """Adds rows of the same cells to `into`."""
    first = np.array([SIGN_PATTERN, NONFINITE_PATTERN])
    worse = (other[:, MAX_ERROR] > into[:, MAX_ERROR]) | (
        (other[:, MAX_ERROR] == into[:, MAX_ERROR]) & (other[:, MAX_PATTERN] < into[:, MAX_PATTERN])
    )
    for column in (MAX_ERROR, MAX_PATTERN, MAX_VALUE):
        into[:, column] = np.where(worse, other[:, column], into[:, column])
    into[:, MAX_RELATIVE] = np.maximum(into[:, MAX_RELATIVE], other[:, MAX_RELATIVE])
    for column in first.tolist():
        earlier = other[:, column] < into[:, column]
        for c in (column, column + 1):
            into[:, c] = np.where(earlier, other[:, c], into[:, c])
    added = np.array(ADDED)
    into[:, added] += other[:, added]


def total_error(row: Any) -> int:
    """Σ |error| of a row in units of 2^-20 ulp, exactly."""
    return _limbs(row, SUMS)


def signed_error(row: Any) -> int:
    """Σ error of a row in units of 2^-20 ulp, exactly; positive is away from zero."""
    return 2 * _limbs(row, AWAY_SUMS) - _limbs(row, SUMS)


def _limbs(row: Any, column: int) -> int:
    return sum(int(row[column + k]) << (31 * k) for k in range(LIMBS))


def pair(row: Any, column: int) -> int:
    """The number that two columns hold."""
    return int(row[column]) + (int(row[column + 1]) << 31)


def relative_bits(precision: int) -> int:
    """k where relative errors are summed in units of 2^-k: p + 16, but of 2^-60 at the finest.

    A clipped error is then at most 2^60 units, so that one fits an int64; of formats up to fp32 2^40, so
    that a tile of 1024 does.
    """
    return min(precision + 16, 60)


def bin_edge(index: int) -> float:
    """Upper edge of a histogram bin, in ulps."""
    value = index + 1 + BIN_BASE
    return math.ldexp(1 + (value & 31) / 32, (value >> 5) - 127)
