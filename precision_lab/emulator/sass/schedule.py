"""Which threads execute which instruction next.

Every thread has a place in the program, and those at the smallest one go on together. BSSY names a point
where the threads that are there now meet again; a thread that gets to it (BSYNC) waits for the others, but
for those that have ended or left (BREAK). WARPSYNC waits for the threads of a mask, BAR for all of the block.
"""

from __future__ import annotations

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.launch import WARP
from precision_lab.emulator.reference.lanes import Array, Mask
from precision_lab.emulator.reference.spaces import fault
from precision_lab.emulator.sass.code import SassInstruction
from precision_lab.emulator.sass.lanes import SassLanes
from precision_lab.emulator.sass.program import Program

# What a thread waits for: nothing, all of its block, those of a mask, or those of a register of convergence.
_NOTHING, _BLOCK, _WARP, _FIRST = 0, 1, 2, 3
_BIT = np.uint64(1) << np.arange(WARP, dtype=np.uint64)


class Schedule:
    """The threads of a batch, and where each is."""

    def __init__(self, program: Program, lanes: SassLanes) -> None:
        self._program, self._lanes = program, lanes
        self._code, self._at = program.kernel.code, program.kernel.at
        self._end = len(self._code)
        self._place = np.zeros(lanes.n, np.int64)
        if lanes.real is not None:
            self._place[~lanes.real] = self._end
        self._waits = np.zeros(lanes.n, np.int64)
        self._mask = np.zeros(lanes.n, np.uint64)  # of the threads that it waits for
        self._meeting: dict[int, Array] = {}  # of each register of convergence, who meets there
        self._spent = 0

    def run(self) -> None:
        while True:
            ready = (self._waits == _NOTHING) & (self._place < self._end)
            if not ready.any():
                if not self._waits.any():
                    return
                self._release()
                continue
            at = int(self._place[ready].min())
            mask = ready & (self._place == at)
            self._go(at, None if mask.all() else mask)

    def _go(self, at: int, mask: Mask) -> None:
        """Executes from here to the next instruction of control, or to where others may come in."""
        lanes = self._lanes
        while at < self._end:
            i = self._code[at]
            live = self._guarded(i, mask)
            self._count(i, mask)
            step = self._program.steps[at]
            if step is None:
                self._control(at, i, mask, live)
                return
            if live is None or live.any():
                step(lanes, live)
            at += 1
            if mask is not None and at in self._program.targets:
                break
        self._move(mask, at)

    def _move(self, mask: Mask, at: int) -> None:
        if mask is None:
            self._place[:] = at
        else:
            self._place[mask] = at

    def _guarded(self, i: SassInstruction, mask: Mask) -> Mask:
        if i.predicate is None:
            return mask
        p = self._lanes.spread(self._lanes.truth(i, i.predicate))
        return p if mask is None else mask & p

    def _count(self, i: SassInstruction, mask: Mask) -> None:
        self._spent += 1
        if self._spent > (limit := self._lanes.launch.step_limit):
            lane = 0 if mask is None else int(np.flatnonzero(mask)[0])
            raise fault(self._lanes, i, "endless_loop", f"no end after {limit} instructions", lane)

    def _control(self, at: int, i: SassInstruction, mask: Mask, live: Mask) -> None:
        lanes = self._lanes
        here = np.ones(lanes.n, bool) if mask is None else mask
        taken = here if live is None else live
        self._place[here] = at + 1
        if i.opcode == "BRA":
            self._branch(i, taken)
        elif i.opcode == "EXIT":
            self._place[taken] = self._end
        elif i.opcode == "CALL":
            if i.modifiers[:1] != ("REL",) or i.arguments[-1].kind != "label":
                raise unsupported(i)
            self._place[taken] = self._index(i, i.arguments[-1].number)
        elif i.opcode == "RET":
            self._return(i, taken)
        elif i.opcode == "BSSY":
            bits = np.where(taken, np.tile(_BIT, lanes.n // WARP), np.uint64(0)).reshape(-1, WARP)
            key = i.arguments[0].number
            old = self._meeting.get(key, np.zeros(lanes.n, np.uint64))
            self._meeting[key] = np.where(taken, np.repeat(bits.sum(1, dtype=np.uint64), WARP), old)
        elif i.opcode == "BREAK":
            key = i.arguments[-1].number
            if len(i.arguments) > 1:
                taken = taken & lanes.spread(lanes.truth(i, i.arguments[0]))
            bits = np.where(taken, np.tile(_BIT, lanes.n // WARP), np.uint64(0)).reshape(-1, WARP)
            left = np.repeat(bits.sum(1, dtype=np.uint64), WARP)
            self._meeting[key] = self._meeting[key] & ~left
        elif i.opcode == "BSYNC":
            key = i.arguments[-1].number
            self._wait(at, taken, _FIRST + key, self._meeting[key])
        elif i.opcode == "WARPSYNC":
            whole = np.full(1, 0xFFFFFFFF, np.uint64)
            operands = [o for o in i.arguments if o.kind != "label"]
            if operands and not i.modifiers:
                whole = lanes.integer(i, operands[-1]).astype(np.uint64)
            self._wait(at, taken, _WARP, lanes.spread(whole))
        else:
            if not i.modifiers[:1] == ("SYNC",) or any(o.number for o in i.arguments):
                raise unsupported(i)
            self._wait(at, taken, _BLOCK, self._mask)

    def _wait(self, at: int, taken: Array, what: int, mask: Array) -> None:
        self._place[taken] = at
        self._waits[taken] = what
        self._mask[taken] = mask[taken]

    def _branch(self, i: SassInstruction, taken: Array) -> None:
        *conditions, target = i.arguments
        if target.kind != "label" or set(i.modifiers) - {"U", "CONV", "DIV"}:
            raise unsupported(i)
        if "DIV" in i.modifiers:  # for warps that are not together, for whom there is another way
            whole = taken.reshape(-1, WARP).all(1)
            taken = taken & ~np.repeat(whole, WARP)
        else:
            for o in conditions:
                taken = taken & self._lanes.spread(self._lanes.truth(i, o))
        self._place[taken] = self._index(i, target.number)

    def _return(self, i: SassInstruction, taken: Array) -> None:
        lanes = self._lanes
        if i.modifiers[:1] != ("REL",):
            raise unsupported(i)
        register, base = i.arguments
        where = lanes.spread(lanes.integer64(i, register).astype(np.int64) + base.number)
        for address in np.unique(where[taken]).tolist():
            self._place[taken & (where == address)] = self._index(i, address)

    def _index(self, i: SassInstruction, address: int) -> int:
        """Of the instruction at an address, or of the next one: what only fills space is left out."""
        while address not in self._at:
            address += 16
            if address > self._code[-1].line:
                raise unsupported(i, f"a jump to 0x{address:x}, where no instruction is")
        return self._at[address]

    def _release(self) -> None:
        """Lets those go on for whom all have come.

        Raises:
            Fault: nobody can.
        """
        lanes = self._lanes
        ended = self._place >= self._end
        free = np.zeros(lanes.n, bool)
        bits = np.tile(_BIT, lanes.n // WARP)
        for what in np.unique(self._waits[self._waits != _NOTHING]).tolist():
            waiting = self._waits == what
            if what == _BLOCK:
                whole = (waiting | ended).reshape(lanes.count, -1).all(1)
                released = waiting & np.repeat(whole, lanes.per_block)
                lanes.machine.order.barrier(whole & waiting.reshape(lanes.count, -1).any(1))
            else:
                come = np.where(waiting | ended, bits, np.uint64(0)).reshape(-1, WARP).sum(1, dtype=np.uint64)
                released = waiting & ((self._mask & ~np.repeat(come, WARP)) == 0)
                lanes.machine.order.warp_barrier(released.reshape(-1, WARP).any(1))
            free |= released
        if not free.any():
            lane = int(np.flatnonzero(self._waits)[0])
            i = self._code[int(self._place[lane])]
            words = "a barrier that a part of the threads reaches, the others never do"
            raise fault(lanes, i, "divergent_barrier", words, lane)
        self._waits[free] = _NOTHING
        self._place[free] += 1
