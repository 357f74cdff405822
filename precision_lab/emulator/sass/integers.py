"""Sums, products and comparisons of integers, with carries between the halves of 64 bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.reference.lanes import Array, Mask
from precision_lab.emulator.sass.code import Operand, SassInstruction
from precision_lab.emulator.sass.floats import JOINED
from precision_lab.emulator.sass.lanes import SassLanes
from precision_lab.emulator.sass.step import Step, Words

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def _predicates(operands: tuple[Operand, ...], begin: int) -> tuple[tuple[Operand, ...], int]:
    """The predicates from an index on, and the index behind them."""
    end = begin
    while end < len(operands) and operands[end].kind in ("P", "UP"):
        end += 1
    return operands[begin:end], end


def _addend(lanes: SassLanes, i: SassInstruction, o: Operand) -> Array:
    """An operand of a sum, as 64 bits: −x counts as 2^32 − x, so that its carry is a difference's."""
    value = lanes.bits(i, o).astype(np.uint64)
    if o.negative:
        return np.asarray((np.uint64(1) << _32) - value)
    return np.asarray(~value & _LOW if o.inverted else value)


def _carried(
    lanes: SassLanes, i: SassInstruction, outs: tuple[Operand, ...], total: Array, live: Mask
) -> None:
    carry = total >> _32
    if not outs:
        return
    if (carry > len(outs)).any():
        raise unsupported(i, "a sum with more carries than it has predicates for")
    for k, out in enumerate(outs):
        lanes.put(i, out, carry > k, live)


def add(i: SassInstruction) -> Step:
    """IADD3, with carries out, and IADD3.X, with carries in; IADD of two, VIADD."""
    words = Words(i)
    extended = words.flag("X")
    words.flag("U32", "S32")
    words.end()
    outs, at = _predicates(i.arguments, 1)
    count = 2 if i.opcode == "VIADD" else 3
    sources, ins = i.arguments[at : at + count], i.arguments[at + count :]
    if bool(ins) != extended or len(sources) != count or any(o.kind not in ("P", "UP") for o in ins):
        raise unsupported(i)

    def step(lanes: SassLanes, live: Mask) -> None:
        total = np.zeros(1, np.uint64)
        for o in sources:
            # With a carry in, what is subtracted is written inverted, or negated with the same meaning.
            term = ~lanes.bits(i, o) if extended and (o.negative or o.inverted) else None
            total = total + (_addend(lanes, i, o) if term is None else term.astype(np.uint64))
        for o in ins:
            total = total + lanes.truth(i, o).astype(np.uint64)
        lanes.put(i, i.arguments[0], total.astype(np.uint32), live)
        _carried(lanes, i, outs, total, live)

    return step


def multiply(i: SassInstruction) -> Step:
    """IMAD: a·b + c, its lower or upper 32 bits or all 64; moves, shifts and sums are written so, too."""
    words = Words(i)
    wide, upper, extended = words.flag("WIDE"), words.flag("HI"), words.flag("X")
    unsigned = words.flag("U32")
    words.flag("MOV", "SHL", "IADD")
    words.end()
    outs, at = _predicates(i.arguments, 1)
    sources, ins = i.arguments[at : at + 3], i.arguments[at + 3 :]
    if len(sources) != 3 or len(ins) != extended or (outs and not (wide or upper or extended)):
        raise unsupported(i)
    kind, big = (np.uint32, np.uint64) if unsigned else (np.int32, np.int64)

    def step(lanes: SassLanes, live: Mask) -> None:
        a, b = (lanes.integer(i, o) for o in sources[:2])
        third = sources[2]
        if wide or upper:
            product = (a.view(kind).astype(big) * b.view(kind).astype(big)).view(np.uint64)
            addend = lanes.integer64(i, third)
            total = product + addend
            for o in ins:
                total = total + lanes.truth(i, o).astype(np.uint64)
            if outs:
                lanes.put(i, outs[0], total < product, live)
            if upper:
                lanes.put(i, i.arguments[0], (total >> _32).astype(np.uint32), live)
            else:
                lanes.put64(i, i.arguments[0], np.asarray(total), live)
            return
        total = (a * b).astype(np.uint64) + lanes.integer(i, third).astype(np.uint64)
        for o in ins:
            total = total + lanes.truth(i, o).astype(np.uint64)
        lanes.put(i, i.arguments[0], total.astype(np.uint32), live)
        _carried(lanes, i, outs, total, live)

    return step


