"""Integer arithmetic, logic, shifts, bit fields and data movement between registers.

Source: PTX ISA, "Integer Arithmetic Instructions", "Logic and Shift Instructions", "Data Movement …".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Operand, Pair, Register, Sink, Vector
from precision_lab.emulator.reference.lanes import SIGNED, UNSIGNED, Array, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.step import INTEGERS, Step, bits_of

BITWISE = ("pred", "b16", "b32", "b64")


def _reader(kind: str) -> Callable[[Lanes, Instruction, Operand], Array]:
    bits = bits_of(kind)
    if kind[0] == "s":
        return lambda lanes, i, o: lanes.signed(i, o, bits)
    return lambda lanes, i, o: lanes.read(i, o, bits)


def product(i: Instruction) -> Step:
    """mul, mad and sad are by type; mul and mad give the low half, the high half or all of the product."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*INTEGERS)
    half = modifiers.one_of("lo", "hi", "wide")
    modifiers.end()
    bits = bits_of(kind)
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
        if plus:
            result = result + lanes.read(i, i.operands[3], wide)
        lanes.write(i, i.operands[0], result, live)

    return step


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
            result = np.clip(total, -(1 << 31), (1 << 31) - 1).astype(np.int32).view(np.uint32)
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


# -- bits ------------------------------------------------------------------------------------------


def bitwise(i: Instruction) -> Step:
    """and, or, xor, not, cnot."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*BITWISE)
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
    left, wrap = modifiers.one_of("l", "r") == "l", modifiers.one_of("wrap", "clamp") == "wrap"
    modifiers.end()

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
    modifiers.type("b32")
    mode = modifiers.one_of("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")
    modifiers.end()
    patterns: dict[str, Callable[[int, int], int]] = {  # which of the eight bytes, by result byte and selector
        "f4e": lambda k, s: s + k, "b4e": lambda k, s: (s - k) % 8, "rc8": lambda k, s: s,
        "ecl": lambda k, s: max(k, s), "ecr": lambda k, s: min(k, s), "rc16": lambda k, s: 2 * (s & 1) + (k & 1),
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


# -- moving and choosing ---------------------------------------------------------------------------


def move(i: Instruction) -> Step:
    """mov: bits, or several registers packed into one or taken apart, low part first."""
    modifiers = Modifiers(i)
    kind = modifiers.type("pred", *(f"{k}{n}" for k in "bus" for n in (16, 32, 64)), "f32", "f64", "b128")
    modifiers.end()
    bits = 1 if kind == "pred" else bits_of(kind)
    to, source = i.operands
    if bits == 128:
        raise unsupported(i)

    def step(lanes: Lanes, live: Mask) -> None:
        if isinstance(source, Vector):
            size = bits // len(source.items)
            total = np.zeros(1, UNSIGNED[bits])
            for k, item in enumerate(source.items):
                part = lanes.read(i, item, size).astype(UNSIGNED[bits])
                total = total | (part << UNSIGNED[bits](size * k))
            lanes.write(i, to, total, live)
        elif isinstance(to, Vector):
            size = bits // len(to.items)
            whole = lanes.read(i, source, bits)
            for k, item in enumerate(to.items):
                lanes.write(i, item, (whole >> UNSIGNED[bits](size * k)).astype(UNSIGNED[size]), live)
        else:
            lanes.write(i, to, lanes.read(i, source, bits), live)

    return step


def select(i: Instruction) -> Step:
    """selp by a predicate, slct by the sign of a number (not of −0, and NaN takes the second)."""
    modifiers = Modifiers(i)
    by = modifiers.type("s32", "f32") if i.opcode == "slct" else ""
    kind = modifiers.type("b16", "b32", "b64", *INTEGERS, "f32", "f64")
    ftz = modifiers.flag("ftz")
    modifiers.end()
    bits = bits_of(kind)
    if ftz and by != "f32":
        raise unsupported(i, "modifier .ftz")

    def step(lanes: Lanes, live: Mask) -> None:
        a, b = lanes.read(i, i.operands[1], bits), lanes.read(i, i.operands[2], bits)
        if not by:
            first = lanes.read(i, i.operands[3], 1)
        elif by == "s32":
            first = lanes.signed(i, i.operands[3], 32) >= 0
        else:
            c = lanes.float(i, i.operands[3], 32)
            # Flushed, a subnormal is a zero of either sign, which counts as not negative.
            first = (c >= 0) | (ftz & (np.abs(c) < np.float32(2.0**-126)))
        lanes.write(i, i.operands[0], np.where(first, a, b), live)

    return step


def destinations(i: Instruction) -> tuple[Operand, Operand]:
    """Of an instruction that may write a second one."""
    to = i.operands[0]
    if isinstance(to, Pair):
        return to.first, to.second
    if isinstance(to, Register | Sink):
        return to, Sink()
    raise unsupported(i, f"the destination {to}")
