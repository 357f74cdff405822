"""One launch of a kernel, and what an engine says after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.ptx import Kernel

WARP = 32
MOST_THREADS = 1024  # of one block, on every device
STEP_LIMIT = 1 << 22  # instructions of one thread: beyond, a loop counts as endless

Size = tuple[int, int, int]


class Tabulated(Protocol):
    """What one device returns for an approximate instruction."""

    def evaluate(self, bits: NDArray[Any]) -> NDArray[Any]:
        """The results for operands, as bits of the instruction's type."""


@dataclass(frozen=True)
class Choice:
    """Which of the results that a conforming device may return its approximate instructions give.

    Attributes:
        moved: by so many floating-point numbers of its type from the correctly rounded result, by index of
            the instruction; what is missing is not moved. What would leave the manual's bound is moved less.
        tables: by instruction ("ex2.approx.f32") and whether it flushes: those that give what a table says.
    """

    moved: Mapping[int, int] = field(default_factory=dict)
    tables: Mapping[tuple[str, bool], Tabulated] = field(default_factory=dict)

    def of(self, index: int) -> int:
        return self.moved.get(index, 0)


NOMINAL = Choice()


@dataclass(frozen=True)
class Launch:
    """A kernel with all that it is given.

    Attributes:
        grid: blocks in x, y and z.
        block: threads of a block in x, y and z.
        arguments: of each parameter, its bytes.
        shared_bytes: of the variable in shared memory whose size a launch decides.
        missing: bytes of the parameters that nobody has given; machine code that reads one is refused.

    Raises:
        Unsupported: no device accepts such a launch.
    """

    kernel: Kernel
    grid: Size
    block: Size
    arguments: tuple[bytes, ...]
    shared_bytes: int = 0
    choice: Choice = NOMINAL
    step_limit: int = STEP_LIMIT
    missing: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        name, threads = self.kernel.name, self.block[0] * self.block[1] * self.block[2]
        if min(*self.grid, *self.block) < 1 or threads > MOST_THREADS or self.grid[0] >= 1 << 31:
            raise Unsupported(
                f"{name}: grid={self.grid}, block={self.block}: no device accepts such a launch"
            )
        if self.kernel.block is not None and self.kernel.block != self.block:
            raise Unsupported(f"{name}: block={self.block}; it was compiled for {self.kernel.block}")
        if self.kernel.most_threads and threads > self.kernel.most_threads:
            raise Unsupported(
                f"{name}: block={self.block}; it was compiled for {self.kernel.most_threads} threads"
            )
        sizes = [p.size for p in self.kernel.parameters]
        if [len(a) for a in self.arguments] != sizes:
            raise Unsupported(
                f"{name}: arguments of {[len(a) for a in self.arguments]} bytes, expected {sizes}"
            )

    @property
    def threads(self) -> int:
        """Of one block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def blocks(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


class Engine(Protocol):
    """What runs a launch."""

    name: str

    def run(self, launch: Launch, memory: Memory) -> None:
        """Executes every thread; what the kernel stores is in memory afterwards.

        Raises:
            Unsupported: before anything was stored, if the kernel has what this engine does not execute.
            Fault: the kernel did what no correct one does.
        """


def packed(launch: Launch) -> bytes:
    """The parameters as a kernel finds them."""
    buffer = bytearray(launch.kernel.parameter_bytes)
    for parameter, value in zip(launch.kernel.parameters, launch.arguments, strict=True):
        buffer[parameter.offset : parameter.offset + parameter.size] = value
    return bytes(buffer)


def argument(values: Sequence[int], sizes: Sequence[int]) -> tuple[bytes, ...]:
    """Integers as parameters of so many bytes; negative ones in two's complement."""
    return tuple((v & ((1 << 8 * s) - 1)).to_bytes(s, "little") for v, s in zip(values, sizes, strict=True))
