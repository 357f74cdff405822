"""The memory that a kernel sees while it runs, and what is wrong with how it is used.

Of every byte that a thread stores it is known which thread stored it last, and in which stretch between two
barriers. Two threads that store to one byte with nothing between them race, unless they store the same;
so do, in shared memory, a store and a load of two threads.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator.faults import Fault
from precision_lab.emulator.launch import WARP
from precision_lab.emulator.memory import ALLOCATED, WRITTEN, Memory, whereabouts
from precision_lab.emulator.ptx import Instruction
from precision_lab.emulator.reference.lanes import Array, Lanes

Index = NDArray[np.int64]


class Owners:
    """Who stored a byte last in this launch: a number of thread and stretch, 0 for nobody.

    As large as the memory in address space, and in memory as large as what was stored.
    """

    def __init__(self, size: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        self._map = mmap.mmap(-1, 8 * size, flags=flags)
        self.marks: Array = np.frombuffer(self._map, np.int64)
        self._used = 1

    def reserve(self, count: int) -> int:
        """A first mark above all that were given before; `count` are the caller's."""
        first, self._used = self._used, self._used + count
        return first


class Space:
    """One state space: bytes, their states, and who stored them.

    Attributes:
        base: address of the first byte.
        stride: bytes from one owner of such memory (a block, a thread) to the next; 0 where all share it.
    """

    def __init__(
        self, name: str, base: int, data: Array, states: Array, marks: Array | None, stride: int = 0
    ) -> None:
        self.name, self.base, self.data, self.states, self.marks = name, base, data, states, marks
        self.stride = stride

    def check(
        self, lanes: Lanes, i: Instruction, lane: Index, address: Index, size: int, align: int, loads: bool
    ) -> Index:
        """Index of the first byte of each access.

        Raises:
            Fault: one is misaligned, out of bounds, or reads what nobody has written.
        """
        if (wrong := address % align != 0).any():
            self._fault(
                lanes, i, "misaligned", lane, address, wrong, size, f"of {size} bytes, aligned to {align}"
            )
        local = address - self.base
        limit = self.stride or self.data.size
        inside = (local >= 0) & (local + size <= limit)
        owner = lanes.block[lane] if self.name == "shared" else lane
        at: Index = np.asarray(np.where(inside, local, 0) + owner * self.stride, np.int64)
        if inside.all():
            inside = self._all(at, size, ALLOCATED)
        if not inside.all():
            self._fault(lanes, i, "out_of_bounds", lane, address, ~inside, size, f"of {size} bytes")
        if loads and not (written := self._all(at, size, WRITTEN)).all():
            self._fault(lanes, i, "unwritten_read", lane, address, ~written, size, f"of {size} bytes")
        return at

    def _all(self, at: Index, size: int, state: int) -> Array:
        found = (self.states[at] & state) == state
        for k in range(1, size):
            found &= (self.states[at + k] & state) == state
        return np.asarray(found)

    def _fault(
        self, lanes: Lanes, i: Instruction, kind: str, lane: Index, address: Index, wrong: Array, size: int,
        words: str,
    ) -> None:  # fmt: skip
        first = int(np.flatnonzero(wrong)[0])
        what = {
            "misaligned": "a misaligned access", "out_of_bounds": "an access out of bounds",
            "unwritten_read": "a read of memory that nobody has written",
        }[kind]  # fmt: skip
        offset = int(address[first]) - self.base
        at = f"at {self.name} address {offset}"
        if self.name == "global":
            at = f"in global memory: {whereabouts(self.states, offset, size)}"
        count = int(wrong.sum())
        also = f", {count} in all" if count > 1 else ""
        raise fault(lanes, i, kind, f"{what} {words} {at}{also}", int(lane[first]))

    # -- races ----------------------------------------------------------------------------------

    def stored(
        self, lanes: Lanes, i: Instruction, lane: Index, at: Index, values: Array, size: int, order: Order
    ) -> None:
        """Stores, and looks for two threads that store to one byte in no order.

        Raises:
            Fault: two do, and what they store differs.
        """
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(lane.size, size)
        mine = order.marks(lane)
        for k in range(size):
            place, byte = at + k, raw[:, k]
            if self.marks is not None:
                before = self.marks[place]
                self._race(
                    lanes, i, lane, order.unordered(before, lane) & (self.data[place] != byte), before, order
                )
                self.marks[place] = mine
            self.data[place] = byte
            if self.marks is not None:  # of several lanes at one place one has won
                self._race(lanes, i, lane, self.data[place] != byte, self.marks[place], order)
            self.states[place] = WRITTEN

    def _race(
        self, lanes: Lanes, i: Instruction, lane: Index, wrong: Array, marks: Index, order: Order
    ) -> None:
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise fault(
                lanes, i, "race",
                f"two threads store different values to {self.name} memory with no order between, the other "
                f"is {position(lanes, order.thread(int(marks[first])))}", int(lane[first]),
            )  # fmt: skip

    def loaded(self, lanes: Lanes, i: Instruction, lane: Index, at: Index, size: int, order: Order) -> None:
        """Looks, in shared memory, for a load of what another thread has stored with no barrier between."""
        if self.marks is None or self.name != "shared":
            return
        for k in range(size):
            before = self.marks[at + k]
            wrong = order.unordered(before, lane)
            if wrong.any():
                first = int(np.flatnonzero(wrong)[0])
                raise fault(
                    lanes, i, "race",
                    "a load of shared memory that another thread has stored with no barrier between, "
                    f"{position(lanes, order.thread(int(before[first])))}", int(lane[first]),
                )  # fmt: skip


