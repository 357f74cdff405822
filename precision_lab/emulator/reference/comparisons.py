"""set and setp: comparisons of numbers, with a predicate perhaps joined to the outcome.

Source: PTX ISA, "Comparison and Selection Instructions" and "Half Precision Comparison Instructions".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Sink
from precision_lab.emulator.reference.kinds import PACKED, Kind, number, parts
from precision_lab.emulator.reference.lanes import SIGNED, UNSIGNED, Array, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.moves import destinations
from precision_lab.emulator.reference.step import INTEGERS, Step, bits_of

_ORDERED: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
_UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
_JOINED: dict[str, Callable[[Array, Array], Array]] = {
    "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor,
}  # fmt: skip
_FLOATS = ("f16", "bf16", "f16x2", "bf16x2", "f32", "f64")


def _compared(how: str, floating: bool) -> Callable[[Array, Array], Array] | None:
    """The comparison of that name; None where the type has none."""
    if not floating:
        return _ORDERED.get(_UNSIGNED.get(how, how))
    if how in ("num", "nan"):
        return lambda a, b: (np.isnan(a) | np.isnan(b)) == (how == "nan")
    if how in _ORDERED:  # false where one is NaN, ne too
        return lambda a, b: _ORDERED[how](a, b) & ~(np.isnan(a) | np.isnan(b))
    base = how.removesuffix("u")
    if how.endswith("u") and base in _ORDERED:
        return lambda a, b: _ORDERED[base](a, b) | np.isnan(a) | np.isnan(b)
    return None


class _Comparison:
    """What set and setp share: how two operands are compared, half by half where they are packed."""

    def __init__(self, i: Instruction, modifiers: Modifiers, kind: str) -> None:
        self.i, self.kind = i, kind
        self.floating = kind in _FLOATS
        self.ftz = modifiers.flag("ftz")
        names = ("num", "nan", *_ORDERED, *(f"{n}u" for n in _ORDERED), *_UNSIGNED)
        how = modifiers.one_of(*names)
        self.join = modifiers.one_of(*_JOINED)
        modifiers.end()
        compare = _compared(how, self.floating)
        if compare is None or (how in _UNSIGNED and kind[0] != "u"):
            raise unsupported(i, f"comparison .{how} of .{kind}")
        if kind[0] == "b" and not self.floating and how not in ("eq", "ne"):
            raise unsupported(i, f"comparison .{how} of .{kind}")
        if self.ftz and kind not in ("f32", "f16", "f16x2"):
            raise unsupported(i, "modifier .ftz")
        self.compare = compare

    def outcomes(self, lanes: Lanes) -> list[Array]:
        """Of one pair of numbers, or of the low and the high one; joined with the predicate, if any."""
        i = self.i
        if self.floating:
            kind = Kind(self.kind, ftz=self.ftz)
            a, b = (parts(lanes, i, o, kind) for o in i.operands[1:3])
            found = [self.compare(number(x, kind), number(y, kind)) for x, y in zip(a, b, strict=True)]
        else:
            bits = bits_of(self.kind)
            a, b = ([lanes.read(i, o, bits)] for o in i.operands[1:3])
            if self.kind[0] == "s":
                a, b = ([v[0].view(SIGNED[bits])] for v in (a, b))
            found = [self.compare(a[0], b[0])]
        if self.join:
            predicate = lanes.read(i, i.operands[3], 1)
            found = [_JOINED[self.join](f, predicate) for f in found]
        return found


def _kinds() -> tuple[str, ...]:
    return (*_FLOATS, *INTEGERS, "b16", "b32", "b64")


def setp(i: Instruction) -> Step:
    """Writes predicates: p, and as q its contrary; of packed types p for the low, q for the high one."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*_kinds())
    comparison = _Comparison(i, modifiers, kind)
    p, q = destinations(i)
    if len(i.operands) != (4 if comparison.join else 3) or (kind in PACKED and isinstance(q, Sink)):
        raise unsupported(i, f"{len(i.operands)} operands")

    def step(lanes: Lanes, live: Mask) -> None:
        found = comparison.outcomes(lanes)
        second = found[1] if len(found) == 2 else None
        if second is None and not isinstance(q, Sink):
            # The contrary of the comparison, not of what it was joined with.
            second = _contrary(comparison, lanes)
        lanes.write(i, p, found[0], live)
        if second is not None:
            lanes.write(i, q, second, live)

    return step


def _contrary(comparison: _Comparison, lanes: Lanes) -> Array:
    join, comparison.join = comparison.join, ""
    outcome = ~comparison.outcomes(lanes)[0]
    comparison.join = join
    if join:
        outcome = _JOINED[join](outcome, lanes.read(comparison.i, comparison.i.operands[3], 1))
    return outcome


def set_(i: Instruction) -> Step:
    """Writes numbers: 1.0 or all ones where the comparison holds, else 0."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*_kinds())
    to = modifiers.type("u32", "s32", "f32", "f16", "bf16", "f16x2", "bf16x2", "u16", "s16")
    comparison = _Comparison(i, modifiers, kind)
    packed = kind in PACKED
    if packed != (to in PACKED or (kind in PACKED and to in ("u32", "s32"))) and packed:
        raise unsupported(i)
    one = {"f32": 0x3F800000, "f16": 0x3C00, "bf16": 0x3F80, "f16x2": 0x3C00, "bf16x2": 0x3F80}.get(to)
    bits = 16 if packed or to in ("f16", "bf16", "u16", "s16") else 32
    true = (1 << bits) - 1 if one is None else one

    def step(lanes: Lanes, live: Mask) -> None:
        found = [np.where(f, true, 0).astype(UNSIGNED[32]) for f in comparison.outcomes(lanes)]
        value = found[0] if len(found) == 1 else found[0] | (found[1] << np.uint32(16))
        lanes.write(i, i.operands[0], value.astype(UNSIGNED[32 if packed else bits]), live)

    return step
