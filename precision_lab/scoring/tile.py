"""Scores computed values against enclosures: a vectorised loop per tile, and one value at a time.

`score_tile` takes float64 values S with bounds B, |S − exact| ≤ B. What it cannot decide with
certainty it leaves out of every count and lists for the next tier: an ulp error not certain to
2^-10, an enclosure that touches the edge of a binade, a rounding or a sign within the bound of
its threshold. `score_one` takes any enclosure high + low ± radius and is what the rare and
irregular cases go through. Definitions (ulp, wrong sign, …) are those of `errors`.

All counts are integers, and every floating-point operation rounds once as written, so the
results do not depend on the width of vectors, the number of threads or the order of tiles.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from precision_lab.numeric.jit import bits_to_float, compiled, entry, float32_to_bits, float_to_bits
from precision_lab.oracle.decide import (
    CERTIFIED,
    EMAX,
    EMIN,
    HAS_INFINITY,
    MAX_FINITE,
    MAX_SIGNIFICAND,
    PRECISION,
    SATURATING,
)
from precision_lab.scoring.columns import (
    AWAY_SUMS,
    BIN_BASE,
    BIN_SHIFT,
    BINS,
    BITS,
    BITS_SCALE,
    CLIP,
    INEXACT,
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
    SUMS,
    VALID,
    WRONG_SIGN,
    ZERO_SIGN,
    N,
    add_pair,
    add_roundings,
    add_sum,
    correct_bits,
    relative_bits,
    scale_of,
    value_bits,
)

INFINITY_BITS = 0x7FF0000000000000
INFINITY32 = np.float32(np.inf)
# Smaller errors and sizes, in ulps, count as this where only their ratio matters: dividing subnormal
# float32 numbers would be a hundred times slower.
FLOOR = 2.0**-40
LARGEST32 = float(np.finfo(np.float32).max)  # larger errors count as this there: only infinities stand out
SUM_UNIT = 2.0**SUM_BITS
ROUNDER = 1.5 * 2.0**52
ROUNDER_BITS = 0x4338000000000000
# A neighbour of a value that is CERTIFIED from every number is nearer; an error of one ulp is not.
WITHIN = 1 - CERTIFIED / 2
MONOTONE_ULPS = 2.0**-9  # a smaller step of the exact value promises nothing about computed ones


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
def score_one(
    rows: Any, histogram: Any, cell: int, fmt: Any, pattern: int, y: float,
    rounded: float, tail: float, ulp: float, exact: float, sign: int,
) -> None:  # fmt: skip
    """Counts one computed value against what `decide` found of the exact one.

    Args:
        exact: the exact value to float64 precision; sign: of the exact value, 0 where it is 0 or not
            needed.
    """
    precision = int(fmt[PRECISION])
    size = abs(exact)
    subnormal = exact != 0 and size < math.ldexp(1.0, int(fmt[EMIN]))
    row = rows[2 * cell + 1] if subnormal else rows[2 * cell]
    row[N] += 1
    got, expected = math.isfinite(y), math.isfinite(rounded)
    same = y == rounded or (y != y and rounded != rounded)
    if not same:
        row[MISROUNDED] += 1
    if got != expected or (not got and not expected and not same):
        row[NONFINITE] += 1
        first(row, NONFINITE_PATTERN, pattern, y)
    # Values below half the smallest number have no sign that matters. `exact` does not tell: in fp64 it may
    # be a stand-in, or read the same as half the smallest number beside it.
    matters = rounded != 0 or abs(tail) >= 0.5
    if matters and ((y < 0 and sign > 0) or (y > 0 and sign < 0)):
        row[WRONG_SIGN] += 1
        first(row, SIGN_PATTERN, pattern, y)
    if y == 0 and rounded == 0 and sign != 0 and (math.copysign(1.0, y) < 0) != (sign < 0):
        row[ZERO_SIGN] += 1
    bits = float(precision)
    if got and expected:
        # Values of the format: near each other their difference is exact. Beyond float64's range the
        # error is its largest number.
        error = min(abs((y - rounded) / ulp - tail), 1.7976931348623157e308)
        # The size in ulps; of what rounds to 0, the tail, since `exact` may be a stand-in.
        ulps = abs(tail) if rounded == 0 else size / ulp
        row[VALID] += 1
        error_bits = float_to_bits(error)
        witness(row, error_bits, pattern, y)
        scale = scale_of(error_bits)
        units = int(np.rint(math.ldexp(error, SUM_BITS - scale)))
        add_sum(row, SUMS, scale, units)
        away = (y - rounded) / ulp - tail
        away = -away if sign < 0 else away
        if exact == 0 or sign == 0:
            away = -error if y == 0 else error
        if away > 0:
            add_sum(row, AWAY_SUMS, scale, units)
        # Of an error next to nothing the sign may be lost, but 0 lies toward 0.
        toward = away < 0 or y == 0
        _count_signed(row, precision, error, toward, ulps, tail, rounded, exact, sign, same)
        in_float32 = float32_to_bits(np.float32(error))
        histogram[min(max((in_float32 >> BIN_SHIFT) - BIN_BASE, 0), BINS - 1)] += 1
        if exact != 0:
            bits = count_relative(row, max(error, FLOOR) / max(ulps, FLOOR), precision)
        elif error != 0:
            bits = count_relative(row, 1.0, precision)
    elif expected:
        bits = count_relative(row, 1.0, precision)
    row[BITS] += int(np.rint(bits * BITS_SCALE))


@compiled
def _count_signed(
    row: Any, precision: int, error: float, toward: bool, ulps: float, tail: float,
    rounded: float, exact: float, sign: int, same: bool,
) -> None:  # fmt: skip
    """Relative errors, squares, the correct rounding's own errors and the direction, of one valid result.

    Each is rounded to its unit once and added as an integer, so that the order of additions changes nothing.

    Args:
        error: in ulps; toward: whether it goes toward zero; ulps: the exact value's size in ulps.
        same: the result is the correct rounding.
    """
    squared = min(error, CLIP)
    add_pair(row, SQUARES, int(np.rint(squared * squared * SUM_UNIT)))
    if exact == 0:
        # Relative to 0 every error is as large as it can be.
        relative, gap, nearest = (1.0 if error != 0 else 0.0), 0.0, 0.0
    else:
        floored = max(ulps, FLOOR)
        # An error below FLOOR is 0, unless the value itself is that small.
        counts = error > FLOOR or ulps <= FLOOR
        relative = min(max(error, FLOOR) / floored, 1.0) if counts else 0.0
        # The correct rounding's error, positive where it lies away from 0. What rounds to 0 loses all.
        gap = -floored if rounded == 0 else (tail if sign < 0 else -tail)
        nearest = max(gap / floored, -1.0)
    signed = -relative if toward else relative
    unit = math.ldexp(1.0, relative_bits(precision))
    add_pair(row, RELATIVE, int(np.rint(signed * unit)))
    scaled = min(math.ldexp(relative, precision), CLIP)
    add_pair(row, RELATIVE_SQUARES, int(np.rint(scaled * scaled * SUM_UNIT)))
    add_pair(row, NEAREST, int(np.rint(gap * SUM_UNIT)))
    add_pair(row, NEAREST_RELATIVE, int(np.rint(nearest * unit)))
    if exact != 0:
        code = _rounding(gap, error, not same, toward)
        add_roundings(row, INEXACT + NEGATIVE if sign < 0 else INEXACT, code)


@entry
def score_many(
    rows: Any, histogram: Any, cells: Any, fmt: Any, patterns: Any, y: Any,
    rounded: Any, tail: Any, ulp: Any, exact: Any, sign: Any, undecided: Any,
) -> None:  # fmt: skip
    """`score_one` for arrays; undecided inputs enter no count."""
    for i in range(y.size):
        if not undecided[i]:
            score_one(
                rows, histogram, cells[i], fmt, patterns[i], y[i],
                rounded[i], tail[i], ulp[i], exact[i], sign[i],
            )  # fmt: skip


@compiled
def count_relative(row: Any, relative: float, precision: int) -> float:
    """Correct bits of a relative error, between 0 and p; keeps the largest error."""
    least = math.ldexp(1.0, -precision)
    clipped = min(max(relative, least), 1.0)
    as_bits = float32_to_bits(np.float32(clipped))
    row[MAX_RELATIVE] = max(row[MAX_RELATIVE], as_bits)
    return float(correct_bits(as_bits))


@compiled
def score_tile(
    y: Any, s: Any, b: Any, n: int, start: int, smallest: float, largest: float, widest: float,
    pivot: float, side: int, fmt: Any,
    rows: Any, histogram: Any, cell: int, patterns: Any, offset: int,
    left: Any, n_left: int, error: Any, error32: Any, size32: Any, bins: Any,
) -> int:  # fmt: skip
    """Scores y[:n], the chunk's inputs from `start` on, against s[:n] with bounds b[:n].

    Returns the new length of `left`.

    Args:
        smallest, largest: of |s|; widest: of b.
        pivot, side: where side is not 0, every |exact value| is known to be above (1) or below (-1) pivot,
            however near: a gradient of 1/2 + tiny has the ulp of 1/2 or of what lies below it. With
            pivot 0, side is the values' sign.
        left: indices of inputs that this tier cannot decide, appended from `n_left` on.
        patterns: of the inputs; empty where input i has pattern offset + i.
        error, error32, size32, bins: scratch of at least n elements.
    """
    precision, emin = int(fmt[PRECISION]), int(fmt[EMIN])
    max_finite, normal = fmt[MAX_FINITE], math.ldexp(1.0, emin)
    half_subnormal = math.ldexp(0.5, emin - precision + 1)
    # Halfway from the largest number to the next.
    overflow = math.ldexp(2 * fmt[MAX_SIGNIFICAND] + 1, int(fmt[EMAX]) - precision)
    # Sums of a size and a bound round monotonically; one step more makes them safe to compare with.
    high = (largest + widest) * (1 + 2.0**-51)
    low = (smallest - widest) * (1 - 2.0**-51)
    if low > overflow and fmt[HAS_INFINITY] != 0 and fmt[SATURATING] == 0:
        _score_overflow(y, s, n, start, rows[2 * cell], precision, patterns, offset)
        return n_left
    if low > overflow and fmt[SATURATING] != 0 and _all_saturated(y, s, n, max_finite):
        # Every exact value certainly rounds to the largest number, and that is what came: no error at all.
        row = rows[2 * cell]
        row[N] += n
        row[VALID] += n
        row[BITS] += n * np.int64(precision * BITS_SCALE)
        row[MAX_RELATIVE] = max(row[MAX_RELATIVE], float32_to_bits(np.float32(math.ldexp(1.0, -precision))))
        histogram[0] += n
        witness(row, 0, patterns[start] if patterns.size else offset + start, np.float64(y[0]))
        return n_left
    # A value of 0 with a bound is not 0, only too small to be told from it.
    row = rows[2 * cell + 1] if high > 0 and largest < normal else rows[2 * cell]
    if high == 0 and _all_zero(y, n):
        row[N] += n
        row[VALID] += n
        row[BITS] += n * np.int64(precision * BITS_SCALE)
        histogram[0] += n
        witness(row, 0, patterns[start] if patterns.size else offset + start, np.float64(y[0]))
        return n_left
    # Where the tile straddles a threshold between kinds of results, or is 0 and y is not, each result
    # is looked at alone, by the next tier.
    straddles = smallest < normal <= largest or (low <= half_subnormal <= high and largest > 0)
    straddles = straddles or (low <= 0 and not (side != 0 and pivot == 0))  # a sign is not known
    if straddles or high >= max_finite or high == 0:
        for i in range(n):
            left[n_left + i] = start + i
        return n_left + n
    top = largest if side >= 0 or largest < pivot or pivot == 0 else pivot * (1 - 2.0**-53)
    exponent = max((float_to_bits(top) >> 52) - 1023, emin)
    inverse = math.ldexp(1.0, precision - 1 - exponent)  # of the ulp
    bottom, end = math.ldexp(1.0, exponent), math.ldexp(1.0, exponent + 1)
    above = exponent == emin or low > bottom or (side > 0 and pivot >= bottom)
    below = high < end or (side < 0 and 0 < pivot <= end)
    one_binade = above and below
    tolerance = widest * inverse
    undecided = misrounded = 0
    largest_bits: Any = np.int64(0)
    uniform = one_binade and tolerance <= CERTIFIED
    # Where all values are next to nothing, `side` knows their sign and s need not.
    known_sign = float_to_bits(np.float64(side)) if side != 0 and pivot == 0 else np.int64(0)
    relative_unit = math.ldexp(1.0, relative_bits(precision))
    nearest: Any = np.int64(0)
    nearest_relative: Any = np.int64(0)
    roundings: Any = np.int64(0)
    negative: Any = np.int64(0)
    if uniform:
        # 2^-50: what rounding the difference can do to an error around 1/2.
        near = tolerance + 2.0**-50
        for i in range(n):
            difference = (np.float64(y[i]) - s[i]) * inverse
            a = abs(difference)
            beyond = a - 0.5
            doubtful = abs(beyond) <= near
            undecided += doubtful
            misrounded += beyond > near
            kept = 0.0 if doubtful else a
            sign = float_to_bits(s[i]) if known_sign == 0 else known_sign
            toward = ((float_to_bits(difference) ^ sign) < 0) | (y[i] == 0)
            size = max(abs(s[i]) * inverse, FLOOR)
            kept32 = np.float32(min(max(kept, FLOOR), LARGEST32))
            error[i] = -kept if toward else kept
            error32[i] = -kept32 if toward else kept32
            size32[i] = np.float32(size)
            largest_bits = max(largest_bits, float_to_bits(kept))
            gap = _gap(size, near, not doubtful)
            nearest += float_to_bits(gap * SUM_UNIT + ROUNDER) - ROUNDER_BITS
            share = np.float64(np.float32(gap) / np.float32(size))
            nearest_relative += float_to_bits(share * relative_unit + ROUNDER) - ROUNDER_BITS
            code = _rounding(gap, a, beyond > near, toward)
            roundings += code
            negative += code if sign < 0 else 0
    nonfinite = 0
    uniform = uniform and largest_bits < INFINITY_BITS
    if not uniform:
        undecided = misrounded = 0
        largest_bits = np.int64(0)
        nearest = nearest_relative = roundings = negative = np.int64(0)
        for i in range(n):
            computed = np.float64(y[i])
            difference, m, near, doubtful = _judge(computed, s[i], b[i], precision, emin)
            a = abs(difference)
            finite = abs(computed) <= max_finite
            valid = finite & (not doubtful)
            undecided += doubtful
            misrounded += (not doubtful) & ((a > 0.5) | (not finite))
            nonfinite += (not doubtful) & (not finite)
            kept = a if valid else 0.0
            sign = float_to_bits(s[i]) if known_sign == 0 else known_sign
            toward = ((float_to_bits(difference) ^ sign) < 0) | (computed == 0)
            size = max(m, FLOOR)
            kept32 = np.float32(min(max(kept, FLOOR), LARGEST32)) if finite | doubtful else INFINITY32
            error[i] = -kept if toward else kept
            error32[i] = -kept32 if toward else kept32
            size32[i] = np.float32(size)
            largest_bits = max(largest_bits, float_to_bits(kept))
            gap = _gap(size, near, valid)
            nearest += float_to_bits(gap * SUM_UNIT + ROUNDER) - ROUNDER_BITS
            share = np.float64(np.float32(gap) / np.float32(size))
            nearest_relative += float_to_bits(share * relative_unit + ROUNDER) - ROUNDER_BITS
            code = _rounding(gap, a, a > 0.5, toward)
            roundings += code
            negative += code if sign < 0 else 0
    row[N] += n - undecided
    row[VALID] += n - undecided - nonfinite
    row[MISROUNDED] += misrounded
    row[NONFINITE] += nonfinite
    add_pair(row, NEAREST, nearest)
    add_pair(row, NEAREST_RELATIVE, nearest_relative)
    add_roundings(row, INEXACT, roundings - negative)
    add_roundings(row, INEXACT + NEGATIVE, negative)
    if undecided:
        for i in range(n):
            if uniform:
                doubtful = abs(abs((np.float64(y[i]) - s[i]) * inverse) - 0.5) <= tolerance + 2.0**-50
            else:
                _, _, _, doubtful = _judge(np.float64(y[i]), s[i], b[i], precision, emin)
            if doubtful:
                left[n_left] = start + i
                n_left += 1
                size32[i] = INFINITY32  # marks it, and counts as p correct bits, which are taken off again
    first_pattern = patterns[start] if patterns.size else offset + start
    if nonfinite and first_pattern < row[NONFINITE_PATTERN]:
        for i in range(n):
            if not abs(y[i]) <= max_finite and abs(error32[i]) == INFINITY32:
                pattern = patterns[start + i] if patterns.size else offset + start + i
                first(row, NONFINITE_PATTERN, pattern, np.float64(y[i]))
                break
    if largest_bits >= row[MAX_ERROR] and undecided + nonfinite < n:
        for i in range(n):
            decided = size32[i] < INFINITY32 and abs(y[i]) <= max_finite
            if decided and float_to_bits(abs(error[i])) == largest_bits:
                pattern = patterns[start + i] if patterns.size else offset + start + i
                witness(row, largest_bits, pattern, np.float64(y[i]))
                break
    # The wrong sign is an error of at least the value's own size.
    if largest > half_subnormal and (nonfinite or bits_to_float(largest_bits) >= 0.5):
        _count_signs(y, s, n, start, row, patterns, offset, error32, size32)
    if low <= half_subnormal:
        for i in range(n):
            value = float(side) if side != 0 and pivot == 0 else s[i]
            opposite = (float_to_bits(np.float64(y[i])) ^ float_to_bits(value)) < 0
            known = (abs(value) > b[i]) & (size32[i] < INFINITY32)
            row[ZERO_SIGN] += (y[i] == 0) & opposite & (abs(error[i]) < 0.5) & known
    _sum_errors(row, error, n, largest_bits)
    if bits_to_float(largest_bits) < 2.0**-12 and nonfinite == 0:
        histogram[0] += n  # one bin for all
    else:
        _count_bins(histogram, error32, bins, n)
    _sum_bits(row, error32, size32, n, precision, undecided)
    histogram[0] -= undecided
    histogram[BINS - 1] -= nonfinite
    return n_left


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
def _rounding(gap: float, a: float, misrounded: bool, toward: bool) -> Any:
    """For a result within one ulp of a value that is no number of the format, which way it was rounded.

    As `add_roundings` takes it. A misrounded result within one ulp is the neighbour on the error's side.

    Args:
        gap: of the correct rounding; a: |error|, both in ulps.
    """
    direction = np.int64(1 << 3 * PACKED) if toward else np.int64(1 << 2 * PACKED)
    code = np.int64(1) + (np.int64(1 << PACKED) if gap > 0 else np.int64(0))
    code += direction if misrounded else np.int64(0)
    return code if (abs(gap) > CERTIFIED) & (a < WITHIN) else np.int64(0)


@compiled
def _judge(
    computed: float, value: float, bound: float, precision: int, emin: int
) -> tuple[float, float, float, bool]:
    """computed − value, |value| and the bound in ulps; whether it leaves the ulp, error or rounding open."""
    size = abs(value)
    exponent = max(float_to_bits(size) >> 52, emin + 1023)
    inverse = bits_to_float((precision - 1 + 2046 - exponent) << 52)
    bottom = bits_to_float(exponent << 52)
    difference = (computed - value) * inverse
    near = bound * inverse + 2.0**-50
    # Sums round monotonically: a high end at or above the binade's end is seen, a low end below its
    # start may come out as the start.
    outside = ((size - bound <= bottom) & (exponent > emin + 1023)) | (size + bound >= 2 * bottom)
    doubtful = (not bound * inverse <= CERTIFIED) | outside | (abs(abs(difference) - 0.5) <= near)
    return difference, size * inverse, near, doubtful


@compiled
def _count_signs(
    y: Any, s: Any, n: int, start: int, row: Any, patterns: Any, offset: int, error32: Any, size32: Any
) -> None:
    for i in range(n):
        if np.float64(y[i]) * s[i] < 0 and abs(error32[i]) >= 0.5 and size32[i] < INFINITY32:
            row[WRONG_SIGN] += 1
            pattern = patterns[start + i] if patterns.size else offset + start + i
            first(row, SIGN_PATTERN, pattern, np.float64(y[i]))


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
def _score_overflow(
    y: Any, s: Any, n: int, start: int, row: Any, precision: int, patterns: Any, offset: int
) -> None:
    """A tile in which every exact value certainly rounds to an infinity: anything else is a mismatch."""
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
        pattern = patterns[start + i] if patterns.size else offset + start + i
        if np.float64(y[i]) != math.copysign(math.inf, s[i]):
            first(row, NONFINITE_PATTERN, pattern, np.float64(y[i]))
        if np.float64(y[i]) * s[i] < 0:
            row[WRONG_SIGN] += 1
            first(row, SIGN_PATTERN, pattern, np.float64(y[i]))


@compiled
def count_moves(y: Any, s: Any, b: Any, n: int, fmt: Any) -> int:
    """Neighbours between which y moves against the exact values, where those certainly move."""
    # Both series rising, or both falling, is the rule; the sign bits of all steps, put together, show it.
    # A NaN raises suspicion at worst.
    falling = rising = y_falling = y_rising = np.int64(0)
    before, after, y_before, y_after = s[: n - 1], s[1:n], y[: n - 1], y[1:n]
    for i in range(n - 1):
        falling |= float_to_bits(after[i] - before[i])
        rising |= float_to_bits(before[i] - after[i])
    for i in range(n - 1):  # in float64, where the difference of two float32 is never subnormal
        y_falling |= float_to_bits(np.float64(y_after[i]) - np.float64(y_before[i]))
        y_rising |= float_to_bits(np.float64(y_before[i]) - np.float64(y_after[i]))
    if (rising >= 0 or y_falling >= 0) and (falling >= 0 or y_rising >= 0):
        return 0
    count = 0
    for i in range(1, n):
        count += moves_against(np.float64(y[i - 1]), s[i - 1], b[i - 1], np.float64(y[i]), s[i], b[i], fmt)
    return count


@entry
def moves_against(y0: float, s0: float, b0: float, y1: float, s1: float, b1: float, fmt: Any) -> bool:
    """Whether y1 − y0 has the other sign than s1 − s0, a step of more than 2^-9 ulp and the bounds."""
    step = s1 - s0
    size = max(abs(s0), abs(s1))
    exponent = min(max((float_to_bits(size) >> 52) - 1023, int(fmt[EMIN])), int(fmt[EMAX]))
    ulp = bits_to_float((exponent + 1024 - int(fmt[PRECISION])) << 52)
    certain = abs(step) > MONOTONE_ULPS * ulp + (b0 + b1) * (1 + 2.0**-40)
    move = y1 - y0
    against: bool = certain & (((move > 0) & (step < 0)) | ((move < 0) & (step > 0)))
    return against


@compiled
def _sum_errors(row: Any, error: Any, n: int, largest_bits: int) -> None:
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
        # |error|·unit < 2^51, so that the sum's low bits are ROUNDER's plus the nearest integer.
        a = abs(error[i])
        units = float_to_bits(a * unit + ROUNDER) - ROUNDER_BITS
        total += units
        signed += -units if error[i] < 0 else units
        squared = min(a, CLIP)
        squares += float_to_bits(squared * squared * SUM_UNIT + ROUNDER) - ROUNDER_BITS
    add_sum(row, SUMS, scale, total)
    add_sum(row, AWAY_SUMS, scale, (total + signed) >> 1)
    add_pair(row, SQUARES, squares)


@compiled
def _sum_bits(row: Any, error32: Any, size32: Any, n: int, precision: int, undecided: int) -> None:
    """Adds the correct bits of n results, less p for each undecided one (whose size32 is infinite), and
    the signed relative errors and their squares.

    Logarithms are taken of products of four: each factor is at least 2^-24, so nothing underflows.
    error32 is overwritten. A relative error is a quotient of two float32, that is within 3·2^-24 of itself,
    and exact from there on but for one rounding to the unit of its sum.
    """
    least, one, zero = np.float32(math.ldexp(1.0, -precision)), np.float32(1), np.float32(0)
    scale, half, floor = np.float32(BITS_SCALE), np.float32(0.5), np.float32(FLOOR)
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
        units = float_to_bits(share * unit + ROUNDER) - ROUNDER_BITS
        signed += -units if error32[i] < 0 else units
        scaled = min(share * ulps, CLIP)
        squares += float_to_bits(scaled * scaled * SUM_UNIT + ROUNDER) - ROUNDER_BITS
        error32[i] = relative
        largest = max(largest, float32_to_bits(relative))
    add_pair(row, RELATIVE, signed)
    add_pair(row, RELATIVE_SQUARES, squares)
    quarter = n >> 2
    total = np.int64(0)
    r0, r1 = error32[:quarter], error32[quarter : 2 * quarter]
    r2, r3 = error32[2 * quarter : 3 * quarter], error32[3 * quarter : 4 * quarter]
    for i in range(quarter):
        product = r0[i] * r1[i] * (r2[i] * r3[i])
        total += np.int32(correct_bits(float32_to_bits(product)) * scale + half)
    for i in range(4 * quarter, n):
        total += np.int32(correct_bits(float32_to_bits(error32[i])) * scale + half)
    row[MAX_RELATIVE] = max(row[MAX_RELATIVE], largest)
    row[BITS] += total - undecided * np.int64(precision * BITS_SCALE)


@compiled
def _count_bins(histogram: Any, error32: Any, bins: Any, n: int) -> None:
    for i in range(n):
        index = (float32_to_bits(abs(error32[i])) >> np.int32(BIN_SHIFT)) - np.int32(BIN_BASE)
        bins[i] = np.uint16(min(max(index, np.int32(0)), np.int32(BINS - 1)))
    for i in range(n):
        histogram[bins[i]] += 1
