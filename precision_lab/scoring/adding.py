"""How compiled code adds to `columns`: sums in limbs and pairs, and the correct bits of an error."""

from __future__ import annotations

from typing import Any

import numpy as np

from precision_lab.numeric.jit import bits_to_float32, compiled, float_to_bits
from precision_lab.scoring import columns
from precision_lab.scoring.columns import LIMB, LOG, NAN_BITS, NEGATIVE, ONE32, PACKED

relative_bits: Any = compiled(columns.relative_bits)


@compiled
def value_bits(value: float) -> Any:
    """A float64's bits, the same for every NaN."""
    bits: Any = float_to_bits(value) if value == value else np.int64(NAN_BITS)
    return bits


@compiled
def scale_of(bits: int) -> int:
    """p such that |error|·2^(20−p) < 2^51 for errors up to the one with these float64 bits."""
    return max((bits >> 52) - 1023 - 30, 0)


@compiled
def add_sum(row: Any, column: int, p: int, total: int) -> None:
    """Adds a nonnegative total < 2^62 of units 2^p, in limbs of 31 bits that take 2^32 additions."""
    k, shift = column + p // 31, p % 31
    low = (total & LIMB) << shift
    high = (total >> 31) << shift
    row[k] += low & LIMB
    row[k + 1] += (low >> 31) + (high & LIMB)
    row[k + 2] += high >> 31


@compiled
def add_pair(row: Any, column: int, total: int) -> None:
    """Adds a signed total to a pair: low is in [0, 2^31), high rounds down, and 2^32 additions fit."""
    row[column] += total & LIMB
    row[column + 1] += total >> 31


@compiled
def add_roundings(row: Any, column: int, code: int) -> None:
    """Adds INEXACT, NEAREST_AWAY, AWAY and TOWARD, packed from the lowest bits up.

    A tile of 1024 inputs cannot overflow them.
    """
    for k in range(NEGATIVE):
        row[column + k] += (code >> (PACKED * k)) & ((1 << PACKED) - 1)


@compiled
def correct_bits(bits: Any) -> Any:
    """−log2 of the normal positive float32 with these int32 bits, within 2^-16, as a float32.

    The polynomial is within 2^-18; seven float32 roundings of numbers below 32 and 1.5 add the rest.
    This feeds the mean of correct bits only.
    """
    exponent = np.float32((bits >> np.int32(23)) - np.int32(127))
    t = bits_to_float32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)) - ONE32
    p = LOG[5]
    p = p * t + LOG[4]
    p = p * t + LOG[3]
    p = p * t + LOG[2]
    p = p * t + LOG[1]
    p = p * t + LOG[0]
    return -(p * t + exponent)
