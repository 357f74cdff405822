"""Which engine executes a launch: machine code has its own, and of PTX there are two.

The fast engine runs what it can, the reference engine the rest: kernels whose threads communicate. The first
launch of every kernel is executed by both, from the same memory, and their results are compared: one that
differs by a bit is the lab's own fault and ends the measurement. The reference engine also sees races, which
the fast one does not look for.

Most kernels run for so few inputs that optimising their code takes longer than it saves. So the fast engine
begins with code that is not optimised, and goes over to code that is once a kernel has run for many threads.
The first launch in that is compared with what the former code makes of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

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
# A kernel's threads until its code is optimised. Measured of the lab's kernels: that takes 0.1 to 0.4 s, and
# saves 0.1 s in 2^18 threads (of several elements each) to 2^21.
QUICK_THREADS = 1 << 19

_ENGINES: dict[str, Engine] = {}


@dataclass
class _Known:
    """What has been done with a kernel, which is kept, so that no other has its id."""

    kernel: Kernel
    threads: int = 0
    compared: set[str] = field(default_factory=set)  # engines


_KNOWN: dict[int, _Known] = {}


def _engine(name: str) -> Engine:
    if name not in _ENGINES:
        if name in ("fast", "quick"):
            from precision_lab.emulator.fast.engine import FastEngine

            _ENGINES[name] = FastEngine(optimised=name == "fast")
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
    known = _KNOWN.get(id(kernel))
    if known is None or known.kernel is not kernel:
        known = _KNOWN[id(kernel)] = _Known(kernel)
    threads = launch.blocks * launch.threads
    known.threads += threads
    name = "quick" if known.threads <= QUICK_THREADS else "fast"
    witness = "reference" if name == "quick" else "quick"
    compares = name not in known.compared and (name == "fast" or threads <= COMPARED_THREADS)
    before = [_Copy(memory, a) for a in allocations] if compares else []
    try:
        # First: in a loop without an end the other one would be for minutes.
        _engine(name).run(launch, memory)
    except Unsupported:
        known.compared.add(name)
        _engine("reference").run(launch, memory)
        return "reference"
    if compares:
        after = [_Copy(memory, a) for a in allocations]
        for copy in before:
            copy.restore()
        _engine(witness).run(launch, memory)
        for copy in after:
            copy.compare(kernel, name, witness)
            copy.restore()
        known.compared.add(name)
    return "fast"


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

    def compare(self, kernel: Kernel, *engines: str) -> None:
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
                f"the emulator's engines {' and '.join(engines)} differ for {kernel.name}: byte "
                f"{int(wrong[0])} of an allocation of {self._size}, {wrong.size} bytes in all", "",
            )  # fmt: skip
