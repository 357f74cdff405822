"""An instruction that can be executed for other contents of its registers than those of the lanes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from precision_lab.emulator.enclosing.lanes import RangedLanes
from precision_lab.emulator.enclosing.ranges import POINT, fitting, worst
from precision_lab.emulator.operands import results_of, written
from precision_lab.emulator.ptx import Address, Instruction, Not, Operand, Pair, Register, Vector
from precision_lab.emulator.reference.lanes import Array, Mask
from precision_lab.emulator.reference.program import build

Values = Mapping[str, Array]  # by name in the executable copy


class Enclosed:
    """An instruction, and a copy of it in which each operand is a register of its own.

    A register that stands there twice may then take both of its ends at once, which only widens what comes
    of it: x·x for x in [−1, 2] lies in [−2, 4].

    Attributes:
        sources: names in the copy and the registers they stand for; not that of an address.
        targets: the same of what is written.
        addresses: registers that addresses are made of.
    """

    def __init__(self, i: Instruction, index: int) -> None:
        self.i, self.index = i, index
        self.plain = build(i, index)
        self.sources: list[tuple[str, Register]] = []
        self.targets: list[tuple[str, Register]] = []
        count = len(results_of(i))
        operands = (
            *(self._renamed(o, "to", self.targets) for o in i.operands[:count]),
            *(self._renamed(o, "from", self.sources) for o in i.operands[count:]),
        )
        places = [o for o in i.operands if isinstance(o, Address)]
        self.addresses = [r for place in places for r in written(place.base)]
        self._copy = build(replace(i, operands=operands), index)

    def _renamed(self, operand: Operand, mark: str, into: list[tuple[str, Register]]) -> Operand:
        if isinstance(operand, Register):
            name = f"~{mark}{len(into)}"
            into.append((name, operand))
            return Register(name, operand.bits)
        if isinstance(operand, Not):
            renamed = self._renamed(operand.register, mark, into)
            assert isinstance(renamed, Register)
            return Not(renamed)
        if isinstance(operand, Vector):
            return Vector(tuple(self._renamed(item, mark, into) for item in operand.items))
        if isinstance(operand, Pair):
            return Pair(self._renamed(operand.first, mark, into), self._renamed(operand.second, mark, into))
        return operand

    def ranged(self, lanes: RangedLanes) -> list[tuple[str, Register]]:
        """The sources of which some lane holds no single value."""
        return [(name, register) for name, register in self.sources if lanes.is_ranged(register)]

    def lows(self, lanes: RangedLanes) -> dict[str, Array]:
        return {name: lanes.ends(register)[0] for name, register in self.sources}

    def highs(self, lanes: RangedLanes) -> dict[str, Array]:
        return {name: lanes.ends(register)[1] for name, register in self.sources}

    def kinds(self, lanes: RangedLanes) -> list[Array]:
        """Of all sources."""
        return [lanes.kind(register) for _, register in self.sources] or [np.full(lanes.n, POINT, np.uint8)]

    def worst(self, lanes: RangedLanes, width: int) -> Array:
        """What is not known of the sources, taken in parts of `width` bits: `worst` of their kinds."""
        return worst(*(fitting(lanes.kind(r), *lanes.ends(r), width) for _, r in self.sources))

    def settled(self, lanes: RangedLanes, live: Mask) -> None:
        """Executes the instruction where every source is a point."""
        self.plain(lanes, live)
        for _, register in self.targets:
            lanes.settle(register, live)

    def corners(self, lanes: RangedLanes) -> Iterator[dict[str, Array]]:
        """Every combination of the ends of the sources that are ranged."""
        lows, highs = self.lows(lanes), self.highs(lanes)
        names = [name for name, _ in self.ranged(lanes)]
        for ends in itertools.product((lows, highs), repeat=len(names)):
            yield lows | {name: end[name] for name, end in zip(names, ends, strict=True)}

    def run(self, lanes: RangedLanes, live: Mask, values: Values) -> list[Array]:
        """What the instruction writes to each target for these contents of its sources."""
        lanes.registers.update(values)
        self._copy(lanes, live)
        for name in values:
            del lanes.registers[name]
        found = (lanes.registers.pop(name) for name, _ in self.targets)
        return [np.ascontiguousarray(lanes.spread(f)) for f in found]
