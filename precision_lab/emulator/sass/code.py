"""What a kernel of machine code consists of: records that the parser makes and the engine reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from precision_lab.emulator import ptx


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand of an instruction.

    Attributes:
        kind: "R" or "UR", a register of one thread or of a warp; "P" or "UP", a predicate; "c", a constant
            bank; "number"; "label"; "special"; "B", a register of convergence; "address"; "PR", all
            predicates.
        number: of the register, byte of the bank, address of the label; the bits of a number.
        name: of what is special.
        bank: of a constant.
        negative, absolute, inverted: what is done to the value first; `inverted` is ! or ~.
        parts: what stands behind a dot: "H0_H0" and the like.
        base, uniform: registers that an address, or an index into a bank, adds.
    """

    kind: str
    number: int = 0
    name: str = ""
    bank: int = 0
    negative: bool = False
    absolute: bool = False
    inverted: bool = False
    parts: tuple[str, ...] = ()
    base: Operand | None = None
    uniform: Operand | None = None

    @property
    def key(self) -> str:
        """Of a register, by which lanes keep it."""
        return f"{self.kind}{self.number}"

    @property
    def is_register(self) -> bool:
        return self.kind in ("R", "UR", "P", "UP")


# Registers that read as 0, or true, and take nothing.
EMPTY = -1


@dataclass(frozen=True, slots=True)
class SassInstruction(ptx.Instruction):
    """One instruction; `line` is its address.

    Attributes:
        arguments: its operands, in the order of the text.
        predicate: that must hold; None for always.
        immediate: bits 32 to 63 of the code, where a constant lies whose text says less than all of it.
    """

    arguments: tuple[Operand, ...] = ()
    predicate: Operand | None = None
    immediate: int = 0

    @property
    def origin(self) -> str:
        return f"machine code at 0x{self.line:04x}"


@dataclass(frozen=True)
class SassKernel(ptx.Kernel):
    """A kernel of machine code; to a launch it is like one of PTX.

    Attributes:
        code: by index.
        at: index of the instruction at an address.
        parameter_base: byte of constant bank 0 where parameters begin.
        constants: contents of the other banks.
        shared_base: address of the first byte of shared memory that is the kernel's.
    """

    code: tuple[SassInstruction, ...] = ()
    at: Mapping[int, int] = field(default_factory=dict)
    parameter_base: int = 0
    constants: Mapping[int, bytes] = field(default_factory=dict)
    shared_bytes: int = 0
    shared_base: int = 0


def pointer_name(parameter: str, offset: int) -> str:
    """What a pointer is called that lies at a byte of a parameter."""
    return f"{parameter}+{offset}" if offset else parameter