class Order:
    """What comes before what: threads of a block by its barriers, those of a warp by its own, too.

    A mark is first + lane + n·stretch, where a stretch counts all synchronisations so far in this batch.
    """

    def __init__(self, lanes: Lanes, first: int) -> None:
        self._lanes, self._first = lanes, first
        self.stretch = 0
        self._block_since = np.zeros(lanes.count, np.int64)  # stretch in which a block's last barrier was
        self._warp_since = np.zeros(lanes.n // WARP, np.int64)

    def barrier(self, blocks: Array) -> None:
        self.stretch += 1
        self._block_since[blocks] = self.stretch

    def warp_barrier(self, warps: Array) -> None:
        self.stretch += 1
        self._warp_since[warps] = self.stretch

    def marks(self, lane: Index) -> Index:
        return self._first + lane + self._lanes.n * self.stretch

    def thread(self, mark: int) -> int:
        """The lane of a mark; −1 − mark for one of an earlier batch of this launch."""
        return (mark - self._first) % self._lanes.n if mark >= self._first else -1

    def unordered(self, marks: Index, lane: Index) -> Array:
        """Whether what the marks stand for is by another thread and not before these lanes' last barrier."""
        lanes = self._lanes
        here = marks >= self._first
        earlier = (marks >= self.launch_first) & ~here  # another block's, which is in no order with any other
        other = (marks - self._first) % lanes.n
        stretch = (marks - self._first) // lanes.n
        same_block = lanes.block[np.where(here, other, 0)] == lanes.block[lane]
        since = self._block_since[lanes.block[lane]]
        since = np.where(
            other // WARP == lane // WARP, np.maximum(since, self._warp_since[lane // WARP]), since
        )
        return np.asarray(earlier | (here & (other != lane) & (~same_block | (stretch >= since))))

    launch_first = 1


def fault(lanes: Lanes, i: Instruction, kind: str, message: str, lane: int) -> Fault:
    block, thread = _place(lanes, lane)
    return Fault(kind, message, i, block, thread)


def position(lanes: Lanes, lane: int) -> str:
    if lane < 0:
        return "one of another block"
    block, thread = _place(lanes, lane)
    return f"thread {thread} of block {block}"


def _place(lanes: Lanes, lane: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for name in ("ctaid", "tid"):
        found.append(tuple(int(lanes.spread(lanes.specials[f"%{name}.{axis}"])[lane]) for axis in "xyz"))
    return found[0], found[1]


def global_space(memory: Memory, owners: Owners) -> Space:
    return Space("global", memory.base, memory.data, memory.states, owners.marks)


def block_space(name: str, base: int, size: int, count: int, *, marked: bool) -> Space:
    """Memory that each of `count` owners has for itself: a block's shared, or a thread's local."""
    stride = -(-max(size, 1) // 128) * 128
    states = np.zeros(count * stride, np.uint8)
    states.reshape(count, stride)[:, :size] = ALLOCATED
    marks: Any = np.zeros(count * stride, np.int64) if marked else None
    return Space(name, base, np.zeros(count * stride, np.uint8), states, marks, stride)
