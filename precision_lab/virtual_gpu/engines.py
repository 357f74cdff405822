"""Which results of approximate instructions a launch takes, and what was launched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from precision_lab.emulator import influence as ptx_influence
from precision_lab.emulator import nominal
from precision_lab.emulator.approximate import candidates
from precision_lab.emulator.enclosing.engine import EnclosingEngine
from precision_lab.emulator.enclosing.memory import Planes, Side
from precision_lab.emulator.enclosing.ranges import LOST, POINT, UNPROMISED
from precision_lab.emulator.influence import Influence, influence
from precision_lab.emulator.launch import Choice, Launch
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.ptx import Instruction, Kernel
from precision_lab.emulator.sass import influence as sass_influence
from precision_lab.emulator.sass.code import SassInstruction, SassKernel
from precision_lab.virtual_gpu import tensors
from precision_lab.virtual_gpu.executing import execute
from precision_lab.virtual_gpu.tabulated import tables

Dimension = tuple[int, int]  # a launch's level, and a colour of its kernel, or `CONTRACTION`
CONTRACTION = -1
Choices = Mapping[Dimension, int]


# Marks of an allocation, beside the operators that computed in it, which copies of it have, too: how many
# launches one after the other have led to what is in it, why not every result of conforming devices is known
# there, which launch of a level chose something, and in which allocation the ranges lie that hold results.
_LEVEL, _OBSTACLE, _FROM, _RANGES = "#level ", "#obstacle ", "#from ", "#ranges "


@dataclass(frozen=True)
class Other:
    """The same kernel with its products and sums computed one by one, which its machine code may do.

    Attributes:
        why: it is not known whether it does.
    """

    kernel: Kernel
    why: str


@dataclass
class Record:
    """What was launched since it was begun.

    Attributes:
        kernels: each kernel that ran, with the name of the engine that did.
        dimensions: what there is to choose, each with the smallest and the largest number of a choice.
        named: what there is to choose for in each: names of instructions, or contraction in a kernel.
        tables: devices whose tables were looked up.
    """

    kernels: dict[str, str] = field(default_factory=dict)
    dimensions: dict[Dimension, tuple[int, int]] = field(default_factory=dict)
    named: dict[Dimension, set[str]] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    launches: int = 0

    @property
    def instructions(self) -> set[str]:
        """All that there is to choose for, by name."""
        return set[str]().union(*self.named.values())

    def obstacle(self, address: int) -> str:
        """Why not every result in the allocation at an address is reached; "" where all are."""
        marks = tensors.marks_of(address)
        return next((m.removeprefix(_OBSTACLE) for m in marks if m.startswith(_OBSTACLE)), "")


class _State:
    """Of this process, which is one device's."""

    # By id; the kernel is kept, so that no other has its id.
    influences: dict[tuple[int, frozenset[str]], tuple[Kernel, Influence, frozenset[str]]] = {}  # noqa: RUF012
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


def raise_to_upper_ends(planes: Planes, allocation: int) -> bool:
    """Puts the upper ends of an allocation's ranges in memory; False where they may lie elsewhere."""
    ranges = [m.removeprefix(_RANGES) for m in tensors.marks_of(allocation) if m.startswith(_RANGES)]
    memory = planes.memory
    at = slice(allocation - memory.base, allocation - memory.base + memory.extent(allocation))
    is_range, data = planes.data["kinds"][at] != POINT, memory.data[at]
    if any(int(place) != allocation for place in ranges) or (data != planes.data["low"][at])[is_range].any():
        return False  # copied, or changed since
    data[is_range] = planes.data["high"][at][is_range]
    return True


