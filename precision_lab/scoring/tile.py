"""Scores a tile: computed values against float64 values S with bounds B, |S − exact| ≤ B, in vector loops.

What it cannot decide with certainty it leaves out of every count and lists for the next tier: an ulp error
not certain to 2^-10, an enclosure that touches the edge of a binade, a rounding or a sign within the bound
of its threshold. Its errors are a fast form of those that `errors` defines; tests/scoring/test_one_ulp.py
holds the two together. `score.cu` is the same for GPUs, stage by stage.

All counts are integers, and every floating-point operation rounds once as written, so the
results do not depend on the width of vectors, the number of threads or the order of tiles.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.numeric.jit import TRUE, ZERO, bits_to_float, compiled, float_to_bits
from precision_lab.oracle.format_row import EMIN, MAX_FINITE, PRECISION
from precision_lab.scoring.adding import add_pair, add_roundings, relative_bits
from precision_lab.scoring.columns import (
    BINS,
    FLOOR,
    INEXACT,
    MAX_ERROR,
    MISROUNDED,
    NEAREST,
    NEAREST_RELATIVE,
    NEGATIVE,
    NONFINITE,
    NONFINITE_PATTERN,
    SIGN_PATTERN,
    SUM_UNIT,
    VALID,
    WRONG_SIGN,
    ZERO_SIGN,
    N,
)
from precision_lab.scoring.constant_tile import score_constant
from precision_lab.scoring.one_value import first, rounding_code, witness
from precision_lab.scoring.settled import Counts
from precision_lab.scoring.tile_records import Extent, Found, Judged, Left, Scratch, Tile, leave, pattern_of
from precision_lab.scoring.tile_sums import (
    INFINITY32,
    ROUNDER,
    count_bins,
    nearest_integer,
    sum_bits,
    sum_errors,
    sum_relative,
)

INFINITY_BITS = 0x7FF0000000000000
LARGEST32 = float(np.finfo(np.float32).max)  # larger errors count as this there: only infinities stand out
ROUNDED = 2.0**-50  # what rounding the difference can do to an error around 1/2


@compiled
def score_tile(tile: Tile, extent: Extent, fmt: Any, counts: Counts, left: Left, scratch: Scratch) -> None:
    """Counts a tile's results, but for what it appends to `left`."""
    precision, largest = int(fmt[PRECISION]), extent.largest
    # Sums of a size and a bound round monotonically; one step more makes them safe to compare with.
    high = (largest + extent.widest) * (1 + 2.0**-51)
    low = (extent.smallest - extent.widest) * (1 - 2.0**-51)
    if score_constant(tile, low, high, fmt, counts):
        return
    # Where all values are next to nothing, `side` knows their sign and s need not. 0 says that s knows it.
    next_to_nothing = extent.side != 0 and extent.pivot == 0
    known_sign = float_to_bits(np.float64(extent.side)) if next_to_nothing else ZERO
    if (low <= 0 and not next_to_nothing) or _straddles(extent, low, high, fmt):
        for i in range(tile.n):
            leave(left, tile.start + i)
        return
    inverse, tolerance, uniform = _common_ulp(extent, low, high, fmt)
    found = _nothing()
    if uniform:
        found = _errors_in_one_binade(tile, inverse, tolerance + ROUNDED, precision, known_sign, scratch)
    # A result that is no number was not looked for there.
    if not uniform or found.largest_bits >= INFINITY_BITS:
        found = _errors_one_by_one(tile, fmt, known_sign, scratch)
    # A value of 0 with a bound is not 0, only too small to be told from it.
    subnormal = largest < math.ldexp(1.0, int(fmt[EMIN]))
    row = counts.rows[2 * tile.cell + 1] if subnormal else counts.rows[2 * tile.cell]
    _add(row, found, tile.n)
    if found.undecided:
        for i in range(tile.n):
            if scratch.size32[i] == INFINITY32:
                leave(left, tile.start + i)
    _keep_witnesses(tile, fmt, row, found, scratch)
    half_subnormal = math.ldexp(0.5, int(fmt[EMIN]) - precision + 1)
    # The wrong sign is an error of at least the value's own size.
    if largest > half_subnormal and (found.nonfinite or bits_to_float(found.largest_bits) >= 0.5):
        _count_signs(tile, row, scratch)
    if low <= half_subnormal:
        _count_zero_signs(tile, known_sign, row, scratch)
    _add_sums(row, counts.histogram, found, tile.n, precision, scratch)


@compiled
def _straddles(extent: Extent, low: float, high: float, fmt: Any) -> bool:
    """Whether each result must be looked at alone, by the next tier.

    The tile straddles a threshold between kinds of results, or it is 0 and y is not.
    """
    precision, emin = int(fmt[PRECISION]), int(fmt[EMIN])
    normal, half_subnormal = math.ldexp(1.0, emin), math.ldexp(0.5, emin - precision + 1)
    straddles = extent.smallest < normal <= extent.largest
    straddles = straddles or (low <= half_subnormal <= high and extent.largest > 0)
    return straddles or high >= fmt[MAX_FINITE] or high == 0


