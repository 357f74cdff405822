"""Which engine executes a launch: machine code has its own, and of PTX there are two.

The fast engine runs what it can, the reference engine the rest: kernels whose threads communicate. The first
launch of every kernel is executed by both, from the same memory, and their results are compared: one that
differs by a bit is the lab's own fault and ends the measurement. The reference engine also sees races, which
the fast one does not look for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.launch import Engine, Launch
from precision_lab.emulator.memory import WRITTEN, Memory
from precision_lab.emulator.ptx import Kernel
from precision_lab.emulator.reference.engine import ReferenceEngine
from precision_lab.emulator.sass.code import SassKernel
from precision_lab.exceptions import InternalError
from precision_lab.virtual_gpu.settings import ENGINE, ENGINES

COMPARED_THREADS = 1 << 17  # of the largest first launch that both engines execute

_ENGINES: dict[str, Engine] = {}
# By id; the kernel is kept, so that no other has its id.
_COMPARED: dict[int, Kernel] = {}


def _engine(name: str) -> Engine:
    if name not in _ENGINES:
        if name == "fast":
            from precision_lab.emulator.fast.engine import FastEngine

            _ENGINES[name] = FastEngine()
        elif name == "sass":
            from precision_lab.emulator.sass.engine import SassEngine

            _ENGINES[name] = SassEngine()
        else:
            _ENGINES[name] = ReferenceEngine()
    return _ENGINES[name]


def execute(launch: Launch, memory: Memory, allocations: Sequence[int]) -> str:
    """Executes it, and says by which engine."""
    kernel = launch.kernel
    if isinstance(kernel, SassKernel):
        _engine("sass").run(launch, memory)
        return "sass"
    if os.environ.get(ENGINE, ENGINES[0]) == "reference":
        _engine("reference").run(launch, memory)
        return "reference"
    compares = _COMPARED.get(id(kernel)) is not kernel and launch.blocks * launch.threads <= COMPARED_THREADS
    before = [_Copy(memory, a) for a in allocations] if compares else []
    name = "fast"
    try:
        # First: in a loop without an end the other one would be for minutes.
        _engine("fast").run(launch, memory)
    except Unsupported:
        name = "reference"
        _engine("reference").run(launch, memory)
    if compares and name == "fast":
        after = [_Copy(memory, a) for a in allocations]
        for copy in before:
            copy.restore()
        _engine("reference").run(launch, memory)
        for copy in after:
            copy.compare(kernel)
            copy.restore()
    if compares:
        _COMPARED[id(kernel)] = kernel
    return name


class _Copy:
    """What an allocation holds at one time, with the states of its bytes."""

    def __init__(self, memory: Memory, address: int) -> None:
        self._memory, self._at = memory, address - memory.base
        self._size = memory.extent(address)
        self._data = memory.data[self._at : self._at + self._size].copy()
        self._states = memory.states[self._at : self._at + self._size].copy()

    def restore(self) -> None:
        self._memory.data[self._at : self._at + self._size] = self._data
        self._memory.states[self._at : self._at + self._size] = self._states

    def compare(self, kernel: Kernel) -> None:
        """
        Raises:
            InternalError: the memory holds something else now.
        """
        data = self._memory.data[self._at : self._at + self._size]
        states = self._memory.states[self._at : self._at + self._size]
        written = self._states == WRITTEN
        wrong = np.flatnonzero((states != self._states) | (written & (data != self._data)))
        if wrong.size:
            raise InternalError(
                f"the two engines of the emulator differ for {kernel.name}: byte {int(wrong[0])} of an "
                f"allocation of {self._size}, {wrong.size} bytes in all", "",
            )  # fmt: skip
