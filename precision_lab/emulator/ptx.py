"""What a PTX program consists of: records that the parser makes and the engines read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Register:
    """A register of one thread.

    Attributes:
        name: unique in its kernel; one declared in an inner scope has the scope's number behind it.
        bits: 1 for a predicate.
    """

    name: str
    bits: int


@dataclass(frozen=True, slots=True)
class Special:
    """A read-only register that the hardware fills, such as %tid.x."""

    name: str


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer constant, of any size until an instruction takes it."""

    value: int


@dataclass(frozen=True, slots=True)
class Float:
    """A floating-point constant: by its bits where it is written so (0f…, 0d…), else a decimal number.

    Attributes:
        width: 32 or 64 for one written by its bits; 0 for a decimal number, of the type of the instruction.
    """

    bits: int
    width: int
    value: float


@dataclass(frozen=True, slots=True)
class Symbol:
    """The address of a variable, or the name of a kernel parameter or label."""

    name: str


@dataclass(frozen=True, slots=True)
class Address:
    """[base + offset]."""

    base: Register | Symbol | Integer
    offset: int


@dataclass(frozen=True, slots=True)
class Vector:
    """{a, b, …}; a single register in braces is one, too."""

    items: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """p|q, two destinations."""

    first: Operand
    second: Operand


@dataclass(frozen=True, slots=True)
class Not:
    """!p, a predicate read as its contrary."""

    register: Register


@dataclass(frozen=True, slots=True)
class Sink:
    """_, a destination that is not wanted."""


Operand: TypeAlias = "Register | Special | Integer | Float | Symbol | Address | Vector | Pair | Not | Sink"


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the source that the compiler says an instruction comes from."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        opcode: up to the first dot.
        modifiers: what stands between dots behind it, types included, in order.
        operands: destinations first.
        guard: the predicate that must hold, or its contrary; None for always.
        line: in the PTX.
        place: in the kernel's source; None where the compiler says nothing.
        text: as it stands in the PTX.
    """

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | Not | None
    line: int
    place: Place | None
    text: str

    @property
    def name(self) -> str:
        """The opcode with its modifiers."""
        return ".".join((self.opcode, *self.modifiers))

    @property
    def type(self) -> str:
        """The last modifier, which in most instructions is the type of the operation."""
        return self.modifiers[-1] if self.modifiers else ""

    @property
    def origin(self) -> str:
        """Where in the program it stands, in words."""
        return f"PTX line {self.line}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a kernel: `size` bytes at `offset` of what a launch hands over."""

    name: str
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in a state space.

    Attributes:
        space: "shared", "global", "const" or "local".
        size: in bytes; 0 for one whose size a launch decides.
        initial: what it holds at first; empty for nothing.
    """

    name: str
    space: str
    align: int
    size: int
    initial: bytes = b""


@dataclass(frozen=True)
class Kernel:
    """An entry of a program.

    Attributes:
        labels: index of the instruction that a label stands before; `len(instructions)` for the end.
        variables: all that its instructions may name, the module's too.
        block: threads in x, y and z that it must be launched with; None for any.
        most_threads: in a block; 0 for any.
    """

    name: str
    parameters: tuple[Parameter, ...]
    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]
    variables: Mapping[str, Variable] = field(default_factory=dict)
    block: tuple[int, int, int] | None = None
    most_threads: int = 0

    @property
    def parameter_bytes(self) -> int:
        return max((p.offset + p.size for p in self.parameters), default=0)


@dataclass(frozen=True)
class Module:
    """A parsed PTX file.

    Attributes:
        version: of the instruction set, such as (9, 4).
        target: such as "sm_90a".
    """

    version: tuple[int, int]
    target: str
    kernels: Mapping[str, Kernel]
