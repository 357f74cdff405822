"""What can be wrong with a kernel that is executed here: each has a name, a thread and a line of source."""

from __future__ import annotations

from precision_lab.emulator.ptx import Instruction
from precision_lab.exceptions import KernelError


class Fault(KernelError):
    """An access or a step that no correct kernel makes.

    Attributes:
        kind: "out_of_bounds", "misaligned", "unwritten_read", "race", "divergent_barrier" or "endless_loop".
        instruction: where it happened.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        instruction: Instruction,
        block: tuple[int, ...],
        thread: tuple[int, ...],
    ) -> None:
        super().__init__(kind, f"{message}, by thread {thread} of block {block}{where(instruction)}")
        self.instruction = instruction
        self.block, self.thread = block, thread


class Unsupported(KernelError):
    """Something in a program that is not emulated; the message names it and its line."""

    def __init__(self, message: str) -> None:
        super().__init__("unsupported_instruction", message)


def unsupported(instruction: Instruction, why: str = "") -> Unsupported:
    """The error for an instruction that is not emulated."""
    reason = f": {why}" if why else ""
    return Unsupported(f"the instruction {instruction.name} is not emulated{reason}{where(instruction)}")


def where(instruction: Instruction) -> str:
    """ ", at FILE:LINE (PTX line N: `text`)", for the end of a sentence; of machine code its address."""
    place = f" at {instruction.place}" if instruction.place else ""
    return f",{place} ({instruction.origin}: {instruction.text})"
