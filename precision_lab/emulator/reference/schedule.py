"""The scheduler: which threads execute which instruction next.

Every thread has a place in the program. Those at the smallest one go on together, so that threads that took
different branches meet again where the branches do. A thread at a barrier waits until all of its block are
there.
"""

from __future__ import annotations

import numpy as np

from precision_lab.emulator.ptx import Instruction, Not
from precision_lab.emulator.reference.lanes import Lanes, Mask
from precision_lab.emulator.reference.program import Program
from precision_lab.emulator.reference.spaces import fault


class Schedule:
    """The threads of a batch, and where each is."""

    def __init__(self, program: Program, lanes: Lanes) -> None:
        self._program, self._lanes = program, lanes
        self._end = len(program.steps)
        self._place = np.zeros(lanes.n, np.int64)
        if lanes.real is not None:
            self._place[~lanes.real] = self._end
        self._waiting = np.zeros(lanes.n, bool)
        self._spent = 0

    def run(self) -> None:
        together: int | None = 0 if self._lanes.real is None else None  # where all lanes are, if they are
        while True:
            if together is not None:
                if together >= self._end:
                    return
                together = self._go(together, None)
                continue
            ready = np.where(self._waiting, self._end, self._place)
            at = int(ready.min())
            if at >= self._end:
                if not self._waiting.any():
                    return
                self._release(stuck=True)
                continue
            mask = ready == at
            if mask.all():
                together = at
            else:
                self._go(at, mask)
                together = self._meeting()

    def _meeting(self) -> int | None:
        first = int(self._place[0])
        return first if not self._waiting.any() and (self._place == first).all() else None

    def _go(self, at: int, mask: Mask) -> int | None:
        """Executes from here to the next branch, barrier, or place where others may come in.

        Args:
            mask: who is here; None for every lane.

        Returns:
            Where all lanes are then; None where they are at different places, which are noted.
        """
        program, lanes = self._program, self._lanes
        while True:
            i = program.kernel.instructions[at]
            live = self.guarded(i, mask)
            if at in program.jumps:
                return self._jump(at, mask, live)
            if at in program.barriers:
                return self._arrive(at, mask, live)
            step = program.steps[at]
            assert step is not None
            if live is None or live.any():
                step(lanes, live)
            self._count(i, mask)
            at += 1
            if at >= self._end or (mask is not None and at in program.targets):
                if mask is None:
                    return at
                self._place[mask] = at
                return None

    def guarded(self, i: Instruction, mask: Mask) -> Mask:
        """Who of those that are here executes an instruction."""
        if i.guard is None:
            return mask
        register = i.guard.register if isinstance(i.guard, Not) else i.guard
        p = self._lanes.read(i, register, 1)
        p = self._lanes.spread(~p if isinstance(i.guard, Not) else p)
        return p if mask is None else mask & p

    def _jump(self, at: int, mask: Mask, live: Mask) -> int | None:
        to = self._program.jumps[at]
        self._count(self._program.kernel.instructions[at], mask)
        if mask is None:
            if live is None or live.all():
                return to
            if not live.any():
                return at + 1
            self._place[:] = at + 1
            self._place[live] = to
            return None
        assert live is not None
        self._place[mask] = at + 1
        self._place[live] = to
        return None

    def _count(self, i: Instruction, mask: Mask) -> None:
        """
        Raises:
            Fault: more instructions than a launch may take.
        """
        self._spent += 1
        if self._spent > self._lanes.launch.step_limit:
            lane = 0 if mask is None else int(np.flatnonzero(mask)[0])
            limit = self._lanes.launch.step_limit
            raise fault(self._lanes, i, "endless_loop", f"no end after {limit} instructions", lane)

    # -- barriers -------------------------------------------------------------------------------

    def _arrive(self, at: int, mask: Mask, live: Mask) -> int | None:
        lanes = self._lanes
        self._count(self._program.kernel.instructions[at], mask)
        if live is None and mask is None:
            lanes.machine.order.barrier(np.arange(lanes.count))
            return at + 1
        here = np.ones(lanes.n, bool) if mask is None else mask
        takes = here if live is None else live
        self._place[here] = at + 1
        self._place[takes] = at  # a waiting lane's place is its barrier
        self._waiting |= takes
        self._release(stuck=False)
        return self._meeting() if not self._waiting.any() else None

    def _release(self, *, stuck: bool) -> None:
        """Lets the blocks go on all of whose threads wait at one barrier.

        Raises:
            Fault: no thread can go on, since others of a block wait elsewhere or have ended.
        """
        lanes = self._lanes
        waiting = self._waiting.reshape(lanes.count, -1)
        place = self._place.reshape(lanes.count, -1)
        real = np.ones_like(waiting) if lanes.real is None else lanes.real.reshape(lanes.count, -1)
        first = np.where(waiting, place, self._end).min(1)
        whole = (~real | (waiting & (place == first[:, None]))).all(1) & waiting.any(1)
        if not whole.any():
            if stuck:
                lane = int(np.flatnonzero(self._waiting)[0])
                i = self._program.kernel.instructions[int(self._place[lane])]
                words = "a barrier that a part of the block's threads reaches, the others never do"
                raise fault(lanes, i, "divergent_barrier", words, lane)
            return
        lanes.machine.order.barrier(whole)
        free = np.repeat(whole, lanes.per_block) & self._waiting
        self._waiting &= ~free
        self._place[free] += 1
