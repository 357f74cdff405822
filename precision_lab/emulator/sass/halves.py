"""FP16 and BF16, two in a register: HADD2, HMUL2, HFMA2, HMNMX2, HSETP2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.reference.floats import exact_fma, exact_product, exact_sum
from precision_lab.emulator.reference.kinds import Kind, finished, number
from precision_lab.emulator.reference.lanes import Array, Mask
from precision_lab.emulator.sass.code import Operand, SassInstruction
from precision_lab.emulator.sass.floats import COMPARISONS, JOINED, compared
from precision_lab.emulator.sass.lanes import SassLanes
from precision_lab.emulator.sass.step import Step, Words

_COUNTS = {"HADD2": 2, "HMUL2": 2, "HFMA2": 3}
_OPERATIONS: Mapping[str, Callable[..., Array]] = {
    "HADD2": exact_sum, "HMUL2": exact_product, "HFMA2": exact_fma,
}  # fmt: skip


def _halves(lanes: SassLanes, i: SassInstruction, o: Operand, kind: Kind) -> list[Array]:
    """The low and the high number of an operand, in FP64, with signs changed as the text says."""
    word = lanes.bits(i, o)
    low, high = word.astype(np.uint16), (word >> np.uint32(16)).astype(np.uint16)
    pairs = {(): [low, high], ("H1_H0",): [low, high], ("H0_H0",): [low, low], ("H1_H1",): [high, high]}
    if o.parts not in pairs:
        raise unsupported(i, f"the part .{'.'.join(o.parts)}")
    pair = pairs[o.parts]
    found = []
    for half in pair:
        half = half & np.uint16(0x7FFF) if o.absolute else half
        half = half ^ np.uint16(0x8000) if o.negative else half
        found.append(number(half, kind))
    return found


def arithmetic(i: SassInstruction) -> Step:
    """Both numbers alike; HADD2.F32 gives one FP32 number, of the halves that the operands name."""
    words = Words(i)
    name = i.opcode
    scalar = "bf16" if words.flag("BF16_V2", "BF16") else "f16"
    words.flag("MMA")  # which unit computes it
    single = words.flag("F32")
    kind = Kind(scalar, ftz=words.flag("FTZ"), sat=words.flag("SAT"), relu=words.flag("RELU"))
    words.end()
    count = _COUNTS[name]
    if len(i.arguments) != count + 1 or (single and name != "HADD2"):
        raise unsupported(i)
    to, *sources = i.arguments
    result = Kind("f32") if single else kind
    operation = partial(_OPERATIONS[name], result)

    def step(lanes: SassLanes, live: Mask) -> None:
        given = [_halves(lanes, i, o, kind) for o in sources]
        low, high = (finished(operation(*each), result) for each in zip(*given, strict=True))
        if not single:
            low = low.astype(np.uint32) | (high.astype(np.uint32) << np.uint32(16))
        lanes.put(i, to, low, live)

    return step


def extreme(i: SassInstruction) -> Step:
    """HMNMX2: the smaller ones where a predicate holds, else the larger; NaN loses, and wins with .NAN."""
    words = Words(i)
    kind = Kind("bf16" if words.flag("BF16_V2", "BF16") else "f16", ftz=words.flag("FTZ"))
    nan = words.flag("NAN")
    words.end()
    to, first, second, smaller = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        less, halves = lanes.truth(i, smaller), []
        for a, b in zip(_halves(lanes, i, first, kind), _halves(lanes, i, second, kind), strict=True):
            below = (a < b) | ((a == b) & np.signbit(a))
            found = np.where(less == below, a, b)
            found = np.where(np.isnan(a), b, np.where(np.isnan(b), a, found))
            found = np.where(np.isnan(a) | np.isnan(b), np.nan, found) if nan else found
            halves.append(finished(found, kind).astype(np.uint32))
        lanes.put(i, to, halves[0] | (halves[1] << np.uint32(16)), live)

    return step


def set_predicate(i: SassInstruction) -> Step:
    """HSETP2: a predicate for the low numbers and one for the high ones, each joined with a third."""
    words = Words(i)
    kind = Kind("bf16" if words.flag("BF16_V2", "BF16") else "f16", ftz=words.flag("FTZ"))
    how, join = words.one_of(COMPARISONS), words.one_of(JOINED)
    words.end()
    if not how or not join or len(i.arguments) != 5:
        raise unsupported(i)
    *outs, first, second, third = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        a, b = _halves(lanes, i, first, kind), _halves(lanes, i, second, kind)
        other = lanes.truth(i, third)
        found = [JOINED[join](compared(how, x, y), other) for x, y in zip(a, b, strict=True)]
        for to, value in zip(outs, found, strict=True):
            lanes.put(i, to, value, live)

    return step


def set_numbers(i: SassInstruction) -> Step:
    """HSET2: 1 or 0 (with .BF or alone: numbers; without: all ones) for each of two comparisons."""
    words = Words(i)
    numbers = words.flag("BF")
    bf16 = words.flag("BF16_V2")
    kind = Kind("bf16" if bf16 else "f16", ftz=words.flag("FTZ"))
    how, join = words.one_of(COMPARISONS), words.one_of(JOINED)
    words.end()
    if not how or not join or len(i.arguments) != 4:
        raise unsupported(i)
    to, first, second, third = i.arguments
    true = np.uint32((0x3F80 if bf16 else 0x3C00) if numbers else 0xFFFF)

    def step(lanes: SassLanes, live: Mask) -> None:
        a, b = _halves(lanes, i, first, kind), _halves(lanes, i, second, kind)
        other = lanes.truth(i, third)
        low, high = (
            np.where(JOINED[join](compared(how, x, y), other), true, np.uint32(0))
            for x, y in zip(a, b, strict=True)
        )
        lanes.put(i, to, low | (high << np.uint32(16)), live)

    return step