@compiled
def _common_ulp(extent: Extent, low: float, high: float, fmt: Any) -> tuple[float, float, bool]:
    """1/ulp of the largest value, the widest bound in such ulps, and whether it is that of all, to 2^-10."""
    precision, emin = int(fmt[PRECISION]), int(fmt[EMIN])
    pivot, side, largest = extent.pivot, extent.side, extent.largest
    top = largest if side >= 0 or largest < pivot or pivot == 0 else pivot * (1 - 2.0**-53)
    exponent = max((float_to_bits(top) >> 52) - 1023, emin)
    inverse = math.ldexp(1.0, precision - 1 - exponent)
    bottom, end = math.ldexp(1.0, exponent), math.ldexp(1.0, exponent + 1)
    above = exponent == emin or low > bottom or (side > 0 and pivot >= bottom)
    below = high < end or (side < 0 and 0 < pivot <= end)
    tolerance = extent.widest * inverse
    return inverse, tolerance, above and below and tolerance <= CERTIFIED_ULPS


@compiled
def _nothing() -> Found:
    return Found(ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)


@compiled
def _errors_in_one_binade(
    tile: Tile, inverse: float, near: float, precision: int, known_sign: int, scratch: Scratch
) -> Found:
    """The results' errors, where all exact values share an ulp: what most tiles need."""
    y, s = tile.y, tile.s
    error, error32, size32 = scratch.error, scratch.error32, scratch.size32
    unit = math.ldexp(1.0, relative_bits(precision))
    found, finite = _nothing(), TRUE
    for i in range(tile.n):
        computed = np.float64(y[i])
        difference = (computed - s[i]) * inverse
        doubtful = abs(abs(difference) - 0.5) <= near
        judged = Judged(difference, abs(s[i]) * inverse, near, doubtful)
        sign = float_to_bits(s[i]) if known_sign == 0 else known_sign
        found, error[i], error32[i], size32[i] = _count(found, judged, computed == 0, finite, sign, unit)
    return found


@compiled
def _errors_one_by_one(tile: Tile, fmt: Any, known_sign: int, scratch: Scratch) -> Found:
    """The results' errors, where each exact value has its own ulp or a result is no number."""
    y, s, b = tile.y, tile.s, tile.b
    error, error32, size32 = scratch.error, scratch.error32, scratch.size32
    precision, emin, max_finite = int(fmt[PRECISION]), int(fmt[EMIN]), fmt[MAX_FINITE]
    unit = math.ldexp(1.0, relative_bits(precision))
    found = _nothing()
    for i in range(tile.n):
        computed = np.float64(y[i])
        judged = _judge(computed, s[i], b[i], precision, emin)
        finite = abs(computed) <= max_finite
        sign = float_to_bits(s[i]) if known_sign == 0 else known_sign
        found, error[i], error32[i], size32[i] = _count(found, judged, computed == 0, finite, sign, unit)
    return found


@compiled
def _judge(computed: float, value: float, bound: float, precision: int, emin: int) -> Judged:
    """A computed value beside an exact one that is within `bound` of `value`."""
    size = abs(value)
    exponent = max(float_to_bits(size) >> 52, emin + 1023)
    inverse = bits_to_float((precision - 1 + 2046 - exponent) << 52)
    bottom = bits_to_float(exponent << 52)
    difference = (computed - value) * inverse
    near = bound * inverse + ROUNDED
    # Sums round monotonically: a high end at or above the binade's end is seen, a low end below its
    # start may come out as the start.
    outside = ((size - bound <= bottom) & (exponent > emin + 1023)) | (size + bound >= 2 * bottom)
    doubtful = (not bound * inverse <= CERTIFIED_ULPS) | outside | (abs(abs(difference) - 0.5) <= near)
    return Judged(difference, size * inverse, near, doubtful)


@compiled
def _count(
    found: Found, judged: Judged, zero: bool, finite: bool, sign: int, unit: float
) -> tuple[Found, float, Any, Any]:
    """`found` with one more result, and what `Scratch` keeps of it: error, error32 and size32.

    Args:
        zero: the result is 0; finite: it is a number of the format; sign: of the exact value, as an int64's.
        unit: of sums of relative errors.
    """
    difference, size, near, doubtful = judged
    a = abs(difference)
    valid = finite & (not doubtful)
    misrounded = (not doubtful) & ((a > 0.5) | (not finite))
    kept = a if valid else 0.0
    toward = ((float_to_bits(difference) ^ sign) < 0) | zero
    size = max(size, FLOOR)
    kept32 = np.float32(min(max(kept, FLOOR), LARGEST32)) if finite | doubtful else INFINITY32
    gap = _gap(size, near, valid)
    share = np.float64(np.float32(gap) / np.float32(size))
    code = rounding_code(gap, a, a > 0.5, toward)
    more = Found(
        found.undecided + doubtful,
        found.misrounded + misrounded,
        found.nonfinite + ((not doubtful) & (not finite)),
        max(found.largest_bits, float_to_bits(kept)),
        found.nearest + nearest_integer(gap * SUM_UNIT),
        found.nearest_relative + nearest_integer(share * unit),
        found.roundings + code,
        found.negative + (code if sign < 0 else 0),
    )
    # An infinite size marks what is left, and counts as p correct bits, which are taken off again.
    size32 = INFINITY32 if doubtful else np.float32(size)
    return more, -kept if toward else kept, -kept32 if toward else kept32, size32


