"""Which registers are read again behind an instruction, before anything is written to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from precision_lab.emulator.ptx import Address, Instruction, Kernel, Not, Pair, Register, Symbol, Vector

_WITHOUT_RESULT = ("st", "bra", "ret", "exit", "bar", "barrier")


def registers(items: Iterable[object]) -> Iterator[Register]:
    """All registers in operands."""
    for item in items:
        if isinstance(item, Register):
            yield item
        elif isinstance(item, Not):
            yield item.register
        elif isinstance(item, Pair):
            yield from registers([item.first, item.second])
        elif isinstance(item, Vector):
            yield from registers(item.items)
        elif isinstance(item, Address):
            yield from registers([item.base])


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
    results = () if i.opcode in _WITHOUT_RESULT or not i.operands else i.operands[:1]
    if results and isinstance(results[0], Address):
        results = ()
    reads = frozenset(registers([*i.operands[len(results) :], i.guard]))
    writes = frozenset(registers(results)) if i.guard is None else frozenset()
    return reads, writes
