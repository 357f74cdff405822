"""Moving bits between registers, and choosing between two.

Source: PTX ISA, "Data Movement and Conversion Instructions: mov", "Comparison and Selection Instructions".
"""

from __future__ import annotations

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Operand, Pair, Register, Sink, Vector
from precision_lab.emulator.reference.lanes import UNSIGNED, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.step import INTEGERS, Step, bits_of


def move(i: Instruction) -> Step:
    """mov: bits, or several registers packed into one or taken apart, low part first."""
    modifiers = Modifiers(i)
    kind = modifiers.type("pred", *(f"{k}{n}" for k in "bus" for n in (16, 32, 64)), "f32", "f64", "b128")
    modifiers.end()
    bits = 1 if kind == "pred" else bits_of(kind)
    to, source = i.operands
    shift = UNSIGNED[bits] if bits < 128 else int  # 128 bits are Python's integers

    def step(lanes: Lanes, live: Mask) -> None:
        if isinstance(source, Vector):
            size = bits // len(source.items)
            total = np.zeros(1, UNSIGNED[bits])
            for k, item in enumerate(source.items):
                part = lanes.read(i, item, size).astype(UNSIGNED[bits])
                total = total | (part << shift(size * k))
            lanes.write(i, to, total, live)
        elif isinstance(to, Vector):
            size = bits // len(to.items)
            whole, low = lanes.read(i, source, bits), (1 << size) - 1
            for k, item in enumerate(to.items):
                part = (whole >> shift(size * k)) & shift(low)
                lanes.write(i, item, part.astype(UNSIGNED[size]), live)
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
