"""What instructions make of ranges.

An instruction that is monotone in each operand, the others being what they are, has its least and its
greatest result of a box of operands at corners of the box. IEEE operations are, and so is rounding. Of the
others those are here that compilers use on numbers; of the rest nothing is known but that their results are
some bits (`lost`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from precision_lab.emulator.enclosing.approximations import approximate
from precision_lab.emulator.enclosing.bitwise import bitwise, is_bitwise, magnitude, unit_of
from precision_lab.emulator.enclosing.enclosed import Enclosed
from precision_lab.emulator.enclosing.lanes import RangedLanes, either
from precision_lab.emulator.enclosing.ranges import (
    BITS,
    LOST,
    POINT,
    UNPROMISED,
    cut,
    fitting,
    hull,
    is_nan,
    joined,
    may_be_infinite,
    may_be_zero,
    order,
    parts,
    together,
    worst,
)
from precision_lab.emulator.influence import is_approximate
from precision_lab.emulator.ptx import Instruction
from precision_lab.emulator.reference.lanes import UNSIGNED, Array, Mask

Rule: TypeAlias = Callable[[Enclosed, RangedLanes, Mask], None]

_MONOTONE = ("add", "sub", "mul", "fma", "mad", "min", "max", "neg", "div", "rcp", "sqrt", "cvt")


def rule_of(i: Instruction) -> Rule:
    """How ranges go through an instruction."""
    if is_approximate(i):
        return approximate
    if unit_of(i):
        return movement
    if i.type == "pred" and i.opcode in ("and", "or", "xor", "not", "mov"):
        return corners
    if i.opcode in ("setp", "set") and _scalar(i.type) in BITS:
        return compared
    if i.opcode == "selp":
        return selected
    if i.opcode == "abs" and _scalar(i.type) in BITS:
        return absolute
    if i.opcode == "copysign":
        return signed
    if is_bitwise(i):
        return bits_changed
    if i.opcode in _MONOTONE and all(_scalar(kind) in BITS for kind in _types(i)):
        return corners if not {"xorsign", "abs", "rs"} & set(i.modifiers) else lost
    return lost


def _scalar(kind: str) -> str:
    return kind.removesuffix("x2")


def _types(i: Instruction) -> tuple[str, str]:
    """Of the result and of the operands; "" where operands differ."""
    if i.opcode == "cvt":
        return i.modifiers[-2], i.modifiers[-1]
    mixed = any(kind in i.modifiers[:-1] for kind in BITS)
    return i.type, "" if mixed else i.type


def lost(e: Enclosed, lanes: RangedLanes, live: Mask) -> None:
    """Nothing is known of the result where an operand is no point."""
    found = e.run(lanes, live, e.lows(lanes))
    kinds = e.kinds(lanes)
    kind = np.maximum(worst(*kinds), np.where(np.logical_or.reduce([k != POINT for k in kinds]), LOST, POINT))
    for (_, register), low in zip(e.targets, found, strict=True):
        lanes.put(register, low, low, kind, live)


def corners(e: Enclosed, lanes: RangedLanes, live: Mask) -> None:
    """An instruction that is monotone in each of its operands."""
    i = e.i
    if i.type == "pred":
        width, kind = 1, worst(*e.kinds(lanes))
        wrong = np.zeros(lanes.n, bool)
    else:
        to, source = (_scalar(kind) for kind in _types(i))
        width = BITS[to]
        kind = e.worst(lanes, BITS[source])
        wrong = _undefined(e, lanes, source)
    found = [e.run(lanes, live, values) for values in e.corners(lanes)]
    for k, (_, register) in enumerate(e.targets):
        results = [each[k] for each in found]
        low, high = hull(results, width)
        if width > 1:
            wrong = wrong | _unordered(e, lanes, results, to, source)
        mine = np.maximum(np.where(wrong, LOST, width), kind)
        lanes.put(register, low, high, mine, live)


def _unordered(e: Enclosed, lanes: RangedLanes, results: list[Array], to: str, source: str) -> Array:
    """Where some result of corners is NaN, unless all are since an operand is, or all operands are points."""
    bad = np.stack([is_nan(parts(r, BITS[to]), to) for r in results])
    given, points = np.zeros(bad.shape[1:], bool), np.ones(lanes.n, bool)
    for _, register in e.sources:
        low, high = (parts(end, BITS[source]) for end in lanes.ends(register))
        points &= (low == high).all(1)
        point = is_nan(low, source) & (low == high)
        given |= point if point.shape == given.shape else point.any(1, keepdims=True)
    return np.asarray((bad.any(0) & ~(bad.all(0) & given)).any(1) & ~points)


def _undefined(e: Enclosed, lanes: RangedLanes, scalar: str) -> Array:
    """Where operands between the corners may have no result, or the other sign: 0·∞, 0/0, 1/x around 0."""
    i, found = e.i, np.zeros(lanes.n, bool)
    if i.opcode not in ("mul", "fma", "mad", "div", "rcp"):
        return found
    width = BITS[scalar]
    first = [lanes.operand(i, operand, width) for operand in i.operands[1:3]]
    ends = [(parts(low, width), parts(high, width)) for low, high in first]
    zero = [may_be_zero(*pair) for pair in ends]
    infinite = [may_be_infinite(*pair, scalar) for pair in ends]
    is_range = [(low != high) for low, high in ends]
    if i.opcode in ("mul", "fma", "mad"):
        wrong = ((zero[0] & infinite[1]) | (infinite[0] & zero[1])) & (is_range[0] | is_range[1])
    else:
        low, high = ends[-1]
        wrong = is_range[-1] & (order(low) < 0) & (order(high) >= 0)
        if i.opcode == "div":
            wrong |= zero[0] & zero[1] & (is_range[0] | is_range[1])
    return np.asarray(wrong.any(1))


def absolute(e: Enclosed, lanes: RangedLanes, live: Mask) -> None:
    """abs of numbers."""
    width = BITS[_scalar(e.i.type)]
    ((_, source),), ((_, target),) = e.sources, e.targets
    low, high = (parts(end, width) for end in lanes.ends(source))
    kind = e.worst(lanes, width)
    # A point goes the instruction's own way, which also flushes.
    (plain,) = e.run(lanes, live, e.lows(lanes))
    (other,) = e.run(lanes, live, e.highs(lanes))
    below, above = hull([plain, other], width)
    least = np.where(
        low == high, parts(below, width), np.minimum(parts(below, width), magnitude(low, high)[0])
    )
    lanes.put(target, joined(least, target.bits), above, np.maximum(np.uint8(width), kind), live)


def signed(e: Enclosed, lanes: RangedLanes, live: Mask) -> None:
    """copysign: the second operand's magnitude with the first one's sign, which may be open."""
    i, (_, target) = e.i, e.targets[0]
    width = target.bits
    (sign, other), number = (lanes.operand(i, operand, width) for operand in i.operands[1:])
    kind = e.worst(lanes, width)
    below, above = magnitude(*number)
    top = below.dtype.type(1 << (width - 1))
    negative, positive = order(sign) < 0, order(other) >= 0
    low = np.where(negative, above | top, below)
    high = np.where(positive, above, below | top)
    lanes.put(target, low, high, np.maximum(np.uint8(width), kind), live)


def bits_changed(e: Enclosed, lanes: RangedLanes, live: Mask) -> None:
    """and, or, xor and not of bits."""
    (plain,) = e.run(lanes, live, e.lows(lanes))
    ((_, target),) = e.targets
    given = [(*lanes.operand(e.i, o, target.bits), lanes.kind(o)) for o in e.i.operands[1:]]
    low, high, kind = bitwise(e.i.opcode, given, plain)
    lanes.put(target, low, high, kind, live)


def movement(e: Enclosed, lanes: RangedLanes, live: Mask) -> None:
    """Parts that are moved as they are, with zeros beside them."""
    low, high = (e.run(lanes, live, ends) for ends in (e.lows(lanes), e.highs(lanes)))
    kind = together(*e.kinds(lanes))
    kind = np.where((kind < LOST) & (unit_of(e.i) % np.maximum(kind, 1) > 0), LOST, kind)
    for (_, register), a, b in zip(e.targets, low, high, strict=True):
        lanes.put(register, a, b, cut(kind, register.bits), live)


def compared(e: Enclosed, lanes: RangedLanes, live: Mask) -> None:
    """set and setp of numbers: at corners, and equality nowhere in between."""
    i = e.i
    width = BITS[_scalar(i.type)]
    found = [e.run(lanes, live, values) for values in e.corners(lanes)]
    ends = [lanes.operand(i, operand, width) for operand in i.operands[1:3]]
    kinds = [fitting(lanes.kind(o), *pair, width) for o, pair in zip(i.operands[1:3], ends, strict=True)]
    rest = [lanes.kind(r) for _, r in e.sources if r.bits == 1]
    kind = worst(*kinds, *rest)
    if {"eq", "ne", "equ", "neu"} & set(i.modifiers):
        (a, b), (c, d) = ((_real(parts(end, width)) for end in pair) for pair in ends)
        meet = (a <= d) & (c <= b) & ((a != b) | (c != d))
        kind = np.maximum(kind, np.where(meet.any(1), LOST, POINT))
    for k, (_, register) in enumerate(e.targets):
        results = [each[k] for each in found]
        if register.bits == 1:
            low, high = hull(results, 1)
            lanes.put(register, low, high, np.maximum(kind, 1), live)
        else:
            differ = np.logical_or.reduce([r != results[0] for r in results])
            lanes.put(register, results[0], results[0], np.maximum(kind, np.where(differ, LOST, 0)), live)


def _real(number: Array) -> Array:
    """Places in which both zeros are one."""
    place = order(number)
    return np.where(place < 0, place + 1, place)


def selected(e: Enclosed, lanes: RangedLanes, live: Mask) -> None:
    """selp: where the predicate is open, all between the two."""
    i = e.i
    ((_, target),), predicate = e.targets, e.sources[-1][1]
    bits = target.bits
    both = []
    for operand in i.operands[1:3]:
        low, high = lanes.operand(i, operand, bits)
        both.append((low.astype(UNSIGNED[bits]), high.astype(UNSIGNED[bits]), lanes.kind(operand)))
    first, may = lanes.ends(predicate)
    negated = i.operands[3] is not predicate
    a, b = both[::-1] if negated else both
    chosen = tuple(np.where(first, x, y) for x, y in zip(a, b, strict=True))
    is_open = first != may
    low, high, kind = either((chosen[0], chosen[1], chosen[2]), a, is_open, bits)
    kind = np.where(is_open & (lanes.kind(predicate) == UNPROMISED), UNPROMISED, kind)
    lanes.put(target, low, high, kind, live)
