"""Logic, shifts, bit fields and bytes.

Source: PTX ISA, "Logic and Shift Instructions" and, for fields and counts, "Integer Arithmetic Instructions".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction
from precision_lab.emulator.reference.lanes import SIGNED, UNSIGNED, Array, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.step import INTEGERS, Step, bits_of

_BITWISE = ("pred", "b16", "b32", "b64")


def bitwise(i: Instruction) -> Step:
    """and, or, xor, not, cnot."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*_BITWISE)
    modifiers.end()
    bits = 1 if kind == "pred" else bits_of(kind)
    operations: dict[str, Callable[..., Array]] = {
        "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
        "cnot": lambda a: (a == 0).astype(a.dtype),
    }  # fmt: skip

    def step(lanes: Lanes, live: Mask) -> None:
        found = operations[i.opcode](*(lanes.read(i, o, bits) for o in i.operands[1:]))
        lanes.write(i, i.operands[0], found, live)

    return step


def lop3(i: Instruction) -> Step:
    """Any function of three bits, by its table."""
    modifiers = Modifiers(i)
    modifiers.type("b32")
    modifiers.end()

    def step(lanes: Lanes, live: Mask) -> None:
        a, b, c, table = (lanes.read(i, o, 32) for o in i.operands[1:5])
        result = np.zeros(1, np.uint32)
        for k in range(8):
            term = (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
            result = result | np.where(table >> np.uint32(k) & np.uint32(1), term, np.uint32(0))
        lanes.write(i, i.operands[0], result, live)

    return step


def shift(i: Instruction) -> Step:
    """shl and shr: amounts beyond the width count as the width."""
    modifiers = Modifiers(i)
    kinds = ("b16", "b32", "b64") if i.opcode == "shl" else ("b16", "b32", "b64", *INTEGERS)
    kind = modifiers.type(*kinds)
    modifiers.end()
    bits = bits_of(kind)
    arithmetic = kind[0] == "s"

    def step(lanes: Lanes, live: Mask) -> None:
        a, amount = lanes.read(i, i.operands[1], bits), lanes.read(i, i.operands[2], 32)
        by = np.minimum(amount, bits - 1).astype(a.dtype)
        if arithmetic:
            result = (a.view(SIGNED[bits]) >> by.view(SIGNED[bits])).view(UNSIGNED[bits])
        else:
            moved = a << by if i.opcode == "shl" else a >> by
            result = np.where(amount >= bits, a.dtype.type(0), moved)
        lanes.write(i, i.operands[0], result, live)

    return step


def funnel(i: Instruction) -> Step:
    """shf: 32 bits out of the 64 of two registers, shifted."""
    modifiers = Modifiers(i)
    modifiers.type("b32")
    side, mode = modifiers.one_of("l", "r"), modifiers.one_of("wrap", "clamp")
    modifiers.end()
    if not (side and mode):
        raise unsupported(i, "without a side or a mode")
    left, wrap = side == "l", mode == "wrap"

    def step(lanes: Lanes, live: Mask) -> None:
        low, high, amount = (lanes.read(i, o, 32) for o in i.operands[1:4])
        by = ((amount & np.uint32(31)) if wrap else np.minimum(amount, 32)).astype(np.uint64)
        both = low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32))
        moved = (both << by) >> np.uint64(32) if left else both >> by
        # A shift by 32 to the left leaves the low half above.
        lanes.write(i, i.operands[0], moved.astype(np.uint32), live)

    return step


