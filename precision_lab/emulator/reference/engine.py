"""The scheduler: which threads execute which instruction next.

Every thread has a place in the program. Those at the smallest one go on together, so that threads that took
different branches meet again where the branches do. A thread at a barrier waits until all of its block are
there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.launch import Launch, packed
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.ptx import Instruction, Integer, Kernel, Not, Symbol
from precision_lab.emulator.reference import (
    accesses,
    bits,
    comparisons,
    conversions,
    floats,
    integers,
    moves,
    signs,
    warps,
)
from precision_lab.emulator.reference.approximations import approximate
from precision_lab.emulator.reference.lanes import Lanes, Mask
from precision_lab.emulator.reference.machine import Machine
from precision_lab.emulator.reference.spaces import Order, Owners, block_space, fault, global_space
from precision_lab.emulator.reference.step import Builder, Step

BATCH = 1 << 15  # lanes at a time: their registers fit a second-level cache better than all of a large launch

_BY_NAME: Mapping[str, Builder] = {
    "fma": floats.fma, "copysign": signs.copysign, "testp": signs.testp, "mad": integers.product,
    "sad": integers.difference, "rem": integers.quotient, "and": bits.bitwise, "or": bits.bitwise,
    "xor": bits.bitwise, "not": bits.bitwise, "cnot": bits.bitwise, "lop3": bits.lop3,
    "shl": bits.shift, "shr": bits.shift, "shf": bits.funnel, "bfe": bits.field,
    "bfi": bits.field, "popc": bits.counting, "clz": bits.counting, "bfind": bits.counting,
    "brev": bits.counting, "prmt": bits.permute, "mov": moves.move, "selp": moves.select,
    "slct": moves.select, "setp": comparisons.setp, "set": comparisons.set_, "cvt": conversions.cvt,
    "ld": accesses.load, "ldu": accesses.load, "st": accesses.store, "atom": accesses.atomic,
    "red": accesses.atomic, "cvta": accesses.convert_address, "isspacep": accesses.is_space,
    "createpolicy": accesses.cache_policy, "membar": accesses.nothing, "fence": accesses.nothing,
    "prefetch": accesses.nothing, "prefetchu": accesses.nothing, "applypriority": accesses.nothing,
    "griddepcontrol": accesses.nothing, "nanosleep": accesses.nothing, "pmevent": accesses.nothing,
    "shfl": warps.shuffle, "vote": warps.vote, "activemask": warps.active, "elect": warps.elect,
    "redux": warps.reduce, "ldmatrix": warps.matrix, "stmatrix": warps.matrix,
}  # fmt: skip
# What is an operation of integers and of numbers, by type.
_FLOATING: Mapping[str, Builder] = {
    "add": floats.add, "sub": floats.sub, "mul": floats.mul, "neg": signs.sign, "abs": signs.sign,
    "min": signs.extreme, "max": signs.extreme, "div": floats.div, "sqrt": floats.sqrt, "rcp": floats.rcp,
}  # fmt: skip
_INTEGER: Mapping[str, Builder] = {
    "add": integers.sums, "sub": integers.sums, "mul": integers.product, "neg": integers.sign,
    "abs": integers.sign, "min": integers.extreme, "max": integers.extreme, "div": integers.quotient,
}  # fmt: skip
_APPROXIMATE = ("ex2", "lg2", "rcp", "rsqrt", "sqrt", "tanh", "sin", "cos", "div")
_LEAVES = ("ret", "exit")


def _build(i: Instruction, index: int) -> Step:
    """
    Raises:
        Unsupported: the instruction is not emulated.
    """
    if i.opcode in _APPROXIMATE and ("approx" in i.modifiers or "full" in i.modifiers):
        return approximate(i, index)
    if i.opcode in ("bar", "barrier") and i.modifiers[:1] == ("warp",):
        return warps.warp_barrier(i)
    builder = _BY_NAME.get(i.opcode)
    if builder is None:
        builder = (_FLOATING if "f" in i.type else _INTEGER).get(i.opcode)
    if builder is None or (i.opcode == "fma" and "f" not in i.type):
        raise unsupported(i)
    return builder(i)


class _Program:
    """A kernel's instructions as steps; branches and barriers are the scheduler's."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.targets = set(kernel.labels.values())
        self.jumps: dict[int, int] = {}  # branch → where to; the end for ret and exit
        self.barriers: set[int] = set()
        self.steps: list[Step | None] = []
        end = len(kernel.instructions)
        for at, i in enumerate(kernel.instructions):
            if i.opcode == "bra":
                if set(i.modifiers) - {"uni"} or not isinstance(i.operands[0], Symbol):
                    raise unsupported(i)
                self.jumps[at] = kernel.labels[i.operands[0].name]
            elif i.opcode in _LEAVES:
                self.jumps[at] = end
            elif _is_barrier(i):
                self.barriers.add(at)
            else:
                self.steps.append(_build(i, at))
                continue
            self.steps.append(None)