def run(launch: Launch, memory: Memory, pointers: Mapping[str, int], other: Other | None = None) -> None:
    """Executes a launch.

    Args:
        pointers: of the parameters that point into memory, the first byte of the allocation they point into.
        other: None where it is known what machine code computes in one step.

    Raises:
        Unsupported, Fault: as `launch.Engine.run`.
        InternalError: the two engines differ.
    """
    kernels = (launch.kernel,) if other is None else (launch.kernel, other.kernel)
    each = [_influence(kernel, frozenset(pointers)) for kernel in kernels]
    known = each[0]  # memory is accessed alike in both
    read, written = (
        set(pointers.values()) if known.hidden else {pointers[p] for p in names if p in pointers}
        for names in (known.loads, known.stores)
    )
    marks = {mark for allocation in read | written for mark in tensors.marks_of(allocation)}
    if _State.enclosing is not None:
        _enclose(replace(launch, choice=Choice(tables=tables())), memory, read, written, marks, other)
        return
    level = max((int(m.removeprefix(_LEVEL)) + 1 for m in marks if m.startswith(_LEVEL)), default=0)
    record = _State.record
    record.launches += 1
    way = 0
    if other is not None:
        _dimension((level, CONTRACTION), range(2), f"contraction in {launch.kernel.name}")
        way = _State.choices.get((level, CONTRACTION), 0)
    # Of both ways, whichever is launched: a quotient has more results than the reciprocal in its place.
    choices = [_choice(kernel, found, level) for kernel, found in zip(kernels, each, strict=True)]
    launch = replace(launch, kernel=kernels[way], choice=choices[way])
    record.kernels[launch.kernel.name] = execute(launch, memory, sorted(set(pointers.values())))
    passed_on = {m for m in marks if not m.startswith(_LEVEL)} | {f"{_LEVEL}{level}"}
    if other is not None or any(found.colours for found in each):
        passed_on.add(f"{_FROM}{level} {record.launches}")
    sources = [m.removeprefix(_FROM).split()[0] for m in passed_on if m.startswith(_FROM)]
    if len(set(sources)) < len(sources):
        # Choices are made by level, and two launches of one would always make the same.
        passed_on.add(f"{_OBSTACLE}approximate results of several kernels are combined")
    for parameter, allocation in pointers.items():
        if allocation in written:
            whys = {found.obstacles[parameter] for found in each if parameter in found.obstacles}
            for mark in passed_on | {_OBSTACLE + why for why in whys}:
                tensors.mark(allocation, mark)


def _enclose(
    launch: Launch, memory: Memory, read: set[int], written: set[int], marks: set[str], other: Other | None
) -> None:
    """Executes it for ranges, and marks what it has stored."""
    assert _State.enclosing is not None
    engine, planes = _State.enclosing
    if isinstance(launch.kernel, SassKernel):
        _State.record.kernels[launch.kernel.name] = execute(launch, memory, sorted(read | written))
        for allocation in written:
            tensors.mark(allocation, f"{_OBSTACLE}no ranges are computed of machine code")
        return
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
    if other is not None:
        passed_on.add(f"{_OBSTACLE}whether {launch.kernel.name} is contracted is not known: {other.why}")
    for allocation in written:
        worst = planes.worst(allocation - memory.base, memory.extent(allocation))
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
    moved = {}
    for index, colour in known.colours.items():
        i = _instructions(kernel)[index]
        found = candidates(_operation(i))
        _dimension((level, colour), found, _name(i))
        moved[index] = max(found.start, min(found.stop - 1, _State.choices.get((level, colour), 0)))
    return Choice({index: by for index, by in moved.items() if by}, tables())


def _instructions(kernel: Kernel) -> Sequence[Instruction]:
    return kernel.code if isinstance(kernel, SassKernel) else kernel.instructions


def _operation(i: Instruction) -> str:
    """What an instruction is called in `bounds`; "" where nothing there bounds it."""
    if isinstance(i, SassInstruction):
        return sass_influence.operation(i)
    return ptx_influence.operation(i) if ptx_influence.is_approximate(i) else ""


def _name(i: Instruction) -> str:
    """As reports have it: of machine code the PTX instruction whose bound is taken for it."""
    return sass_influence.ptx_name(i) if isinstance(i, SassInstruction) else i.name


def _flushes(i: Instruction) -> bool:
    if isinstance(i, SassInstruction):
        return nominal.supports(_operation(i), True)
    return "ftz" in i.modifiers


def _dimension(dimension: Dimension, numbers: range, name: str) -> None:
    record = _State.record
    low, high = record.dimensions.get(dimension, (0, 0))
    record.dimensions[dimension] = min(numbers.start, low), max(numbers.stop - 1, high)
    record.named.setdefault(dimension, set()).add(name)


def _influence(kernel: Kernel, pointers: frozenset[str]) -> Influence:
    """What is the device's to choose; not what a table says."""
    key = id(kernel), pointers
    known = _State.influences.get(key)
    if known is None or known[0] is not kernel:
        found = (
            sass_influence.influence_of(kernel, pointers)
            if isinstance(kernel, SassKernel)
            else influence(kernel, pointers)
        )
        tabled = {
            k: table.header.device for k, i in enumerate(_instructions(kernel)) if _operation(i)
            if (table := tables().get((_operation(i), _flushes(i)))) is not None
        }  # fmt: skip
        if tabled:
            open_ = {k: colour for k, colour in found.colours.items() if k not in tabled}
            rest = any(_operation(i) for k, i in enumerate(_instructions(kernel)) if k not in tabled)
            found = replace(found, colours=open_, obstacles=found.obstacles if rest else {})
        known = _State.influences[key] = kernel, found, frozenset(tabled.values())
    _State.record.tables |= known[2]
    return known[1]
