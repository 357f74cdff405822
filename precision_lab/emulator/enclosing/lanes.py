"""The registers of many threads at once, each a value or a range of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator.enclosing.ranges import LOST, POINT, UNPROMISED, hull, order, parts
from precision_lab.emulator.launch import Launch
from precision_lab.emulator.ptx import Instruction, Operand, Register
from precision_lab.emulator.reference.lanes import UNSIGNED, Array, Lanes, Mask
from precision_lab.emulator.reference.machine import Machine


class RangedLanes(Lanes):
    """Lanes whose registers hold the lower ends, and beside them the upper ends of those that hold ranges.

    Attributes:
        high: upper ends, by register; missing where every lane has one value.
        kinds: of ranges, by register; see `ranges`.
        uncertain: lanes of which nobody knows whether they execute what is executed now.
        planes: the machine with other contents of its memory: "low" and "high" ends, and "kinds".
    """

    def __init__(self, launch: Launch, blocks: NDArray[np.int64]) -> None:
        super().__init__(launch, blocks)
        self.high: dict[str, Array] = {}
        self.kinds: dict[str, Array] = {}
        self.uncertain: Mask = None
        self.planes: Mapping[str, Machine] = {}

    def is_ranged(self, register: Register) -> bool:
        return register.name in self.kinds

    def kind(self, operand: Operand) -> Array:
        """Of a register; constants are points."""
        found = self.kinds.get(operand.name) if isinstance(operand, Register) else None
        return np.zeros(self.n, np.uint8) if found is None else found

    def ends(self, register: Register) -> tuple[Array, Array]:
        """Both ends, shape (n,)."""
        low = self.registers.get(register.name)
        if low is None:
            low = np.zeros(1, UNSIGNED[register.bits])
        low = np.ascontiguousarray(self.spread(low))
        return low, self.high.get(register.name, low)

    def operand(self, i: Instruction, operand: Operand, width: int) -> tuple[Array, Array]:
        """Both ends of a register or a constant, which has parts of so many bits."""
        if isinstance(operand, Register):
            return self.ends(operand)
        bits = width * (2 if i.type.endswith("x2") else 1)
        value = np.ascontiguousarray(self.spread(self.read(i, operand, bits)))
        return value, value

    def settle(self, register: Register, live: Mask) -> None:
        """Notes that the live lanes have one value each in a register, which has just been written."""
        kind = self.kinds.get(register.name)
        if kind is None:
            return
        if live is not None and (kind[~live] != POINT).any():
            self.kinds[register.name] = np.where(live, np.uint8(POINT), kind)
            self.high[register.name] = np.where(live, self.ends(register)[0], self.high[register.name])
        else:
            del self.kinds[register.name], self.high[register.name]

    def put(self, register: Register, low: Array, high: Array, kind: Array, live: Mask) -> None:
        """Gives the live lanes ranges; those that may not execute this keep what they had beside it.

        A predicate of which nothing is known may be either.
        """
        dtype: Any = UNSIGNED[register.bits]
        kind = np.asarray(kind, np.uint8)
        if register.bits == 1:
            nothing = np.broadcast_to(kind >= LOST, (self.n,))
            low, high = np.where(nothing, False, low), np.where(nothing, True, high)
            kind = np.where(kind == UNPROMISED, UNPROMISED, np.where(low != high, 1, POINT))
        low, high = (np.ascontiguousarray(self.spread(end.astype(dtype, copy=False))) for end in (low, high))
        kind = np.where((low == high) & (kind < LOST), np.uint8(POINT), self.spread(kind)).astype(np.uint8)
        if self.uncertain is not None:
            low, high, kind = either(
                (low, high, kind), (*self.ends(register), self.kind(register)), self.uncertain, register.bits
            )
        if live is not None:
            old_low, old_high = self.ends(register)
            low, high = np.where(live, low, old_low), np.where(live, high, old_high)
            kind = np.where(live, kind, self.kind(register))
        self.registers[register.name] = low
        if (kind != POINT).any():
            self.high[register.name], self.kinds[register.name] = high, kind
        else:
            self.high.pop(register.name, None)
            self.kinds.pop(register.name, None)


Ranged = tuple[Array, Array, Array]  # both ends, and the kind


def either(a: Ranged, b: Ranged, where: Array, bits: int) -> Ranged:
    """The first, and where it says so the hull of both; two points are ends of a range of whole registers.

    Args:
        bits: of the register.
    """
    low, high, kind = (np.array(v) for v in a)  # copies
    if bits == 1:
        low, high = np.where(where, low & b[0], low), np.where(where, high | b[1], high)
        unpromised = (kind == UNPROMISED) | (where & (b[2] == UNPROMISED))
        return low, high, np.where(unpromised, np.uint8(UNPROMISED), (low != high).astype(np.uint8))
    equal = (a[0] == b[0]) & (a[1] == b[1]) & (a[2] == b[2])
    here = where & ~equal
    if not here.any():
        return low, high, kind
    kinds = np.where(a[2] == POINT, b[2], a[2])
    kinds = np.where(kinds == POINT, bits, kinds)
    mixed = (a[2] != b[2]) & (a[2] != POINT) & (b[2] != POINT) & (np.maximum(a[2], b[2]) < LOST)
    kinds = np.where(mixed, LOST, np.maximum(kinds, np.maximum(a[2], b[2])))
    for one in (int(k) for k in np.unique(kinds[here]) if k < LOST):
        rows = here & (kinds == one)
        low[rows], high[rows] = hull([a[0][rows], a[1][rows], b[0][rows], b[1][rows]], one)
        # Between a number and NaN nothing is ordered. Of 8 and 16 bits, the format with the fewest numbers.
        beyond = {8: 0x7C, 16: 0x7C00, 32: 0x7F800000, 64: 0x7FF << 52}[one]
        for end in (low, high):
            place = order(parts(end[rows], one))
            kinds[rows] = np.where(((place > beyond) | (place < -1 - beyond)).any(1), LOST, kinds[rows])
    kind[here] = kinds[here]
    return low, high, kind
