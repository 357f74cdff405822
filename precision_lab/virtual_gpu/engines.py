"""Which engine executes a launch, what results of approximate instructions it takes, and what was launched.

The fast engine runs what it can, the reference engine the rest: kernels whose threads communicate. The first
launch of every kernel is executed by both, from the same memory, and their results are compared: one that
differs by a bit is the lab's own fault and ends the measurement. The reference engine also sees races, which
the fast one does not look for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from precision_lab.emulator.approximate import candidates
from precision_lab.emulator.enclosing.engine import EnclosingEngine
from precision_lab.emulator.enclosing.memory import Planes, Side
from precision_lab.emulator.enclosing.ranges import LOST, POINT, UNPROMISED
from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.influence import Influence, influence, operation
from precision_lab.emulator.launch import Choice, Engine, Launch
from precision_lab.emulator.memory import FREE, WRITTEN, Memory
from precision_lab.emulator.ptx import Kernel
from precision_lab.emulator.reference.engine import ReferenceEngine
from precision_lab.exceptions import InternalError
from precision_lab.virtual_gpu import tensors
from precision_lab.virtual_gpu.settings import ENGINE, ENGINES

COMPARED_THREADS = 1 << 17  # of the largest first launch that both engines execute

Dimension = tuple[int, int]  # a launch's level, and a colour of its kernel
Choices = Mapping[Dimension, int]


# Marks of an allocation, beside the operators that computed in it, which copies of it have, too: how many
# launches one after the other have led to what is in it, why not every result of conforming devices is known
# there, and in which allocation the ranges lie that hold them.
_LEVEL, _OBSTACLE, _RANGES = "#level ", "#obstacle ", "#ranges "


@dataclass
class Record:
    """What was launched since it was begun.

    Attributes:
        kernels: each kernel that ran, with the name of the engine that did.
        dimensions: what there is to choose, each with the smallest and the largest number of a choice.
        instructions: what is chosen, by dimension.
    """

    kernels: dict[str, str] = field(default_factory=dict)
    dimensions: dict[Dimension, tuple[int, int]] = field(default_factory=dict)
    instructions: dict[Dimension, str] = field(default_factory=dict)

    def obstacle(self, address: int) -> str:
        """Why not every result in the allocation at an address is reached; "" where all are."""
        marks = tensors.marks_of(address)
        return next((m.removeprefix(_OBSTACLE) for m in marks if m.startswith(_OBSTACLE)), "")


class _State:
    """Of this process, which is one device's."""

    engines: dict[str, Engine] = {}  # noqa: RUF012
    # By id; the kernel is kept, so that no other has its id.
    compared: dict[int, Kernel] = {}  # noqa: RUF012
    influences: dict[tuple[int, frozenset[str]], tuple[Kernel, Influence]] = {}  # noqa: RUF012
    record = Record()
    choices: Choices = {}  # noqa: RUF012
    enclosing: tuple[EnclosingEngine, Planes] | None = None


@contextmanager
def recording() -> Iterator[Record]:
    """A new record of the launches in the block."""
    before, _State.record = _State.record, Record()
    try:
        yield _State.record
    finally:
        _State.record = before


@contextmanager
def choosing(choices: Choices) -> Iterator[None]:
    """Launches in the block take these results of approximate instructions."""
    before, _State.choices = _State.choices, choices
    try:
        yield
    finally:
        _State.choices = before


@contextmanager
def enclosing(side: Side) -> Iterator[Planes]:
    """Launches in the block are executed for every conforming device at once (`emulator.enclosing`).

    Args:
        side: which ends of ranges are in memory afterwards.
    """
    planes = Planes(tensors.memory(), side)
    before, _State.enclosing = _State.enclosing, (EnclosingEngine(planes), planes)
    try:
        yield planes
    finally:
        _State.enclosing = before


def run(launch: Launch, memory: Memory, pointers: Mapping[str, int]) -> None:
    """Executes a launch.

    Args:
        pointers: of the parameters that point into memory, the first byte of the allocation they point into.

    Raises:
        Unsupported, Fault: as `launch.Engine.run`.
        InternalError: the two engines differ.
    """
    known = _influence(launch.kernel, frozenset(pointers))
    read, written = (
        set(pointers.values()) if known.hidden else {pointers[p] for p in names if p in pointers}
        for names in (known.loads, known.stores)
    )
    marks = {mark for allocation in read | written for mark in tensors.marks_of(allocation)}
    if _State.enclosing is not None:
        _enclose(launch, memory, read, written, marks)
        return
    level = max((int(m.removeprefix(_LEVEL)) + 1 for m in marks if m.startswith(_LEVEL)), default=0)
    launch = replace(launch, choice=_choice(launch.kernel, known, level))
    _State.record.kernels[launch.kernel.name] = _run(launch, memory, sorted(set(pointers.values())))
    passed_on = {m for m in marks if not m.startswith(_LEVEL)} | {f"{_LEVEL}{level}"}
    for parameter, allocation in pointers.items():
        if allocation in written:
            why = known.obstacles.get(parameter, "")
            for mark in passed_on | ({_OBSTACLE + why} if why else set()):
                tensors.mark(allocation, mark)