def field(i: Instruction) -> Step:
    """bfe and bfi: a field of `length` bits from `position` on, both taken modulo 256."""
    modifiers = Modifiers(i)
    kind = modifiers.type("u32", "s32", "u64", "s64") if i.opcode == "bfe" else modifiers.type("b32", "b64")
    modifiers.end()
    bits = bits_of(kind)

    def extracted(a: int, position: int, length: int) -> int:
        negative = kind[0] == "s" and length > 0 and a >> min(position + length - 1, bits - 1) & 1
        found = (a >> position) & ((1 << length) - 1) if position < bits else 0
        if negative:
            have = min(length, max(bits - position, 0))
            found |= -1 << have
        return found & ((1 << bits) - 1)

    def inserted(a: int, b: int, position: int, length: int) -> int:
        mask = (((1 << length) - 1) << position) & ((1 << bits) - 1)
        return (b & ~mask) | ((a << position) & mask)

    def step(lanes: Lanes, live: Mask) -> None:
        *values, position, length = i.operands[1:]
        columns = [lanes.read(i, v, bits) for v in values]
        columns += [lanes.read(i, o, 32) & np.uint32(255) for o in (position, length)]
        work = extracted if i.opcode == "bfe" else inserted
        rows = zip(*(c.tolist() for c in np.broadcast_arrays(*columns)), strict=True)
        lanes.write(i, i.operands[0], np.array([work(*row) for row in rows], UNSIGNED[bits]), live)

    return step


def counting(i: Instruction) -> Step:
    """popc, clz, bfind and brev."""
    modifiers = Modifiers(i)
    kinds = ("u32", "s32", "u64", "s64") if i.opcode == "bfind" else ("b32", "b64")
    kind = modifiers.type(*kinds)
    amount = modifiers.flag("shiftamt")
    modifiers.end()
    bits = bits_of(kind)

    def highest(value: int) -> int:
        if kind[0] == "s" and value >> (bits - 1):
            value ^= (1 << bits) - 1
        if not value:
            return 0xFFFFFFFF
        return bits - value.bit_length() if amount else value.bit_length() - 1

    work: dict[str, Callable[[int], int]] = {
        "popc": int.bit_count, "clz": lambda v: bits - v.bit_length(), "bfind": highest,
        "brev": lambda v: int(f"{v:0{bits}b}"[::-1], 2),
    }  # fmt: skip
    result_bits = bits if i.opcode == "brev" else 32

    def step(lanes: Lanes, live: Mask) -> None:
        values = lanes.read(i, i.operands[1], bits).tolist()
        lanes.write(
            i, i.operands[0], np.array([work[i.opcode](v) for v in values], UNSIGNED[result_bits]), live
        )

    return step


def permute(i: Instruction) -> Step:
    """prmt: four bytes chosen of eight, by selectors or in one of six patterns."""
    modifiers = Modifiers(i)
    mode = modifiers.one_of("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")  # behind the type
    modifiers.type("b32")
    modifiers.end()
    # Which of the eight bytes, by result byte and selector.
    patterns: dict[str, Callable[[int, int], int]] = {
        "f4e": lambda k, s: s + k, "b4e": lambda k, s: (s - k) % 8, "rc8": lambda k, s: s,
        "ecl": lambda k, s: max(k, s), "ecr": lambda k, s: min(k, s),
        "rc16": lambda k, s: 2 * (s & 1) + (k & 1),
    }  # fmt: skip

    def step(lanes: Lanes, live: Mask) -> None:
        a, b, c = (lanes.read(i, o, 32) for o in i.operands[1:4])
        eight = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
        result = np.zeros(1, np.uint32)
        for k in range(4):
            if mode:
                table = np.array([patterns[mode](k, s) for s in range(4)], np.uint64)
                which, spread = table[c & np.uint32(3)], np.zeros(1, bool)
            else:
                selector = (c >> np.uint32(4 * k)) & np.uint32(15)
                which, spread = (selector & np.uint32(7)).astype(np.uint64), (selector & np.uint32(8)) != 0
            byte = ((eight >> (which * np.uint64(8))) & np.uint64(255)).astype(np.uint32)
            byte = np.where(spread, np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0)), byte)
            result = result | (byte << np.uint32(8 * k))
        lanes.write(i, i.operands[0], result, live)

    return step
