"""Which registers are read again behind an instruction, before anything is written to them."""

from __future__ import annotations

from collections.abc import Iterable

from precision_lab.emulator.operands import read, results_of, sources_of, written
from precision_lab.emulator.ptx import Instruction, Kernel, Register, Symbol


def live_behind(kernel: Kernel, places: Iterable[int]) -> dict[int, frozenset[Register]]:
    """Of each of these instructions the registers that are read again behind it, on some way."""
    wanted = list(places)
    if not wanted:
        return {}
    # Sets of registers as bits of whole numbers: of large kernels there are thousands.
    numbers: dict[Register, int] = {}
    end = len(kernel.instructions)
    before = [0] * (end + 1)
    steps = [_step(i, numbers) for i in kernel.instructions]

    def behind(k: int) -> int:
        i = kernel.instructions[k]
        goes_on = before[k + 1] if i.guard is not None or i.opcode not in ("bra", "ret", "exit") else 0
        if i.opcode == "bra" and isinstance(i.operands[0], Symbol):
            goes_on |= before[kernel.labels.get(i.operands[0].name, end)]
        return goes_on

    changed = True
    while changed:
        changed = False
        for k in reversed(range(end)):
            reads, writes = steps[k]
            now = (behind(k) & ~writes) | reads
            changed |= now != before[k]
            before[k] = now
    registers = list(numbers)

    def named(bits: int) -> frozenset[Register]:
        return frozenset(register for n, register in enumerate(registers) if bits >> n & 1)

    return {k: named(behind(k)) for k in wanted}


def _step(i: Instruction, numbers: dict[Register, int]) -> tuple[int, int]:
    """What an instruction reads, and what holds nothing of before once it is executed."""
    given = (*sources_of(i), *([i.guard] if i.guard else []))
    reads = _bits((r for operand in given for r in read(operand)), numbers)
    writes = _bits((r for to in results_of(i) for r in written(to)), numbers)
    return reads, writes if i.guard is None else 0


def _bits(registers: Iterable[Register], numbers: dict[Register, int]) -> int:
    found = 0
    for register in registers:
        found |= 1 << numbers.setdefault(register, len(numbers))
    return found