def _is_barrier(i: Instruction) -> bool:
    """Whether all threads of a block meet here.

    Raises:
        Unsupported: it is a barrier of some of them, or one that threads only arrive at.
    """
    if i.opcode not in ("bar", "barrier") or i.modifiers[:1] == ("warp",):
        return False
    kinds = (("sync",), ("cta", "sync"), ("sync", "aligned"), ("cta", "sync", "aligned"))
    if i.modifiers not in kinds or len(i.operands) != 1 or not isinstance(i.operands[0], Integer):
        raise unsupported(i)
    return True


class ReferenceEngine:
    """Executes a launch step by step, with every check."""

    name = "reference"

    def __init__(self) -> None:
        self._programs: dict[int, _Program] = {}
        self._owners: dict[int, Owners] = {}
        self._constants: dict[int, dict[str, int]] = {}

    def run(self, launch: Launch, memory: Memory) -> None:
        """As `launch.Engine`."""
        kernel = launch.kernel
        program = self._programs.get(id(kernel))
        if program is None or program.kernel is not kernel:
            program = self._programs[id(kernel)] = _Program(kernel)
            self._constants[id(kernel)] = _constants(kernel, memory)
        owners = self._owners.setdefault(memory.base, Owners(memory.size))
        first_mark = owners.reserve(0)
        warped = -(-launch.threads // 32) * 32
        per = max(1, BATCH // warped)
        for first in range(0, launch.blocks, per):
            lanes = Lanes(launch, first, min(per, launch.blocks - first))
            order = Order(lanes, owners.reserve(0))
            order.launch_first = first_mark
            shared, local = _sizes(launch)
            lanes.addresses = {**self._constants[id(kernel)], **shared[1], **local[1]}
            lanes.machine = Machine(
                packed(launch), {p.name: p.offset for p in kernel.parameters},
                {
                    "global": global_space(memory, owners),
                    "shared": block_space("shared", 0, shared[0], lanes.count, marked=True),
                    "local": block_space("local", 0, local[0], lanes.n if local[0] else 1, marked=False),
                },
                order,
            )  # fmt: skip
            with np.errstate(all="ignore"):
                _Schedule(program, lanes).run()
            owners.reserve(lanes.n * (order.stretch + 1))


def _sizes(launch: Launch) -> tuple[tuple[int, dict[str, int]], tuple[int, dict[str, int]]]:
    """Bytes of shared and of local memory, and where their variables lie."""
    found = []
    for space in ("shared", "local"):
        at, places = 0, {}
        for variable in launch.kernel.variables.values():
            if variable.space == space:
                at = -(-at // max(variable.align, 1)) * max(variable.align, 1)
                places[variable.name] = at
                at += variable.size or (launch.shared_bytes if space == "shared" else 0)
        found.append((at, places))
    return found[0], found[1]


def _constants(kernel: Kernel, memory: Memory) -> dict[str, int]:
    """Addresses of the module's own variables, in the device's memory."""
    found = {}
    for variable in kernel.variables.values():
        if variable.space in ("global", "const"):
            content = np.zeros(max(variable.size, 1), np.uint8)
            content[: len(variable.initial)] = np.frombuffer(variable.initial, np.uint8)
            found[variable.name] = memory.put(content)
    return found


class _Schedule:
    """The threads of a batch, and where each is."""

    def __init__(self, program: _Program, lanes: Lanes) -> None:
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
            live = self._guarded(i, mask)
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

    def _guarded(self, i: Instruction, mask: Mask) -> Mask:
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
