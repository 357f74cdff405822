"""Launches that are counted instead of carried out: a few blocks of each are executed, its code is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from precision_lab.emulator.executed import Evidence
from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.launch import Launch, Size
from precision_lab.emulator.machine_code import assemble
from precision_lab.emulator.memory import WRITTEN, Memory
from precision_lab.emulator.reference.counting import CountingEngine
from precision_lab.exceptions import UsageError
from precision_lab.virtual_gpu.contracting import machine_code_of


@dataclass(frozen=True)
class Counted:
    """A launch, and what a few of its blocks have shown of all.

    Attributes:
        shared_bytes: of shared memory, whose size the launch decides.
        code: the machine code that it runs.
        assembled: the lab's assembler made it; False where the kernel's compiler did.
        read, written: bytes of global memory that it touches, each sector counted once.
    """

    name: str
    grid: Size
    block: Size
    shared_bytes: int
    code: bytes
    assembled: bool
    evidence: Evidence
    read: float
    written: float

    @property
    def threads(self) -> int:
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def blocks(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


class _State:
    """Of this process, which is one device's."""

    found: list[Counted] | None = None
    engine: CountingEngine | None = None
    target = ""


def is_counting() -> bool:
    return _State.found is not None


@contextmanager
def counting(target: str) -> Iterator[list[Counted]]:
    """The launches in the block, which are not carried out: of their results only a part is stored.

    Args:
        target: such as "sm_90", for PTX that no compiler here has made machine code of.
    """
    found: list[Counted] = []
    before = _State.found, _State.target
    _State.found, _State.target = found, target
    try:
        yield found
    finally:
        _State.found, _State.target = before


def count(launch: Launch, memory: Memory, allocations: Sequence[int], ptx: str) -> None:
    """Executes a part of a launch and notes it.

    Args:
        allocations: that it is given pointers to. What earlier launches were to store there counts as stored.

    Raises:
        ImportError: there is no assembler.
        Unsupported, Fault: none takes the PTX, or as `launch.Engine.run`.
    """
    assert _State.found is not None
    for address in allocations:
        at = address - memory.base
        memory.states[at : at + memory.extent(address)] = WRITTEN
    engine = _State.engine = _State.engine or CountingEngine()
    engine.run(launch, memory)
    code = machine_code_of(ptx)
    made = code is None
    if code is None:
        try:
            code = assemble(ptx, _State.target)
        except UsageError as error:
            raise Unsupported(f"{launch.kernel.name}: {error}") from error
    _State.found.append(
        Counted(
            launch.kernel.name, launch.grid, launch.block, launch.shared_bytes, code, made, engine.evidence,
            engine.read, engine.written,
        )
    )  # fmt: skip
