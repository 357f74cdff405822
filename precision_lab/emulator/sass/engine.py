"""The engine: a launch's blocks, some at a time, each batch with its memory."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.launch import Launch
from precision_lab.emulator.memory import WRITTEN, Memory
from precision_lab.emulator.reference.engine import BATCH
from precision_lab.emulator.reference.machine import Machine
from precision_lab.emulator.reference.spaces import Order, Owners, block_space, global_space
from precision_lab.emulator.sass.code import SassKernel
from precision_lab.emulator.sass.lanes import LOCAL_BYTES, SassLanes
from precision_lab.emulator.sass.program import Program
from precision_lab.emulator.sass.schedule import Schedule


class SassEngine:
    """Executes machine code step by step, with every check of the plain interpreter."""

    name = "sass"

    def __init__(self) -> None:
        self._programs: dict[int, Program] = {}
        self._owners: WeakKeyDictionary[Memory, Owners] = WeakKeyDictionary()

    def run(self, launch: Launch, memory: Memory) -> None:
        """As `launch.Engine`, of a kernel of machine code.

        Raises:
            Unsupported: a thread has come to what is not emulated; something may have been stored by then.
        """
        kernel = launch.kernel
        if not isinstance(kernel, SassKernel):
            raise Unsupported(f"{kernel.name}: it is not machine code")
        program = self._programs.get(id(kernel))
        if program is None or program.kernel is not kernel:
            program = self._programs[id(kernel)] = Program(kernel)
        owners = self._owners.get(memory)
        if owners is None:
            owners = self._owners[memory] = Owners(memory.size)
        uses_local = any(i.opcode in ("LDL", "STL") for i in kernel.code)
        first_mark = owners.reserve(0)
        per = max(1, BATCH // (-(-launch.threads // 32) * 32))
        for first in range(0, launch.blocks, per):
            lanes = SassLanes(launch, first, min(per, launch.blocks - first))
            order = Order(lanes, owners.reserve(0))
            order.launch_first = first_mark
            shared, local = kernel.shared_bytes + launch.shared_bytes, LOCAL_BYTES * uses_local
            lanes.machine = Machine(
                b"", {},
                {
                    "global": global_space(memory, owners),
                    "shared": block_space("shared", 0, shared, lanes.count, marked=True),
                    "local": block_space("local", 0, local, lanes.n if local else 1, marked=False),
                },
                order,
            )  # fmt: skip
            # A register of which only a part is in use is spilled in part and filled as a whole.
            lanes.machine.space("local").states |= WRITTEN
            with np.errstate(all="ignore"):
                Schedule(program, lanes).run()
            owners.reserve(lanes.n * (order.stretch + 1))