def _enclose(launch: Launch, memory: Memory, read: set[int], written: set[int], marks: set[str]) -> None:
    """Executes it for ranges, and marks what it has stored."""
    assert _State.enclosing is not None
    engine, planes = _State.enclosing
    foreign = any(
        m.startswith(_RANGES) and int(m.removeprefix(_RANGES)) != allocation
        for allocation in read for m in tensors.marks_of(allocation)
    )  # fmt: skip
    engine.run(launch, memory)
    _State.record.kernels[launch.kernel.name] = engine.name
    passed_on = {m for m in marks if not m.startswith(_RANGES)}
    if foreign:
        why = f"what an earlier kernel stored was copied before {launch.kernel.name} read it"
        passed_on.add(_OBSTACLE + why)
    for allocation in written:
        worst = planes.worst(allocation - memory.base, _extent(memory, allocation - memory.base))
        why = ""
        if worst == UNPROMISED:
            why = f"the manual promises nothing of what {planes.named(UNPROMISED)} is given"
        elif worst == LOST:
            why = f"no range is known of what {planes.named(LOST)} makes of ranges"
        more = {_OBSTACLE + why} if why else {f"{_RANGES}{allocation}"} if worst != POINT else set()
        for mark in passed_on | more:
            tensors.mark(allocation, mark)


def _choice(kernel: Kernel, known: Influence, level: int) -> Choice:
    """The results that were asked for, and what could have been, noted."""
    record, moved = _State.record, {}
    for index, colour in known.colours.items():
        dimension = level, colour
        found = candidates(operation(kernel.instructions[index]))
        low, high = found.start, found.stop - 1
        before = record.dimensions.get(dimension, (0, 0))
        record.dimensions[dimension] = min(low, before[0]), max(high, before[1])
        record.instructions.setdefault(dimension, kernel.instructions[index].name)
        moved[index] = max(low, min(high, _State.choices.get(dimension, 0)))
    return Choice({index: by for index, by in moved.items() if by})


def _influence(kernel: Kernel, pointers: frozenset[str]) -> Influence:
    key = id(kernel), pointers
    known = _State.influences.get(key)
    if known is None or known[0] is not kernel:
        known = _State.influences[key] = kernel, influence(kernel, pointers)
    return known[1]


def _engine(name: str) -> Engine:
    if name not in _State.engines:
        if name == "fast":
            from precision_lab.emulator.fast.engine import FastEngine

            _State.engines[name] = FastEngine()
        else:
            _State.engines[name] = ReferenceEngine()
    return _State.engines[name]


def _run(launch: Launch, memory: Memory, allocations: Sequence[int]) -> str:
    """Executes it, and says by which engine."""
    chosen = os.environ.get(ENGINE, ENGINES[0])
    kernel = launch.kernel
    if chosen == "reference":
        _engine("reference").run(launch, memory)
        return "reference"
    first = _State.compared.get(id(kernel)) is not kernel
    if not first or launch.blocks * launch.threads > COMPARED_THREADS:
        try:
            _engine("fast").run(launch, memory)
        except Unsupported:
            _engine("reference").run(launch, memory)
            return "reference"
        return "fast"
    before = [_Copy(memory, a) for a in allocations]
    _engine("reference").run(launch, memory)
    after = [_Copy(memory, a) for a in allocations]
    for copy in before:
        copy.restore()
    try:
        _engine("fast").run(launch, memory)
    except Unsupported:
        for copy in after:
            copy.restore()
        _State.compared[id(kernel)] = kernel
        return "reference"
    for copy in after:
        copy.compare(kernel)
    _State.compared[id(kernel)] = kernel
    return "fast"


class _Copy:
    """What an allocation holds at one time, with the states of its bytes."""

    def __init__(self, memory: Memory, address: int) -> None:
        self._memory, self._at = memory, address - memory.base
        self._size = _extent(memory, self._at)
        self._data = memory.data[self._at : self._at + self._size].copy()
        self._states = memory.states[self._at : self._at + self._size].copy()

    def restore(self) -> None:
        self._memory.data[self._at : self._at + self._size] = self._data
        self._memory.states[self._at : self._at + self._size] = self._states

    def compare(self, kernel: Kernel) -> None:
        """
        Raises:
            InternalError: the memory holds something else now.
        """
        data = self._memory.data[self._at : self._at + self._size]
        states = self._memory.states[self._at : self._at + self._size]
        written = self._states == WRITTEN
        wrong = np.flatnonzero((states != self._states) | (written & (data != self._data)))
        if wrong.size:
            raise InternalError(
                f"the two engines of the emulator differ for {kernel.name}: byte {int(wrong[0])} of an "
                f"allocation of {self._size}, {wrong.size} bytes in all", "",
            )  # fmt: skip


def _extent(memory: Memory, at: int) -> int:
    """Bytes of the allocation that begins there."""
    step = 1 << 16
    size = 0
    while at + size < memory.size:
        free = np.flatnonzero(memory.states[at + size : at + size + step] == FREE)
        if free.size:
            return size + int(free[0])
        size += step
    return size
