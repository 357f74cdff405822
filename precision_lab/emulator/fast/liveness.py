"""Which registers are read again behind an instruction, before anything is written to them."""

from __future__ import annotations

from collections.abc import Iterable

from precision_lab.emulator.operands import read, results_of, sources_of, written
from precision_lab.emulator.ptx import Instruction, Kernel, Register, Symbol


def live_behind(kernel: Kernel, places: Iterable[int]) -> dict[int, frozenset[Register]]:
    """Of each of these instructions the registers that are read again behind it, on some way."""
    end = len(kernel.instructions)
    before: list[frozenset[Register]] = [frozenset()] * (end + 1)
    steps = [_step(i) for i in kernel.instructions]

    def behind(k: int) -> frozenset[Register]:
        i = kernel.instructions[k]
        goes_on = (
            before[k + 1] if i.guard is not None or i.opcode not in ("bra", "ret", "exit") else frozenset()
        )
        if i.opcode == "bra" and isinstance(i.operands[0], Symbol):
            goes_on |= before[kernel.labels.get(i.operands[0].name, end)]
        return goes_on

    changed = True
    while changed:
        changed = False
        for k in reversed(range(end)):
            reads, writes = steps[k]
            now = (behind(k) - writes) | reads
            changed |= now != before[k]
            before[k] = now
    return {k: behind(k) for k in places}


def _step(i: Instruction) -> tuple[frozenset[Register], frozenset[Register]]:
    """What an instruction reads, and what holds nothing of before once it is executed."""
    given = (*sources_of(i), *([i.guard] if i.guard else []))
    reads = frozenset(r for operand in given for r in read(operand))
    writes = frozenset(r for to in results_of(i) for r in written(to))
    return reads, writes if i.guard is None else frozenset()
