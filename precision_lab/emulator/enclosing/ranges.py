"""Ranges of numbers, in the order in which their bits stand.

A number's bits are a sign and a magnitude in every format, so that the order of all numbers of one width,
−0 just below +0, is the same whatever the format. A register holds one number, or several parts side by side.

What a register is known to hold is said by its kind: `POINT` for one value; for a range the bits of each of
its parts, every part anywhere between its two ends whatever the others are; `LOST` for anything;
`UNPROMISED` for anything since the manual promises nothing of what it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from precision_lab.emulator.reference.lanes import UNSIGNED, Array

POINT, LOST, UNPROMISED = 0, 126, 127  # below 128, so that no extension of signs changes them
_WIDTHS = (8, 16, 32, 64)
BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64, "e4m3": 8, "e5m2": 8}  # of scalar types


def parts(bits: Array, width: int) -> Array:
    """Registers' parts, low ones first, shape (n, count)."""
    whole = np.ascontiguousarray(bits)
    if width == 1:
        return whole.reshape(-1, 1)
    found: Array = whole.view(UNSIGNED[width]).reshape(whole.size, -1)
    return found


def joined(found: Array, bits: int) -> Array:
    """Inverse of `parts`, for registers of so many bits."""
    if bits == 1:
        return found.reshape(-1).astype(np.bool_)
    registers: Array = np.ascontiguousarray(found).view(UNSIGNED[bits]).reshape(-1)
    return registers


def order(number: Array) -> Array:
    """Places of numbers among all of their width, by their bits; of predicates false before true."""
    if number.dtype == np.bool_:
        return np.asarray(number, np.int64)
    width = 8 * number.dtype.itemsize
    magnitude = (number & number.dtype.type((1 << (width - 1)) - 1)).astype(np.int64)
    negative = (number >> number.dtype.type(width - 1)).astype(np.bool_)
    return np.asarray(np.where(negative, -1 - magnitude, magnitude))


def moved(number: Array, by: int) -> Array:
    """Numbers of FP32 so many places higher or lower, but not beyond infinity."""
    top, sign = 0x7F800000, np.uint32(1 << 31)
    place = np.clip(order(number) + by, -1 - top, top)
    return np.asarray(np.where(place < 0, (-1 - place).astype(np.uint32) | sign, place.astype(np.uint32)))


def hull(found: Sequence[Array], width: int) -> tuple[Array, Array]:
    """The least and the greatest of several registers' values, part by part."""
    low = high = parts(found[0], width)
    for other in found[1:]:
        each = parts(other, width)
        place = order(each)
        low = np.where(place < order(low), each, low)
        high = np.where(place > order(high), each, high)
    bits = 1 if width == 1 else 8 * found[0].dtype.itemsize
    return joined(low, bits), joined(high, bits)


def fitting(kind: Array, low: Array, high: Array, width: int) -> Array:
    """Kinds of operands that are taken in parts of `width` bits: `LOST` where a range is of other parts.

    Parts below the top one that are points do not matter: among numbers with the same lower bits the order
    is that of their upper ones. So a BF16 number in the upper half of a register is a range of FP32, too.
    """
    found = kind.copy()
    for narrower in (w for w in _WIDTHS if w < width):
        here = kind == narrower
        if here.any():
            a, b = (parts(end[here], narrower) for end in (low, high))
            count = width // narrower
            same = a == b
            same[:, count - 1 :: count] = True
            found[here] = np.where(same.all(1), width, LOST)
    return cut(found, width)


def cut(kind: Array, width: int) -> Array:
    """Kinds where no more than `width` bits of a range are seen: `LOST` for those of wider parts."""
    return np.asarray(np.where((kind > width) & (kind < LOST), LOST, kind), np.uint8)


def together(*kinds: Array) -> Array:
    """The kind of several registers or bytes side by side: that of all that are no points, or none."""
    most = np.maximum.reduce(kinds)
    mixed = np.logical_or.reduce([(kind != POINT) & (kind != most) for kind in kinds])
    return np.asarray(np.where(mixed & (most < LOST), LOST, most), np.uint8)


def worst(*kinds: Array) -> Array:
    """`UNPROMISED` where one is, else `LOST` where one is, else `POINT`."""
    found = np.zeros(1, np.uint8)
    for kind in kinds:
        found = np.maximum(found, np.where(kind >= LOST, kind, POINT))
    return found.astype(np.uint8)


# The magnitude above which a number is NaN: infinity, or in E4M3 the largest number.
INFINITY = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "f64": 0x7FF << 52, "e4m3": 0x7E, "e5m2": 0x7C}


def is_nan(number: Array, scalar: str) -> Array:
    kind = number.dtype.type
    magnitude = number & kind((1 << (8 * number.dtype.itemsize - 1)) - 1)
    return np.asarray(magnitude > kind(INFINITY[scalar]))


def may_be_zero(low: Array, high: Array) -> Array:
    """Whether ranges hold a zero, or a subnormal number of FP32, FP16 or BF16, which may be read as one."""
    width = 8 * low.dtype.itemsize
    most = {16: 0x3FF, 32: 0x7FFFFF, 64: 0}[width]
    return (order(low) <= most) & (order(high) >= -1 - most)


def may_be_infinite(low: Array, high: Array, scalar: str) -> Array:
    top = INFINITY[scalar]
    return np.asarray((order(high) >= top) | (order(low) <= -1 - top))
