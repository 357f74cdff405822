"""An engine that counts what a few blocks of a launch execute, and which memory they touch."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator.anchors import bytes_of, kind_of
from precision_lab.emulator.control_flow import END, leading_back
from precision_lab.emulator.executed import Evidence
from precision_lab.emulator.launch import WARP, Launch
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.ptx import Address, Instruction, Kernel
from precision_lab.emulator.reference.engine import ReferenceEngine
from precision_lab.emulator.reference.lanes import Lanes, Mask
from precision_lab.emulator.reference.machine import SHARED_WINDOW
from precision_lab.emulator.reference.program import Program
from precision_lab.emulator.reference.schedule import Schedule
from precision_lab.emulator.reference.step import Step

SECTOR = 32  # bytes that the memory of a GPU moves at least
_LANES = 1 << 12  # at about so many threads, of the blocks that are executed
_FEWEST, _MOST = 3, 8  # of these blocks, where there are so many
# Operands from the reciprocal of this to this: their quotient is far from where it is no normal number.
_ORDINARY = {"f32": 2.0**40, "f64": 2.0**400}
_ROUNDED = ("div", "rcp", "sqrt")
_LOADS, _STORES = ("ld", "ldu"), ("st", "atom", "red")


class CountingEngine(ReferenceEngine):
    """Executes the first and the last block of a launch and a few between, which stand for all of these.

    Attributes:
        evidence: of the last launch, all blocks.
        read, written: bytes of global memory in the last launch, each sector counted once.
    """

    name = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.evidence = Evidence(0.0)
        self.read = self.written = 0.0

    def run(self, launch: Launch, memory: Memory) -> None:
        """As `launch.Engine`, for a part of the blocks; the others store nothing."""
        self._counts = _Counts(sampled(launch.blocks, launch.threads), launch.blocks)
        super().run(launch, memory)
        program = self._programs[id(launch.kernel)]
        assert isinstance(program, _Program)
        self.evidence = self._counts.evidence(launch, program.branches_back)
        self.read, self.written = (self._counts.bytes(of) for of in ("read", "written"))

    def _batches(self, launch: Launch, per: int) -> list[NDArray[np.int64]]:
        return [self._counts.blocks]

    def _program(self, kernel: Kernel) -> Program:
        return _Program(kernel, self)

    def _schedule(self, program: Program, lanes: Lanes, memory: Memory) -> Schedule:
        return _Schedule(program, lanes, self._counts)

    def rare(self, live: NDArray[np.bool_]) -> None:
        """Notes the warps with a thread among these."""
        self._counts.rare += self._counts.warps(live)

    def touched(self, lanes: Lanes, i: Instruction, address: Address, live: Mask) -> None:
        """Notes the sectors that live threads access."""
        self._counts.touch(lanes, i, address, live)


def sampled(blocks: int, threads: int) -> NDArray[np.int64]:
    """Numbers of the blocks that are executed: the first, the last, and some evenly between."""
    count = min(blocks, max(_FEWEST, min(_MOST, _LANES // threads)))
    return np.unique(np.linspace(0, blocks - 1, count).round().astype(np.int64))


class _Counts:
    def __init__(self, blocks: NDArray[np.int64], of: int) -> None:
        self.blocks = blocks
        # The first and the last stand for themselves: they may have more or less to do than others.
        self.weights = np.ones(blocks.size)
        if blocks.size > 2:
            self.weights[1:-1] = (of - 2) / (blocks.size - 2)
        self.executions: dict[int, float] = defaultdict(float)  # by id of the instruction
        self.loops = self.rare = 0.0
        self.divergent = False
        self._per_warp: NDArray[Any] = np.empty(0)
        self._sectors: dict[str, list[NDArray[np.int64]]] = {"read": [], "written": []}

    def begin(self, lanes: Lanes) -> None:
        self._per_warp = np.repeat(self.weights, lanes.per_block // WARP)

    def warps(self, live: Mask) -> float:
        """How many warps have a thread among these, in the whole launch."""
        if live is None:
            return float(self._per_warp.sum())
        return float(self._per_warp[live.reshape(-1, WARP).any(1)].sum())

    def touch(self, lanes: Lanes, i: Instruction, address: Address, live: Mask) -> None:
        lane = np.arange(lanes.n) if live is None else np.flatnonzero(live)
        base = lanes.spread(lanes.read(i, address.base, 64))[lane].astype(np.int64) + address.offset
        size = bytes_of(i)
        if "global" not in i.modifiers:
            inside = base < SHARED_WINDOW
            base, lane = base[inside], lane[inside]
        first, last = base // SECTOR, (base + size - 1) // SECTOR
        block = lanes.block[lane]
        for step in range(int((last - first).max(initial=0)) + 1):
            sector = np.minimum(first + step, last)
            self._sectors["read" if i.opcode in _LOADS else "written"].append(
                np.unique(sector * self.blocks.size + block)
            )

    def bytes(self, of: str) -> float:
        """What two of the blocks touch, all are taken to: it is counted once."""
        parts = self._sectors[of]
        if not parts:
            return 0.0
        sector, block = np.divmod(np.unique(np.concatenate(parts)), self.blocks.size)
        _, first, count = np.unique(sector, return_index=True, return_counts=True)
        return float(SECTOR * np.where(count > 1, 1.0, self.weights[block[first]]).sum())

    def evidence(self, launch: Launch, branches_back: int) -> Evidence:
        counts: dict[tuple[str, str], float] = defaultdict(float)
        for i in launch.kernel.instructions:
            found = kind_of(i)
            if found is not None:
                counts[found[0]] += found[1] * self.executions.get(id(i), 0.0)
        warps = launch.blocks * -(-launch.threads // WARP)
        return Evidence(float(warps), dict(counts), self.loops, branches_back, self.rare, self.divergent)


class _Program(Program):
    def __init__(self, kernel: Kernel, engine: CountingEngine) -> None:
        self._engine = engine
        super().__init__(kernel)
        back = back_ways(self)
        self.branches_back = len(back)
        # Of each instruction: whether it is a branch, and whether the way to the next or its jump leads back.
        self.places = {
            id(i): (at in self.jumps, (at, at + 1) in back, (at, self.jumps.get(at, END)) in back)
            for at, i in enumerate(kernel.instructions)
        }

    def step(self, i: Instruction, index: int) -> Step:
        plain, engine = super().step(i, index), self._engine
        if i.opcode in _ROUNDED and "rn" in i.modifiers and i.type in _ORDINARY:
            return self._rounded(i, plain)
        address = next((o for o in i.operands if isinstance(o, Address)), None)
        generic = not {"shared", "shared::cta", "local", "const", "param"} & set(i.modifiers)
        if address is None or not generic or i.opcode not in (*_LOADS, *_STORES):
            return plain

        def step(lanes: Lanes, live: Mask) -> None:
            engine.touched(lanes, i, address, live)
            plain(lanes, live)

        return step

    def _rounded(self, i: Instruction, plain: Step) -> Step:
        """A division or a root whose operands are looked at."""
        bits, most = (32, _ORDINARY["f32"]) if i.type == "f32" else (64, _ORDINARY["f64"])

        def step(lanes: Lanes, live: Mask) -> None:
            rare = np.zeros(lanes.n, bool)
            for operand in i.operands[1:]:
                size = np.abs(lanes.float(i, operand, bits).astype(np.float64))
                rare |= lanes.spread(~((size >= 1.0 / most) & (size <= most)))
            self._engine.rare(rare if live is None else rare & live)
            plain(lanes, live)

        return step


class _Schedule(Schedule):
    def __init__(self, program: Program, lanes: Lanes, counts: _Counts) -> None:
        super().__init__(program, lanes)
        assert isinstance(program, _Program)
        self._counts, self._places = counts, program.places
        counts.begin(lanes)

    def guarded(self, i: Instruction, mask: Mask) -> Mask:
        live, counts = super().guarded(i, mask), self._counts
        warps = counts.warps(live)
        counts.executions[id(i)] += warps
        jumps, falls_back, jumps_back = self._places[id(i)]
        if jumps and live is not None:
            here = np.ones(self._lanes.n, bool) if mask is None else mask
            goes, stays = live.reshape(-1, WARP).any(1), (here & ~live).reshape(-1, WARP).any(1)
            counts.divergent |= bool((goes & stays).any())
            if falls_back:
                counts.loops += counts.warps(here & ~live)
        elif falls_back and not jumps:
            counts.loops += counts.warps(mask)
        if jumps_back:
            counts.loops += warps
        return live


def back_ways(program: Program) -> set[tuple[int, int]]:
    """From which instruction to which a loop is gone through again; they need not stand in that order."""
    end = len(program.kernel.instructions)
    ways: dict[int, list[int]] = {}
    for at, i in enumerate(program.kernel.instructions):
        to = [program.jumps[at]] if at in program.jumps else []
        if at not in program.jumps or i.guard is not None:
            to.append(at + 1)
        ways[at] = [k if k < end else END for k in to]
    return leading_back(0, ways) if end else set()
