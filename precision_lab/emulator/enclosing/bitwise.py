"""Operations on bits that compilers use on numbers: moving parts, clearing and turning signs, packing.

An operation that moves parts as wholes, or keeps, clears or negates each, makes ranges of ranges. Of others
nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from precision_lab.emulator.enclosing.lanes import Ranged
from precision_lab.emulator.enclosing.ranges import LOST, POINT, joined, order, parts
from precision_lab.emulator.ptx import Instruction, Integer
from precision_lab.emulator.reference.lanes import Array

_UNSIGNED = ("b16", "b32", "b64", "u8", "u16", "u32", "u64")
_ANY = 64  # a move leaves parts of any width whole


def unit_of(i: Instruction) -> int:
    """The widest parts that an instruction moves as wholes, in bits; 0 for one that does more than move."""
    if i.opcode == "mov":
        return 0 if i.type == "pred" else _ANY
    if i.opcode == "cvt" and not {"sat", "pack"} & set(i.modifiers):
        to, source = i.modifiers[-2:]
        if re.fullmatch(r"[us]\d+", to) and re.fullmatch(r"[us]\d+", source):
            narrower = min(int(to[1:]), int(source[1:]))
            return narrower if source[0] == "u" or int(to[1:]) == narrower else 0
    last = i.operands[-1] if i.operands else None
    if i.opcode in ("shl", "shr") and i.type in _UNSIGNED and isinstance(last, Integer):
        return _largest_power(last.value)
    if i.opcode == "prmt" and i.modifiers == ("b32",) and isinstance(last, Integer):
        chosen = [last.value >> 4 * k & 0xF for k in range(4)]
        if not any(c & 8 for c in chosen):
            pairs = all(c % 2 == 0 and d == c + 1 for c, d in (chosen[:2], chosen[2:]))
            return 16 if pairs else 8
    return 0


def _largest_power(shift: int) -> int:
    return next((w for w in (64, 32, 16, 8) if shift % w == 0), 0)


def is_bitwise(i: Instruction) -> bool:
    return i.opcode in ("and", "or", "xor", "not") and i.type in ("b16", "b32", "b64")


def magnitude(low: Array, high: Array) -> tuple[Array, Array]:
    """The range of absolute values."""
    kind = low.dtype.type
    mask = kind((1 << (8 * low.dtype.itemsize - 1)) - 1)
    a, b = low & mask, high & mask
    around = (order(low) < 0) & (order(high) >= 0)
    return np.where(around, kind(0), np.minimum(a, b)), np.maximum(a, b)


def bitwise(opcode: str, given: Sequence[Ranged], plain: Array) -> Ranged:
    """and, or, xor or not of ranges.

    Args:
        plain: the result at the lower ends, which is that of lanes with points alone.
    """
    bits = 8 * plain.dtype.itemsize
    kinds = np.maximum.reduce([kind for *_, kind in given])
    low, high, found = plain.copy(), plain.copy(), np.where(kinds == POINT, POINT, LOST).astype(np.uint8)
    for width in (int(k) for k in np.unique(kinds) if POINT < k < LOST):
        rows = np.logical_and.reduce([(kind == width) | (kind == POINT) for *_, kind in given])
        rows &= kinds == width
        sides = [(parts(a[rows], width), parts(b[rows], width)) for a, b, _ in given]
        if opcode == "not" or not rows.any():
            continue
        a, b, known = _joined(opcode, sides)
        low[rows], high[rows] = joined(a, bits), joined(b, bits)
        found[rows] = np.where(known.all(1), width, LOST)
    return low, high, found


def _joined(opcode: str, sides: Sequence[tuple[Array, Array]]) -> tuple[Array, Array, Array]:
    """Both ends of each part, and whether they are known."""
    first, second = sides
    low, high, known = _changed(opcode, first, second)
    other_low, other_high, other_known = _changed(opcode, second, first)
    return np.where(known, low, other_low), np.where(known, high, other_high), known | other_known


def _changed(opcode: str, number: tuple[Array, Array], by: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """A range changed by bits that are a point, and where that is a range again."""
    low, high = number
    mask, other = by
    kind, width = low.dtype.type, 8 * low.dtype.itemsize
    full = kind((1 << width) - 1)
    sign = kind(1 << (width - 1))
    zero = np.zeros_like(low)
    absolute = magnitude(low, high)
    # Turned, the upper end is the lower one.
    turned, below = (high ^ sign, low ^ sign), (absolute[1] | sign, absolute[0] | sign)
    cases = {
        "and": [(0, (zero, zero)), (full, (low, high)), (full ^ sign, absolute)],
        "or": [(0, (low, high)), (sign, below)],
        "xor": [(0, (low, high)), (sign, turned)],
    }[opcode]
    a, b, known = zero, zero, np.zeros(low.shape, bool)
    for value, ends in cases:
        here = (mask == kind(value)) & (mask == other)
        a, b, known = np.where(here, ends[0], a), np.where(here, ends[1], b), known | here
    points = (low == high) & (mask == other)
    plain = {"and": low & mask, "or": low | mask, "xor": low ^ mask}[opcode]
    return np.where(points, plain, a), np.where(points, plain, b), known | points
