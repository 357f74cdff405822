"""What only looks at signs and order of numbers: neg, abs, min, max, copysign, testp.

Source: PTX ISA, "Floating Point Instructions" and "Half Precision Floating Point Instructions".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction
from precision_lab.emulator.reference.kinds import FORMATS, TYPES, Kind, flushed, joined, number, parts
from precision_lab.emulator.reference.lanes import FLOATS, UNSIGNED, Array, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.rounding import NAN64
from precision_lab.emulator.reference.step import Step


def sign(i: Instruction) -> Step:
    """neg and abs: the sign bit, of NaN too, which the manual leaves open; .ftz flushes first."""
    modifiers = Modifiers(i)
    kind = Kind(modifiers.type(*TYPES), ftz=modifiers.flag("ftz"))
    modifiers.end()
    if kind.name == "f32x2" or (kind.ftz and kind.scalar in ("f64", "bf16")):
        raise unsupported(i)
    top = 1 << (kind.bits - 1)

    def step(lanes: Lanes, live: Mask) -> None:
        found = []
        for bits in parts(lanes, i, i.operands[1], kind):
            value = flushed(bits, kind.scalar) if kind.ftz else bits
            one = value.dtype.type(top)
            found.append(value ^ one if i.opcode == "neg" else value & ~one)
        lanes.write(i, i.operands[0], joined(found, kind), live)

    return step


def extreme(i: Instruction) -> Step:
    """min and max: NaN loses, and wins with .NaN; −0 is below +0; .abs compares magnitudes."""
    modifiers = Modifiers(i)
    kind = Kind(modifiers.type(*TYPES), ftz=modifiers.flag("ftz"))
    nan, xorsign, magnitudes = modifiers.flag("NaN"), modifiers.flag("xorsign"), modifiers.flag("abs")
    modifiers.end()
    if len(i.operands) not in (3, 4) or kind.name == "f32x2" or (len(i.operands) == 4 and kind.name != "f32"):
        raise unsupported(i)
    # Of two numbers .xorsign.abs is one modifier; of three there is .abs alone.
    fits = not xorsign if len(i.operands) == 4 else xorsign == magnitudes
    if (
        not fits
        or (kind.ftz and kind.scalar == "bf16")
        or (kind.name == "f64" and (kind.ftz or nan or xorsign))
    ):
        raise unsupported(i, "modifiers that do not go together")
    largest = i.opcode == "max"

    def two(a: Array, b: Array) -> Array:
        if kind.ftz:
            a, b = flushed(a, kind.scalar), flushed(b, kind.scalar)
        top = a.dtype.type(1 << (kind.bits - 1))
        signs = (a ^ b) & top
        if magnitudes:
            a, b = a & ~top, b & ~top
        x, y = number(a, Kind(kind.name)), number(b, Kind(kind.name))
        # Equal numbers differ in their bits only where they are zeros of two signs: then the sign decides.
        first = (x > y) | ((x == y) & ~np.signbit(x)) if largest else (x < y) | ((x == y) & np.signbit(x))
        chosen = np.where(np.isnan(y) | (first & ~np.isnan(x)), a, b)
        lost = np.isnan(x) | np.isnan(y) if nan else np.isnan(x) & np.isnan(y)
        chosen = chosen & ~top | signs if xorsign else chosen
        return np.asarray(np.where(lost, _nan(kind), chosen))

    def step(lanes: Lanes, live: Mask) -> None:
        columns = zip(*(parts(lanes, i, o, kind) for o in i.operands[1:]), strict=True)
        found = []
        for first, *rest in columns:
            for other in rest:
                first = two(first, other)
            found.append(first)
        lanes.write(i, i.operands[0], joined(found, kind), live)

    return step


def _nan(kind: Kind) -> Any:
    return NAN64 if kind.scalar == "f64" else UNSIGNED[kind.bits](FORMATS[kind.scalar].nan)


def copysign(i: Instruction) -> Step:
    """The second operand with the first one's sign."""
    modifiers = Modifiers(i)
    kind = Kind(modifiers.type("f32", "f64"))
    modifiers.end()

    def step(lanes: Lanes, live: Mask) -> None:
        a, b = (lanes.read(i, o, kind.bits) for o in i.operands[1:])
        top = a.dtype.type(1 << (kind.bits - 1))
        lanes.write(i, i.operands[0], (a & top) | (b & ~top), live)

    return step


def testp(i: Instruction) -> Step:
    """Properties of a number."""
    modifiers = Modifiers(i)
    kind = Kind(modifiers.type("f32", "f64"))
    what = modifiers.one_of("finite", "infinite", "number", "notanumber", "normal", "subnormal")
    modifiers.end()
    tiny = np.finfo(FLOATS[kind.bits]).tiny

    def step(lanes: Lanes, live: Mask) -> None:
        x = lanes.float(i, i.operands[1], kind.bits)
        answers: dict[str, Callable[[Array], Array]] = {
            "finite": np.isfinite, "infinite": np.isinf, "notanumber": np.isnan,
            "number": lambda v: ~np.isnan(v),
            "normal": lambda v: np.isfinite(v) & ((np.abs(v) >= tiny) | (v == 0)),  # as the manual counts 0
            "subnormal": lambda v: (np.abs(v) < tiny) & (v != 0),
        }  # fmt: skip
        lanes.write(i, i.operands[0], answers[what](x), live)

    if not what:
        raise unsupported(i)
    return step
