"""Sums over a tile's results, as integers, so that neither order nor the width of vectors changes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from precision_lab.numeric.jit import compiled, float32_to_bits, float_to_bits
from precision_lab.scoring.adding import add_pair, add_sum, correct_bits, relative_bits, scale_of
from precision_lab.scoring.columns import (
    AWAY_SUMS,
    BIN_BASE,
    BIN_SHIFT,
    BINS,
    BITS,
    BITS_SCALE,
    CLIP,
    FLOOR,
    MAX_RELATIVE,
    RELATIVE,
    RELATIVE_SQUARES,
    SQUARES,
    SUM_BITS,
    SUM_UNIT,
    SUMS,
)

INFINITY32 = np.float32(np.inf)
ROUNDER = 1.5 * 2.0**52
ROUNDER_BITS = 0x4338000000000000


@compiled
def nearest_integer(value: float) -> Any:
    """The nearest integer of |value| < 2^51, ties to even: the sum's low bits are ROUNDER's plus it."""
    return float_to_bits(value + ROUNDER) - ROUNDER_BITS


@compiled
def sum_errors(row: Any, error: Any, n: int, largest_bits: int) -> None:
    """Adds Σ |error[:n]| in fixed point, each rounded to 2^-51 of the largest, or to 2^-21 if that is more.

    So are the positive errors, of which a sum and a difference of integers tell, and squares, each a
    float64 product rounded to 2^-21.
    """
    scale = scale_of(largest_bits)
    unit = math.ldexp(1.0, SUM_BITS - scale)
    total: Any = np.int64(0)
    signed: Any = np.int64(0)
    squares: Any = np.int64(0)
    for i in range(n):
        a = abs(error[i])
        units = nearest_integer(a * unit)
        total += units
        signed += -units if error[i] < 0 else units
        squared = min(a, CLIP)
        squares += nearest_integer(squared * squared * SUM_UNIT)
    add_sum(row, SUMS, scale, total)
    add_sum(row, AWAY_SUMS, scale, (total + signed) >> 1)
    add_pair(row, SQUARES, squares)


@compiled
def count_bins(histogram: Any, error32: Any, bins: Any, n: int) -> None:
    """Counts each error in its bin of the histogram."""
    for i in range(n):
        index = (float32_to_bits(abs(error32[i])) >> np.int32(BIN_SHIFT)) - np.int32(BIN_BASE)
        bins[i] = np.uint16(min(max(index, np.int32(0)), np.int32(BINS - 1)))
    for i in range(n):
        histogram[bins[i]] += 1


@compiled
def sum_relative(row: Any, error32: Any, size32: Any, n: int, precision: int) -> None:
    """Adds signed relative errors and their squares, and leaves |relative error|, at least 2^-p, in error32.

    A relative error is a quotient of two float32, that is within 3·2^-24 of itself, and exact from there on
    but for one rounding to the unit of its sum.
    """
    least, one, zero = np.float32(math.ldexp(1.0, -precision)), np.float32(1), np.float32(0)
    floor = np.float32(FLOOR)
    unit, ulps = math.ldexp(1.0, relative_bits(precision)), math.ldexp(1.0, precision)
    largest: Any = np.int32(0)
    signed: Any = np.int64(0)
    squares: Any = np.int64(0)
    for i in range(n):
        size = abs(error32[i])
        ratio = size / size32[i]
        relative = min(max(ratio, least), one)
        # An error of FLOOR is none, unless the value is as small; an infinite one marks a mismatch.
        counts = ((size > floor) | (size32[i] <= floor)) & (size < INFINITY32)
        share = np.float64(min(ratio, one) if counts else zero)
        units = nearest_integer(share * unit)
        signed += -units if error32[i] < 0 else units
        scaled = min(share * ulps, CLIP)
        squares += nearest_integer(scaled * scaled * SUM_UNIT)
        error32[i] = relative
        largest = max(largest, float32_to_bits(relative))
    add_pair(row, RELATIVE, signed)
    add_pair(row, RELATIVE_SQUARES, squares)
    row[MAX_RELATIVE] = max(row[MAX_RELATIVE], largest)


@compiled
def sum_bits(row: Any, relative: Any, n: int, precision: int, undecided: int) -> None:
    """Adds the correct bits of n results, less p for each undecided one (whose relative error reads 2^-p).

    Logarithms are taken of products of four: each factor is at least 2^-24, so nothing underflows.
    """
    scale, half = np.float32(BITS_SCALE), np.float32(0.5)
    quarter = n >> 2
    total = np.int64(0)
    r0, r1 = relative[:quarter], relative[quarter : 2 * quarter]
    r2, r3 = relative[2 * quarter : 3 * quarter], relative[3 * quarter : 4 * quarter]
    for i in range(quarter):
        product = r0[i] * r1[i] * (r2[i] * r3[i])
        total += np.int32(correct_bits(float32_to_bits(product)) * scale + half)
    for i in range(4 * quarter, n):
        total += np.int32(correct_bits(float32_to_bits(relative[i])) * scale + half)
    row[BITS] += total - undecided * np.int64(precision * BITS_SCALE)
