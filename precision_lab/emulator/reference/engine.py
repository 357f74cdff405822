"""The engine: a launch's blocks, some at a time, each batch with its memory."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator.launch import Launch, packed
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.ptx import Kernel
from precision_lab.emulator.reference.lanes import Lanes
from precision_lab.emulator.reference.machine import Machine
from precision_lab.emulator.reference.program import Program
from precision_lab.emulator.reference.schedule import Schedule
from precision_lab.emulator.reference.spaces import Order, Owners, block_space, global_space
from precision_lab.emulator.variables import place

BATCH = 1 << 15  # lanes at a time: their registers fit a second-level cache better than all of a large launch


class ReferenceEngine:
    """Executes a launch step by step, with every check."""

    name = "reference"

    def __init__(self) -> None:
        self._programs: dict[int, Program] = {}
        self._owners: WeakKeyDictionary[Memory, Owners] = WeakKeyDictionary()

    def run(self, launch: Launch, memory: Memory) -> None:
        """As `launch.Engine`."""
        kernel = launch.kernel
        program = self._programs.get(id(kernel))
        if program is None or program.kernel is not kernel:
            program = self._programs[id(kernel)] = self._program(kernel)
        owners = self._owners.get(memory)
        if owners is None:
            owners = self._owners[memory] = Owners(memory.size)
        named = [v for v in kernel.variables.values() if v.space in ("global", "const")]
        constants = {v.name: place(memory, v) for v in named}
        first_mark = owners.reserve(0)
        warped = -(-launch.threads // 32) * 32
        per = max(1, BATCH // warped)
        for blocks in self._batches(launch, per):
            lanes = self._lanes(launch, blocks)
            order = Order(lanes, owners.reserve(0))
            order.launch_first = first_mark
            shared, local = _sizes(launch)
            lanes.addresses = {**constants, **shared[1], **local[1]}
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
                self._schedule(program, lanes, memory).run()
            owners.reserve(lanes.n * (order.stretch + 1))

    def _program(self, kernel: Kernel) -> Program:
        return Program(kernel)

    def _batches(self, launch: Launch, per: int) -> Iterable[NDArray[np.int64]]:
        """Numbers of the blocks that are executed together, about so many at a time."""
        for first in range(0, launch.blocks, per):
            yield np.arange(first, min(first + per, launch.blocks))

    def _lanes(self, launch: Launch, blocks: NDArray[np.int64]) -> Lanes:
        return Lanes(launch, blocks)

    def _schedule(self, program: Program, lanes: Lanes, memory: Memory) -> Schedule:
        return Schedule(program, lanes)


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
