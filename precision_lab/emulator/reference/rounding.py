"""Exact arithmetic and one rounding, for every format and direction of PTX.

A sum, product or fused product of numbers of at most 24 bits is computed in FP64 and, where FP64 has not all
of it, rounded to odd there: cut off towards zero, with the last bit set if anything was cut off. FP64 has
more than two bits beyond every such format, so one rounding of that is the rounding of the exact result, in
any direction (Boldo and Melquiond, IEEE Trans. Computers 57, 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from precision_lab.emulator.reference.lanes import Array

NEAREST, ZERO, DOWN, UP, AWAY = "rn", "rz", "rm", "rp", "rna"
DIRECTIONS = (NEAREST, ZERO, DOWN, UP)


@dataclass(frozen=True)
class Format:
    """A binary format of at most 32 bits.

    Attributes:
        bits: of its code.
        precision: in bits, the implicit one included.
        emin: exponent of its smallest normal number.
        top: code of its largest finite number; the next one is infinity, where it has that.
        has_infinity: else overflow is NaN, unless it saturates.
        nan: code that a NaN result gets; -1 where there is none.
        pad: low bits of the code that are always 0.
    """

    bits: int
    precision: int
    emin: int
    top: int
    has_infinity: bool
    nan: int
    pad: int = 0


F32 = Format(32, 24, -126, 0x7F7FFFFF, True, 0x7FFFFFFF)
TF32 = Format(
    32, 11, -126, 0x7F7FFFFF >> 13, True, 0x7FFFFFFF, 13
)  # its numbers are FP32's with 13 bits cleared
F16 = Format(16, 11, -14, 0x7BFF, True, 0x7FFF)
BF16 = Format(16, 8, -126, 0x7F7F, True, 0x7FFF)
E4M3 = Format(8, 4, -6, 0x7E, False, 0x7F)
E5M2 = Format(8, 3, -14, 0x7B, True, 0x7F)
E3M2 = Format(6, 3, -2, 0x1F, False, -1)
E2M3 = Format(6, 4, 0, 0x1F, False, -1)
E2M1 = Format(4, 2, 0, 0x7, False, -1)

NAN64 = np.uint64(0x7FF8000000000000)  # the manual leaves FP64's NaN open: one is kept


def odd_sum(a: Array, b: Array) -> Array:
    """a + b in FP64, rounded to odd; as FP64 has it where that is not finite."""
    s = a + b
    # Knuth's two_sum: the error of s is exact.
    v = s - a
    error = (a - (s - v)) + (b - v)
    bits = s.view(np.int64)
    inexact = np.isfinite(s) & (error != 0)
    # The neighbour towards zero where s was rounded away from it, then the last bit is set. Where s is
    # inexact it is not 0: sums of FP64 numbers that come near 0 are exact.
    bits = np.where(inexact & ((error > 0) != (s > 0)), bits - 1, bits)
    return np.where(inexact, bits | 1, bits).view(np.float64)


def narrow(x: Array, fmt: Format, direction: str, *, saturate: bool = False) -> Array:
    """Codes, as int64, of FP64 numbers that are exact or rounded to odd, rounded once to a format.

    Args:
        saturate: what is beyond the largest number becomes that, infinity too (`.satfinite`).
    """
    negative, size = np.signbit(x), np.abs(x)
    finite = np.isfinite(size)
    size = np.where(finite, size, 0.0)
    exponent = np.where(size == 0, fmt.emin, np.maximum(np.frexp(size)[1] - 1, fmt.emin)).astype(np.int64)
    units = np.ldexp(size, fmt.precision - 1 - exponent)  # of the last place: exact, below 2^precision
    whole = _integer(units, direction, negative).astype(np.int64)
    # Consecutive numbers have consecutive codes, subnormals and steps to the next binade included.
    code = ((exponent - fmt.emin) << (fmt.precision - 1)) + whole
    beyond = fmt.top if saturate else fmt.top + 1 if fmt.has_infinity else fmt.nan
    inward = (direction == ZERO) | ((direction == DOWN) & ~negative) | ((direction == UP) & negative)
    code = np.where(code > fmt.top, np.where(inward, fmt.top, beyond), code)
    code = np.where(finite, code, beyond)
    code = (code << fmt.pad) | (negative.astype(np.int64) << (fmt.bits - 1))
    # Where there is no NaN, it becomes the largest number, which is positive.
    return np.where(np.isnan(x), fmt.nan if fmt.nan >= 0 else fmt.top, code)


def widen(code: Array, fmt: Format) -> Array:
    """FP64 numbers of a format's codes, exactly."""
    code = code.astype(np.int64)
    magnitude = (code & ((1 << (fmt.bits - 1)) - 1)) >> fmt.pad
    field = magnitude >> (fmt.precision - 1)
    fraction = magnitude & ((1 << (fmt.precision - 1)) - 1)
    whole = np.where(field == 0, fraction, fraction + (1 << (fmt.precision - 1))).astype(np.float64)
    value = np.ldexp(whole, np.maximum(field, 1) - 1 + fmt.emin - (fmt.precision - 1))
    special = magnitude > fmt.top
    if fmt.has_infinity:
        value = np.where(special, np.where(magnitude == fmt.top + 1, np.inf, np.nan), value)
    else:
        value = np.where(special, np.nan, value)
    return np.where(code >> (fmt.bits - 1) & 1, -value, value)


def _integer(units: Array, direction: str, negative: Array) -> Array:
    if direction == NEAREST:
        return np.asarray(np.rint(units))
    if direction == AWAY:
        return np.asarray(np.floor(units + 0.5))  # exact: units have at most 24 bits before the point
    up = (direction == UP) & ~negative | (direction == DOWN) & negative
    return np.where(up, np.ceil(units), np.floor(units))


def directed64(plain: Array, error: Callable[[int], int], direction: str) -> Array:
    """FP64 results rounded to nearest, moved to where another direction has them.

    Args:
        error: the sign of the exact result less the plain one, by lane.
    """
    if direction == NEAREST:
        return plain
    result = plain.copy()
    for lane, value in enumerate(plain):
        if np.isnan(value):
            continue
        sign = error(lane)
        up = direction == UP or (direction == ZERO and np.signbit(value))
        if sign and (sign > 0) == up:
            result[lane] = np.nextafter(value, np.inf if up else -np.inf)
    return result


def sign_of(exact: Fraction, plain: float) -> int:
    """Of exact − plain, where plain may be infinite by overflow."""
    if np.isinf(plain):
        return -1 if plain > 0 else 1
    difference = exact - Fraction(plain)
    return (difference > 0) - (difference < 0)
