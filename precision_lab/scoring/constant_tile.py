"""Tiles whose exact values certainly all round to one number: infinity, the largest number, or 0.

No errors need be taken where that number came, as it mostly did.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from precision_lab.numeric.jit import ZERO, compiled, float32_to_bits
from precision_lab.oracle.format_row import (
    EMAX,
    HAS_INFINITY,
    MAX_FINITE,
    MAX_SIGNIFICAND,
    PRECISION,
    SATURATING,
)
from precision_lab.scoring.columns import (
    BITS,
    BITS_SCALE,
    MAX_RELATIVE,
    MISROUNDED,
    NONFINITE,
    NONFINITE_PATTERN,
    SIGN_PATTERN,
    VALID,
    WRONG_SIGN,
    N,
)
from precision_lab.scoring.one_value import first, witness
from precision_lab.scoring.settled import Counts
from precision_lab.scoring.tile_records import Tile, pattern_of


@compiled
def score_constant(tile: Tile, low: float, high: float, fmt: Any, counts: Counts) -> bool:
    """Whether the tile was such a one and is counted: infinities whatever came, others if all came right.

    Args:
        low, high: between which every |exact value| certainly lies.
    """
    precision = int(fmt[PRECISION])
    # Halfway from the largest number to the next.
    overflow = math.ldexp(2 * fmt[MAX_SIGNIFICAND] + 1, int(fmt[EMAX]) - precision)
    row = counts.rows[2 * tile.cell]
    if low > overflow and fmt[SATURATING] != 0:
        if not _all_saturated(tile.y, tile.s, tile.n, fmt[MAX_FINITE]):
            return False
        least = float32_to_bits(np.float32(math.ldexp(1.0, -precision)))
        row[MAX_RELATIVE] = max(row[MAX_RELATIVE], least)
    elif low > overflow and fmt[HAS_INFINITY] != 0:
        _score_overflow(tile, row, precision)
        return True
    elif not (high == 0 and _all_zero(tile.y, tile.n)):
        return False
    row[N] += tile.n
    row[VALID] += tile.n
    row[BITS] += tile.n * np.int64(precision * BITS_SCALE)
    counts.histogram[0] += tile.n
    witness(row, ZERO, pattern_of(tile, ZERO), np.float64(tile.y[0]))
    return True


@compiled
def _all_zero(y: Any, n: int) -> bool:
    seen = np.int32(0)
    for i in range(n):
        seen |= float32_to_bits(y[i])
    zero: bool = (seen & np.int32(0x7FFFFFFF)) == 0
    return zero


@compiled
def _all_saturated(y: Any, s: Any, n: int, max_finite: float) -> bool:
    other = 0
    for i in range(n):
        other += np.float64(y[i]) != math.copysign(max_finite, s[i])
    return other == 0


@compiled
def _score_overflow(tile: Tile, row: Any, precision: int) -> None:
    """Every exact value certainly rounds to an infinity: anything else is a mismatch."""
    y, s, n = tile.y, tile.s, tile.n
    right = 0
    for i in range(n):
        right += np.float64(y[i]) == math.copysign(math.inf, s[i])
    row[N] += n
    row[BITS] += n * np.int64(precision * BITS_SCALE)
    row[MISROUNDED] += n - right
    row[NONFINITE] += n - right
    if right == n:
        return
    for i in range(n):
        if np.float64(y[i]) != math.copysign(math.inf, s[i]):
            first(row, NONFINITE_PATTERN, pattern_of(tile, i), np.float64(y[i]))
        if np.float64(y[i]) * s[i] < 0:
            row[WRONG_SIGN] += 1
            first(row, SIGN_PATTERN, pattern_of(tile, i), np.float64(y[i]))
