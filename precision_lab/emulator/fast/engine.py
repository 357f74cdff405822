"""The fast engine: machine code of a kernel, run on all cores."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator import nominal
from precision_lab.emulator.fast import accesses
from precision_lab.emulator.fast.machine import Code
from precision_lab.emulator.fast.translate import Program, translated
from precision_lab.emulator.faults import Fault, Unsupported
from precision_lab.emulator.launch import Launch, packed
from precision_lab.emulator.memory import ALLOCATED, FREE, Memory, whereabouts
from precision_lab.emulator.ptx import Kernel
from precision_lab.emulator.variables import place
from precision_lab.system.ieee import require

CHUNKS = 8  # for each core: a slow one delays the others little, and starting one takes microseconds
_SIZES = {accesses.READ: "reads", accesses.WRITE: "writes"}

Words = NDArray[np.int64]


class FastEngine:
    """Runs launches whose threads do not communicate but by what they have stored before a barrier.

    Threads of a block run one after the other up to a barrier, blocks on all cores. That two threads store to
    one place without one is not noticed; the reference engine finds such races. The fault that is reported is
    that of the first block and, in it, of the first thread that has one, always the same.

    Args:
        threads: of the processor; all that this process may use unless it says otherwise.
        optimised: see `machine.Code`.
    """

    def __init__(self, threads: int | None = None, *, optimised: bool = True) -> None:
        self.name = "fast" if optimised else "quick"
        self._threads = threads or _cores()
        self._optimised = optimised

    def run(self, launch: Launch, memory: Memory) -> None:
        """Executes every thread; see `launch.Engine`.

        What tables say is the reference engine's to look up.
        """
        program, code = _compiled(_Held(launch.kernel), self._optimised)
        for op, ftz in set(launch.choice.tables) & set(program.functions):
            raise Unsupported(f"{launch.kernel.name}: {op}{' with .ftz' * ftz} by a table")
        count = min(launch.blocks, CHUNKS * self._threads) if self._threads > 1 else 1
        edges = [launch.blocks * k // count for k in range(count + 1)]
        arrays = _Arrays(launch, program, memory)
        if count == 1:
            faults = [_chunk(code, arrays, 0, launch.blocks, launch, memory)]
        else:
            stopped = threading.Event()

            def one(chunk: int) -> Fault | None:
                # Only chunks behind one with a fault are given up: pools start them in order.
                if stopped.is_set():
                    return None
                found = _chunk(code, arrays, edges[chunk], edges[chunk + 1], launch, memory)
                if found is not None:
                    stopped.set()
                return found

            with ThreadPoolExecutor(self._threads) as pool:
                faults = list(pool.map(one, range(count)))
        for fault in faults:
            if fault is not None:
                raise fault


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Arrays:
    """What the code is given beside the launch's own numbers."""

    def __init__(self, launch: Launch, program: Program, memory: Memory) -> None:
        self.launch = np.array(
            [memory.base, memory.states_base, memory.size, *launch.grid, *launch.block, launch.step_limit]
            + 3 * [0],
            np.int64,
        )
        self.parameters = np.frombuffer(packed(launch) + bytes(8), np.uint8)
        self.functions = np.array([nominal.address(*f) for f in program.functions] + [0], np.uint64)
        moved = np.zeros(len(launch.kernel.instructions) + 1, np.int32)
        for index, by in launch.choice.moved.items():
            moved[index] = by
        self.choice = moved
        places = [place(memory, launch.kernel.variables[name]) for name in program.variables]
        self.variables = np.array([*places, 0], np.uint64)
        self.local_bytes = program.local_bytes
        self.kept_bytes = program.kept_bytes * launch.threads


def _chunk(
    code: Code, arrays: _Arrays, first: int, last: int, launch: Launch, memory: Memory
) -> Fault | None:
    """Runs some blocks: None, or their first fault."""
    require("The kernel was not run")  # a thread has its own rounding mode and flushing
    result = np.zeros(6, np.int64)
    with _local(memory, arrays.local_bytes) as address:
        numbers = arrays.launch.copy()
        kept, places = np.empty(arrays.kept_bytes, np.uint8), np.empty(launch.threads, np.int32)
        numbers[-3:] = address, kept.ctypes.data, places.ctypes.data
        given = (numbers, arrays.parameters, arrays.functions, arrays.choice, arrays.variables, result)
        failed = code.run(*[a.ctypes.data for a in given], first, last)
        return _fault(launch, memory, result) if failed else None


class _Held:
    """A kernel as a key, by identity: comparing it whole at every launch takes longer than running it."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other.kernel is self.kernel

    def __hash__(self) -> int:
        return id(self.kernel)


@lru_cache(maxsize=256)
def _program(kernel: _Held) -> Program | str:
    """The kernel's code, or why there is none, which takes as long to find out."""
    try:
        return translated(kernel.kernel)
    except Unsupported as error:
        return str(error)


@lru_cache(maxsize=256)
def _compiled(kernel: _Held, optimised: bool) -> tuple[Program, Code]:
    program = _program(kernel)
    if isinstance(program, str):
        raise Unsupported(program)
    return program, Code(program, optimised=optimised)


# -- memory of the launch itself ----------------------------------------------------------------------

_LOCK = threading.Lock()
_LOCAL: WeakKeyDictionary[Memory, dict[int, list[int]]] = WeakKeyDictionary()


@contextmanager
def _local(memory: Memory, size: int) -> Iterator[int]:
    """Bytes of local memory for one thread at a time: taken from those that are free, and free behind it."""
    if not size:
        yield 0
        return
    with _LOCK:
        free = _LOCAL.setdefault(memory, {}).setdefault(size, [])
        address = free.pop() if free else memory.allocate(size)
    states = memory.states[address - memory.base :][:size]
    states[:] = ALLOCATED
    try:
        yield address
    finally:
        states[:] = FREE
        with _LOCK:
            free.append(address)


# -- faults -------------------------------------------------------------------------------------------------


def _fault(launch: Launch, memory: Memory, words: Words) -> Fault:
    what, index, address, size, block, thread = (int(v) for v in words)
    instruction = launch.kernel.instructions[index]
    where = (_split(block, launch.grid), _split(thread, launch.block))
    if what == accesses.STEPS:
        message = f"more than {launch.step_limit} instructions were executed"
        return Fault("endless_loop", message, instruction, *where)
    if what == accesses.WAIT:
        message = "a barrier that a part of the block's threads reaches, the others never do"
        return Fault("divergent_barrier", message, instruction, *where)
    access = f"{instruction.name} {_SIZES[what]} {size} byte{'s' * (size > 1)}"
    at = address - memory.base
    place = whereabouts(memory.states, at, size)
    if address % size:
        message = f"{access} at an address that is no multiple of {size}: {place}"
        return Fault("misaligned", message, instruction, *where)
    if not 0 <= at <= memory.size - size or (memory.states[at : at + size] == FREE).any():
        return Fault("out_of_bounds", f"{access} out of bounds: {place}", instruction, *where)
    return Fault("unwritten_read", f"{access} which nobody has written: {place}", instruction, *where)


def _split(number: int, sizes: tuple[int, int, int]) -> tuple[int, int, int]:
    x, y, _ = sizes
    return number % x, number // x % y, number // (x * y)