def shift_and_add(i: SassInstruction) -> Step:
    """LEA: (a << n) + b, its low half; with .HI the upper half of a pair shifted, with .X a carry in."""
    words = Words(i)
    upper, extended, signed = words.flag("HI"), words.flag("X"), words.flag("SX32")
    words.end()
    outs, at = _predicates(i.arguments, 1)
    rest = i.arguments[at:]
    ins: tuple[Operand, ...] = ()
    if extended:
        rest, ins = rest[:-1], rest[-1:]
    pair = upper and not signed
    if len(rest) != (4 if pair else 3) or rest[-1].kind != "number":
        raise unsupported(i)
    amount = rest[-1].number & 31

    def step(lanes: SassLanes, live: Mask) -> None:
        if upper:
            low = lanes.bits(i, rest[0])
            high = lanes.bits(i, rest[2]) if pair else (low.view(np.int32) >> 31).view(np.uint32)
            both = low.astype(np.uint64) | (high.astype(np.uint64) << _32)
            if rest[0].negative:
                both = np.uint64(0) - both
            shifted = (both << np.uint64(amount)) >> _32
        else:
            shifted = (lanes.integer(i, rest[0]).astype(np.uint64) << np.uint64(amount)) & _LOW
        total = shifted + _addend(lanes, i, rest[1])
        for o in ins:
            total = total + lanes.truth(i, o).astype(np.uint64)
        lanes.put(i, i.arguments[0], total.astype(np.uint32), live)
        _carried(lanes, i, outs, total, live)

    return step


_COMPARED: Mapping[str, Callable[[Array, Array], Array]] = {
    "EQ": np.equal, "NE": np.not_equal, "LT": np.less, "LE": np.less_equal, "GT": np.greater,
    "GE": np.greater_equal,
}  # fmt: skip
_EQUAL = {"EQ": True, "NE": False, "LE": True, "GE": True, "LT": False, "GT": False}


def set_predicate(i: SassInstruction) -> Step:
    """ISETP; with .EX of upper halves, where equal ones leave it to a last predicate, of the lower ones."""
    words = Words(i)
    extended, unsigned = words.flag("EX"), words.flag("U32")
    how, join = words.one_of(_COMPARED), words.one_of(JOINED)
    words.end()
    if not how or not join or len(i.arguments) != (6 if extended else 5):
        raise unsupported(i)
    p, q, first, second, third = i.arguments[:5]
    kind = np.uint32 if unsigned else np.int32
    strict = {"LE": "LT", "GE": "GT"}.get(how, how)

    def step(lanes: SassLanes, live: Mask) -> None:
        a, b = (lanes.integer(i, o).view(kind) for o in (first, second))
        found = _COMPARED[how](a, b)
        if extended:
            found = np.where(a == b, lanes.truth(i, i.arguments[5]), _COMPARED[strict](a, b))
        joined, other = JOINED[join], lanes.truth(i, third)
        lanes.put(i, p, joined(found, other), live)
        lanes.put(i, q, joined(~found, other), live)

    return step


def extreme(i: SassInstruction) -> Step:
    """IMNMX and VIMNMX: the smaller where a predicate holds, else the larger; VIADDMNMX of a sum."""
    words = Words(i)
    unsigned, relu = words.flag("U32"), words.flag("RELU")
    words.flag("S32")
    words.end()
    sums = i.opcode == "VIADDMNMX"
    if len(i.arguments) != (5 if sums else 4):
        raise unsupported(i)
    *sources, smaller = i.arguments[1:]
    kind = np.uint32 if unsigned else np.int32

    def step(lanes: SassLanes, live: Mask) -> None:
        values = [lanes.integer(i, o) for o in sources]
        a, b = ((values[0] + values[1]), values[2]) if sums else values
        x, y = a.view(kind), b.view(kind)
        found = np.where(lanes.truth(i, smaller), np.minimum(x, y), np.maximum(x, y))
        found = np.maximum(found, 0) if relu else found
        lanes.put(i, i.arguments[0], found.view(np.uint32), live)

    return step


def absolute(i: SassInstruction) -> Step:
    """IABS."""
    Words(i).end()

    def step(lanes: SassLanes, live: Mask) -> None:
        value = lanes.integer(i, i.arguments[1])
        negative = (value >> np.uint32(31)).astype(bool)
        lanes.put(i, i.arguments[0], np.where(negative, np.uint32(0) - value, value), live)

    return step


def distance(i: SassInstruction) -> Step:
    """VABSDIFF: |a − b| + c."""
    words = Words(i)
    kind = np.uint32 if words.flag("U32") else np.int32
    words.end()
    to, *sources = i.arguments
    if len(sources) != 3:
        raise unsupported(i)

    def step(lanes: SassLanes, live: Mask) -> None:
        a, b = (lanes.integer(i, o).view(kind).astype(np.int64) for o in sources[:2])
        lanes.put(i, to, np.abs(a - b).astype(np.uint32) + lanes.integer(i, sources[2]), live)

    return step
