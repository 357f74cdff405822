"""A device's memory: one stretch of this process's, in which a device's address is the host's.

Beside every byte stands another that says what it is: not allocated, allocated, or written. Allocations lie
apart, so that one look tells an access out of bounds, one of memory that was freed, and a read of what
nobody has written.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import UsageError

# States of a byte. The second bit says that somebody has written it.
FREE, ALLOCATED, WRITTEN = 0, 1, 3
ALIGNMENT = 512  # of an allocation, as CUDA's allocators have it
GAP = 512  # at least, between two
SIZE = 1 << 36  # bytes of address space; what is not used takes no memory
_NEAR = 1 << 16  # bytes within which an allocation is looked for

Bytes = NDArray[np.uint8]


class Memory:
    """Bytes and their states.

    Attributes:
        base: the address of the first byte, a multiple of the page size.
        size: in bytes.
        data: the bytes, shape (size,).
        states: one state each, shape (size,).
    """

    def __init__(self, base: int, states_base: int, size: int, keep: Any = None) -> None:
        self.base, self.states_base, self.size = base, states_base, size
        self.data = _array(base, size)
        self.states = _array(states_base, size)
        self._keep = keep
        self._next = ALIGNMENT

    @classmethod
    def reserve(cls, size: int = SIZE) -> Self:
        """Memory of its own, all free.

        Raises:
            ValueError: the system does not give so much address space.
        """
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        try:
            maps = [mmap.mmap(-1, size, flags=flags) for _ in range(2)]
        except OSError as error:
            raise UsageError(
                f"size={size}: the system does not give so much address space ({error})"
            ) from error
        bases = [ctypes.addressof(ctypes.c_char.from_buffer(m)) for m in maps]
        return cls(bases[0], bases[1], size, maps)

    def allocate(self, count: int) -> int:
        """The address of `count` bytes that nobody has written.

        Raises:
            MemoryError: there is no room for so many.
        """
        at = self._next
        if at + count + GAP > self.size:
            raise MemoryError(
                f"{count} bytes do not fit beside the {at} in use; there are {self.size} in all"
            )
        self._next = -(-(at + count + GAP) // ALIGNMENT) * ALIGNMENT
        self.states[at : at + count] = ALLOCATED
        return self.base + at

    def put(self, values: NDArray[Any]) -> int:
        """The address of a copy of an array."""
        values = np.ascontiguousarray(values)
        address = self.allocate(values.nbytes)
        at = address - self.base
        self.data[at : at + values.nbytes] = values.reshape(-1).view(np.uint8)
        self.states[at : at + values.nbytes] = WRITTEN
        return address

    def get(self, address: int, dtype: Any, count: int) -> NDArray[Any]:
        """A copy of `count` numbers of the dtype; what was not written has any value."""
        at = address - self.base
        found: NDArray[Any] = self.data[at : at + count * np.dtype(dtype).itemsize].view(dtype).copy()
        return found

    def extent(self, address: int) -> int:
        """Bytes of the allocation that begins at an address."""
        return _edge(self.states, address - self.base, 1) - (address - self.base)

    def is_written(self, address: int, count: int) -> bool:
        at = address - self.base
        return bool((self.states[at : at + count] == WRITTEN).all())


def whereabouts(states: Bytes, at: int, size: int) -> str:
    """Where an access of `size` bytes lies, told from the nearest allocation: the same in every run.

    Args:
        states: of a memory's bytes.
        at: index of the first byte, which need not be one.
    """
    if not 0 <= at <= states.size - size:
        return "outside of the device's memory"
    inside = int(np.count_nonzero(states[at : at + size]))
    if inside == size:
        first = _edge(states, at, -1) + 1
        return f"byte {at - first} of an allocation of {_edge(states, at, 1) - first}"
    if inside:
        return f"of which {size - inside} lie outside of an allocation"
    before = np.flatnonzero(states[max(at - _NEAR, 0) : at])
    behind = np.flatnonzero(states[at + size : at + size + _NEAR])
    found = []
    if before.size:
        found.append((min(at, _NEAR) - 1 - int(before[-1]), "behind"))
    if behind.size:
        found.append((int(behind[0]), "before"))
    if not found:
        return "far from every allocation"
    distance, side = min(found)
    return f"{distance} bytes {side} an allocation" if distance else f"just {side} an allocation"


def _edge(states: Bytes, at: int, step: int) -> int:
    """Index of the free byte next to an allocation, below or above a byte of it."""
    while 0 <= at < states.size:
        stretch = states[max(at - _NEAR + 1, 0) : at + 1][::-1] if step < 0 else states[at : at + _NEAR]
        free = np.flatnonzero(stretch == FREE)
        if free.size:
            return at + step * int(free[0])
        at += step * stretch.size
    return at


def _array(address: int, size: int) -> Bytes:
    found: Bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
    return found
