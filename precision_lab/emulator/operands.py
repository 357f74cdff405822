"""Which registers an instruction reads, and which it writes."""

from __future__ import annotations

from precision_lab.emulator.ptx import Address, Instruction, Not, Operand, Pair, Register, Vector

_WITHOUT_RESULT = ("bra", "ret", "exit", "bar", "barrier")


def results_of(i: Instruction) -> tuple[Operand, ...]:
    """The operands that an instruction writes: the first one, or none, as where that is an address."""
    none = i.opcode in _WITHOUT_RESULT or (i.operands and isinstance(i.operands[0], Address))
    return () if none else i.operands[:1]


def sources_of(i: Instruction) -> tuple[Operand, ...]:
    """The operands that it reads; its guard is none of them."""
    return i.operands[len(results_of(i)) :]


def written(to: Operand) -> list[Register]:
    """The registers of a destination: several of a pair or a vector."""
    if isinstance(to, Pair):
        return [*written(to.first), *written(to.second)]
    if isinstance(to, Vector):
        return [r for item in to.items for r in written(item)]
    return [to] if isinstance(to, Register) else []


def read(operand: Operand) -> list[Register]:
    """The registers of a source, that of an address among them."""
    if isinstance(operand, Not):
        return [operand.register]
    if isinstance(operand, Address):
        return read(operand.base)
    return written(operand)


def registers_of(i: Instruction) -> list[Register]:
    """All that an instruction names, its guard's among them."""
    return [r for operand in (*i.operands, *([i.guard] if i.guard else [])) for r in read(operand)]