@compiled
def _gap(size: float, near: float, valid: bool) -> float:
    """The correct rounding's error at a size in ulps, positive where it lies away from 0.

    0 where that is within the bound of a tie, of which the two roundings err by half an ulp either way. No
    result within one ulp meets that: it is half an ulp off and left to the next tier.
    """
    # size < 2^51: the sum is size rounded to an integer, ties to even.
    gap = ((size + ROUNDER) - ROUNDER) - size
    return gap if valid & (abs(gap) < 0.5 - near) else 0.0


@compiled
def _add(row: Any, found: Found, n: int) -> None:
    """Adds what the results add up to, but for sums of their errors."""
    row[N] += n - found.undecided
    row[VALID] += n - found.undecided - found.nonfinite
    row[MISROUNDED] += found.misrounded
    row[NONFINITE] += found.nonfinite
    add_pair(row, NEAREST, found.nearest)
    add_pair(row, NEAREST_RELATIVE, found.nearest_relative)
    add_roundings(row, INEXACT, found.roundings - found.negative)
    add_roundings(row, INEXACT + NEGATIVE, found.negative)


@compiled
def _keep_witnesses(tile: Tile, fmt: Any, row: Any, found: Found, scratch: Scratch) -> None:
    """Keeps the first mismatch and the first of the largest errors, should they matter."""
    y, max_finite = tile.y, fmt[MAX_FINITE]
    error, error32, size32 = scratch.error, scratch.error32, scratch.size32
    if found.nonfinite and pattern_of(tile, ZERO) < row[NONFINITE_PATTERN]:
        for i in range(tile.n):
            if not abs(y[i]) <= max_finite and abs(error32[i]) == INFINITY32:
                first(row, NONFINITE_PATTERN, pattern_of(tile, i), np.float64(y[i]))
                break
    if found.largest_bits >= row[MAX_ERROR] and found.undecided + found.nonfinite < tile.n:
        for i in range(tile.n):
            decided = size32[i] < INFINITY32 and abs(y[i]) <= max_finite
            if decided and float_to_bits(abs(error[i])) == found.largest_bits:
                witness(row, found.largest_bits, pattern_of(tile, i), np.float64(y[i]))
                break


@compiled
def _count_signs(tile: Tile, row: Any, scratch: Scratch) -> None:
    y, s, error32, size32 = tile.y, tile.s, scratch.error32, scratch.size32
    for i in range(tile.n):
        if np.float64(y[i]) * s[i] < 0 and abs(error32[i]) >= 0.5 and size32[i] < INFINITY32:
            row[WRONG_SIGN] += 1
            first(row, SIGN_PATTERN, pattern_of(tile, i), np.float64(y[i]))


@compiled
def _count_zero_signs(tile: Tile, known_sign: int, row: Any, scratch: Scratch) -> None:
    y, s, b, error, size32 = tile.y, tile.s, tile.b, scratch.error, scratch.size32
    for i in range(tile.n):
        value = bits_to_float(known_sign) if known_sign != 0 else s[i]
        opposite = (float_to_bits(np.float64(y[i])) ^ float_to_bits(value)) < 0
        known = (abs(value) > b[i]) & (size32[i] < INFINITY32)
        row[ZERO_SIGN] += (y[i] == 0) & opposite & (abs(error[i]) < 0.5) & known


@compiled
def _add_sums(row: Any, histogram: Any, found: Found, n: int, precision: int, scratch: Scratch) -> None:
    """Adds sums of errors and their histogram; what is undecided or a mismatch is taken off again there."""
    sum_errors(row, scratch.error, n, found.largest_bits)
    if bits_to_float(found.largest_bits) < 2.0**-12 and found.nonfinite == 0:
        histogram[0] += n  # one bin for all
    else:
        count_bins(histogram, scratch.error32, scratch.bins, n)
    sum_relative(row, scratch.error32, scratch.size32, n, precision)
    sum_bits(row, scratch.error32, n, precision, found.undecided)
    histogram[0] -= found.undecided
    histogram[BINS - 1] -= found.nonfinite
