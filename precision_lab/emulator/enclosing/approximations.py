"""Approximate instructions: everything that a conforming device may return, by the models of `nominal`."""

from __future__ import annotations

import itertools

import numpy as np

from precision_lab.emulator.approximate import bound, extremes, is_promised
from precision_lab.emulator.bounds import ULPS, ULPS_OF_ROUNDED
from precision_lab.emulator.enclosing.enclosed import Enclosed
from precision_lab.emulator.enclosing.lanes import RangedLanes
from precision_lab.emulator.enclosing.ranges import (
    BITS,
    INFINITY,
    LOST,
    POINT,
    UNPROMISED,
    fitting,
    hull,
    is_nan,
    joined,
    may_be_zero,
    moved,
    order,
    parts,
    worst,
)
from precision_lab.emulator.influence import operation
from precision_lab.emulator.reference.lanes import UNSIGNED, Array, Mask


def approximate(e: Enclosed, lanes: RangedLanes, live: Mask) -> None:
    """From the smallest to the largest conforming result.

    Of a range of operands the extremes are those of its ends where the bound is relative or absolute: the
    lower limit of a monotone function is monotone then. That holds between the places at which the manual
    names one result alone, such as 0, infinity and subnormal numbers: the numbers next to these are looked
    at, too. In ulps the limit is not monotone: it falls where the function
    passes a power of two. Let v be the function at the lower end, u its ulp and n the bound. At a power of
    two above v the limit is P − 2n·u' with u' the ulp below P; as P − 2n·u' only grows with P, no limit lies
    more than 2n·u below v, which is at most 4n numbers even below another power of two, and one more for
    rounding. So much is added at both ends.
    """
    i = e.i
    op, ftz = operation(i), "ftz" in i.modifiers
    scalar = op.rsplit(".", 1)[-1]
    width = BITS[scalar]
    packed = i.type.endswith("x2")
    ((_, target),) = e.targets
    bits = width * (2 if packed else 1)
    given = [lanes.operand(i, operand, width) for operand in i.operands[1:]]
    kind = worst(
        *(fitting(lanes.kind(o), *pair, width) for o, pair in zip(i.operands[1:], given, strict=True))
    )
    is_range = np.logical_or.reduce([low != high for low, high in given])
    table = lanes.launch.choice.tables.get((op, ftz))
    if table is not None:
        _tabulated(e, lanes, live, worst(kind, np.where(is_range, LOST, POINT)))
        return
    lows, highs, promised, nan = [], [], np.ones(lanes.n, bool), np.zeros(lanes.n, bool)
    sides = [
        (parts(low.astype(UNSIGNED[bits]), width), parts(high.astype(UNSIGNED[bits]), width))
        for low, high in given
    ]
    each = [_looked_at(*side, scalar) for side in sides]
    for operands in itertools.product(*each) if is_range.any() else [[first for first, *_ in each]]:
        flat = [np.ascontiguousarray(o).reshape(-1) for o in operands]
        shape = operands[0].shape
        promised &= is_promised(op, ftz, *flat).reshape(shape).all(1)
        ends = [end.reshape(shape) for end in extremes(op, ftz, *flat)]
        nan |= np.logical_or(*(is_nan(end, scalar) for end in ends)).any(1)
        lows.append(joined(ends[0], bits))
        highs.append(joined(ends[1], bits))
    low, high = hull(lows, width)[0], hull(highs, width)[1]
    if any(piece.measure in (ULPS, ULPS_OF_ROUNDED) for piece in bound(op).pieces) and is_range.any():
        by = 4 * int(max(piece.size for piece in bound(op).pieces)) + 1
        low = np.where(is_range, joined(moved(parts(low, width), -by), bits), low)
        high = np.where(is_range, joined(moved(parts(high, width), by), bits), high)
    wrong = nan & is_range
    if i.opcode in ("sin", "cos"):
        wrong = wrong | is_range
    if i.opcode in ("rcp", "rsqrt", "div"):
        low_divisor, high_divisor = sides[-1]
        around = (order(low_divisor) < 0) & (order(high_divisor) >= 0)
        if i.opcode == "div":
            around |= may_be_zero(*sides[0]) & may_be_zero(*sides[-1]) & is_range[:, None]
        wrong = wrong | around.any(1) & is_range
    kind = np.maximum(np.maximum(kind, width), np.where(wrong, LOST, POINT))
    lanes.put(target, low, high, np.where(promised, kind, UNPROMISED), live)


def _tabulated(e: Enclosed, lanes: RangedLanes, live: Mask, kind: Array) -> None:
    """As a table says, which says nothing of ranges: no device need be monotone."""
    (found,), ((_, target),) = e.run(lanes, live, e.lows(lanes)), e.targets
    lanes.put(target, found, found, kind, live)


def _looked_at(low: Array, high: Array, scalar: str) -> list[Array]:
    """Both ends of ranges, and what lies in them next to the numbers that stand apart."""
    dtype, least = low.dtype.type, {"f16": 0x400, "bf16": 0x80, "f32": 0x800000, "f64": 1 << 52}[scalar]
    found, a, b = [low, high], order(low), order(high)
    for code in (1, least - 1, least, INFINITY[scalar] - 1):
        for negative, place in ((False, code), (True, -1 - code)):
            number = dtype(code | (1 << (8 * low.dtype.itemsize - 1) if negative else 0))
            found.append(np.where(place < a, low, np.where(place > b, high, number)))
    return found
