"""Integer arithmetic.

Source: PTX ISA, "Integer Arithmetic Instructions".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Operand
from precision_lab.emulator.reference.lanes import SIGNED, UNSIGNED, Array, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.step import INTEGERS, Step, bits_of


def _reader(kind: str) -> Callable[[Lanes, Instruction, Operand], Array]:
    bits = bits_of(kind)
    if kind[0] == "s":
        return lambda lanes, i, o: lanes.signed(i, o, bits)
    return lambda lanes, i, o: lanes.read(i, o, bits)


def product(i: Instruction) -> Step:
    """mul and mad: of the low half, the high half or all of the product; mad.hi.sat.s32 clamps its sum."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*INTEGERS)
    half, saturate = modifiers.one_of("lo", "hi", "wide"), modifiers.flag("sat")
    modifiers.end()
    bits = bits_of(kind)
    if saturate and (i.opcode, half, kind) != ("mad", "hi", "s32"):
        raise unsupported(i, "modifier .sat")
    if not half or (half == "wide" and bits == 64):
        raise unsupported(i)
    read = _reader(kind)
    plus = i.opcode == "mad"
    wide = 2 * bits if half == "wide" else bits

    def step(lanes: Lanes, live: Mask) -> None:
        a, b = read(lanes, i, i.operands[1]), read(lanes, i, i.operands[2])
        if half == "hi":
            result = _high(a, b, bits)
        elif half == "wide":
            family = SIGNED if kind[0] == "s" else UNSIGNED
            result = (a.astype(family[wide]) * b.astype(family[wide])).view(UNSIGNED[wide])
        else:
            result = a.view(UNSIGNED[bits]) * b.view(UNSIGNED[bits])
        if saturate:
            result = _clamped(result.view(np.int32).astype(np.int64) + lanes.signed(i, i.operands[3], 32))
        elif plus:
            result = result + lanes.read(i, i.operands[3], wide)
        lanes.write(i, i.operands[0], result, live)

    return step


def _clamped(total: Array) -> Array:
    """The nearest 32-bit number."""
    return np.clip(total, -(1 << 31), (1 << 31) - 1).astype(np.int32).view(np.uint32)


def _high(a: Array, b: Array, bits: int) -> Array:
    """The upper half of a product; of 64-bit numbers by Python's integers, which have any size."""
    a, b = np.broadcast_arrays(a, b)
    mask = (1 << bits) - 1
    found = [((int(x) * int(y)) >> bits) & mask for x, y in zip(a, b, strict=True)]
    return np.array(found, UNSIGNED[bits])


def sums(i: Instruction) -> Step:
    """add and sub, which wrap, or saturate with .sat (s32)."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*INTEGERS, "u16x2", "s16x2")
    saturate = modifiers.flag("sat")
    modifiers.end()
    if saturate and kind != "s32":
        raise unsupported(i, "modifier .sat")
    packed = kind.endswith("x2")
    bits = 32 if packed else bits_of(kind)
    sign = 1 if i.opcode == "add" else -1

    def step(lanes: Lanes, live: Mask) -> None:
        a, b = lanes.read(i, i.operands[1], bits), lanes.read(i, i.operands[2], bits)
        if saturate:
            total = a.view(np.int32).astype(np.int64) + sign * b.view(np.int32).astype(np.int64)
            result = _clamped(total)
        elif packed:
            halves = [
                (a >> s) + (b >> s) if sign > 0 else (a >> s) - (b >> s) for s in map(np.uint32, (0, 16))
            ]
            result = (halves[0] & np.uint32(0xFFFF)) | (halves[1] << np.uint32(16))
        else:
            result = a + b if sign > 0 else a - b
        lanes.write(i, i.operands[0], result, live)

    return step


def quotient(i: Instruction) -> Step:
    """div and rem: towards zero. By 0 the manual leaves them open: all ones, and the dividend."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*INTEGERS)
    modifiers.end()
    read, bits = _reader(kind), bits_of(kind)

    def step(lanes: Lanes, live: Mask) -> None:
        a, b = read(lanes, i, i.operands[1]), read(lanes, i, i.operands[2])
        zero, safe = b == 0, np.where(b == 0, b.dtype.type(1), b)
        rest = np.fmod(a, safe)
        if i.opcode == "rem":
            result = np.where(zero, a, rest)
        else:
            # (a − rest)/b is exact, so it does not matter which way numpy rounds; −2^k / −1 wraps.
            result = np.where(zero, ~np.zeros_like(a), (a - rest) // safe)
        lanes.write(i, i.operands[0], result.astype(a.dtype).view(UNSIGNED[bits]), live)

    return step


def sign(i: Instruction) -> Step:
    """neg and abs of integers; the smallest one is its own."""
    modifiers = Modifiers(i)
    kind = modifiers.type("s16", "s32", "s64")
    modifiers.end()
    bits = bits_of(kind)

    def step(lanes: Lanes, live: Mask) -> None:
        a = lanes.read(i, i.operands[1], bits)
        minus = (~a) + a.dtype.type(1)
        result = minus if i.opcode == "neg" else np.where(a.view(SIGNED[bits]) < 0, minus, a)
        lanes.write(i, i.operands[0], result, live)

    return step


def extreme(i: Instruction) -> Step:
    """min and max."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*INTEGERS, "u16x2", "s16x2")
    relu = modifiers.flag("relu")
    modifiers.end()
    if relu and kind not in ("s32", "s16x2"):
        raise unsupported(i, "modifier .relu")
    packed = kind.endswith("x2")
    family, bits = (SIGNED if kind[0] == "s" else UNSIGNED), 16 if packed else bits_of(kind)
    choose = np.maximum if i.opcode == "max" else np.minimum

    def two(a: Array, b: Array) -> Array:
        found = choose(
            a.astype(UNSIGNED[bits]).view(family[bits]), b.astype(UNSIGNED[bits]).view(family[bits])
        )
        return np.asarray(np.maximum(found, 0) if relu else found).view(UNSIGNED[bits])

    def step(lanes: Lanes, live: Mask) -> None:
        a, b = (lanes.read(i, o, 32 if packed else bits) for o in i.operands[1:])
        if packed:
            low = two(a, b).astype(np.uint32)
            high = two(a >> np.uint32(16), b >> np.uint32(16)).astype(np.uint32)
            lanes.write(i, i.operands[0], low | (high << np.uint32(16)), live)
        else:
            lanes.write(i, i.operands[0], two(a, b), live)

    return step


def difference(i: Instruction) -> Step:
    """sad: |a − b| + c."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*INTEGERS)
    modifiers.end()
    read, bits = _reader(kind), bits_of(kind)

    def step(lanes: Lanes, live: Mask) -> None:
        a, b = read(lanes, i, i.operands[1]), read(lanes, i, i.operands[2])
        above, x, y = a > b, a.view(UNSIGNED[bits]), b.view(UNSIGNED[bits])
        result = np.where(above, x - y, y - x) + lanes.read(i, i.operands[3], bits)
        lanes.write(i, i.operands[0], result, live)

    return step
