"""The enclosing engine: a launch for every conforming device at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator.enclosing.enclosed import Enclosed
from precision_lab.emulator.enclosing.lanes import RangedLanes
from precision_lab.emulator.enclosing.memory import Planes, access, atomic, undecided
from precision_lab.emulator.enclosing.rules import rule_of
from precision_lab.emulator.influence import is_approximate
from precision_lab.emulator.launch import Launch
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.operands import read
from precision_lab.emulator.ptx import Instruction, Kernel
from precision_lab.emulator.reference.engine import ReferenceEngine
from precision_lab.emulator.reference.lanes import Lanes, Mask
from precision_lab.emulator.reference.program import Program
from precision_lab.emulator.reference.schedule import Schedule
from precision_lab.emulator.reference.step import Step

_ACCESSES = ("ld", "ldu", "st", "ldmatrix", "stmatrix", "shfl")
_ATOMICS = ("atom", "red")


class EnclosingEngine(ReferenceEngine):
    """Executes a launch for ranges; what it stores in `planes` holds what every conforming device stores.

    A launch's choice of results is not looked at: each approximate instruction gives all that it may.
    """

    name = "enclosing"

    def __init__(self, planes: Planes) -> None:
        super().__init__()
        self._planes = planes

    def run(self, launch: Launch, memory: Memory) -> None:
        """As `launch.Engine`.

        Raises:
            Unsupported: also where a branch, a guard of an access or an address depends on a range.
        """
        super().run(launch, memory)

    def _program(self, kernel: Kernel) -> Program:
        return _Program(kernel, self._planes)

    def _lanes(self, launch: Launch, blocks: NDArray[np.int64]) -> Lanes:
        return RangedLanes(launch, blocks)

    def _schedule(self, program: Program, lanes: Lanes, memory: Memory) -> Schedule:
        assert isinstance(lanes, RangedLanes)
        lanes.planes = {name: self._planes.machine(name, lanes.machine) for name in self._planes.data}
        return _Schedule(program, lanes)


class _Program(Program):
    """Instructions as steps on ranges."""

    def __init__(self, kernel: Kernel, planes: Planes) -> None:
        self._planes = planes
        super().__init__(kernel)

    def step(self, i: Instruction, index: int) -> Step:
        e = Enclosed(i, index)
        planes = self._planes
        if i.opcode in _ACCESSES:
            return lambda lanes, live: access(e, _ranged(lanes), live, planes)
        if i.opcode in _ATOMICS:
            return lambda lanes, live: atomic(e, _ranged(lanes), live, planes)
        rule, always = rule_of(i), is_approximate(i)

        def step(lanes: Lanes, live: Mask) -> None:
            own = _ranged(lanes)
            if always or own.uncertain is not None or e.ranged(own):
                rule(e, own, live)
                planes.note(e, own)
                return
            e.settled(own, live)

        return step


def _ranged(lanes: Lanes) -> RangedLanes:
    assert isinstance(lanes, RangedLanes)
    return lanes


class _Schedule(Schedule):
    """Refuses ways through the program that depend on a range."""

    def guarded(self, i: Instruction, mask: Mask) -> Mask:
        lanes = _ranged(self._lanes)
        lanes.uncertain = None
        found = super().guarded(i, mask)
        if i.guard is None:
            return found
        (register,) = read(i.guard)
        if not lanes.is_ranged(register):
            return found
        low, high = lanes.ends(register)
        is_open = low != high
        if mask is not None:
            is_open = is_open & mask
        if not is_open.any():
            return found
        if i.opcode in ("bra", "ret", "exit", "bar", "barrier"):
            raise undecided(i, "the way through the program")
        lanes.uncertain = is_open
        return is_open if found is None else np.asarray(found | is_open)
