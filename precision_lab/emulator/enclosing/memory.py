"""Ranges in memory: the lower and the upper end of every byte, and the kind of range it is a part of."""

from __future__ import annotations

import mmap
from typing import Literal

import numpy as np

from precision_lab.emulator.enclosing.enclosed import Enclosed
from precision_lab.emulator.enclosing.lanes import RangedLanes
from precision_lab.emulator.enclosing.ranges import LOST, POINT, cut, together
from precision_lab.emulator.faults import Unsupported, where
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.ptx import Instruction
from precision_lab.emulator.reference.lanes import UNSIGNED, Array, Mask
from precision_lab.emulator.reference.machine import Machine
from precision_lab.emulator.reference.spaces import Space

Side = Literal["low", "high"]
PLANES = ("low", "high", "kinds")


class Planes:
    """What an enclosing engine knows of a device's memory.

    Attributes:
        side: which ends of ranges the memory itself gets, for whoever reads it without knowing of ranges.
        touched: whether some byte was ever part of a range.
        notes: instructions from which on nothing was known, by what their results then were.
    """

    def __init__(self, memory: Memory, side: Side) -> None:
        self.memory, self.side, self.touched = memory, side, False
        self.notes: dict[int, set[str]] = {}
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        self._maps = {name: mmap.mmap(-1, memory.size, flags=flags) for name in PLANES}
        self.data = {name: np.frombuffer(held, np.uint8) for name, held in self._maps.items()}

    def worst(self, at: int, count: int) -> int:
        """The worst kind among bytes, by the index of the first."""
        return int(self.data["kinds"][at : at + count].max(initial=POINT))

    def note(self, e: Enclosed, lanes: RangedLanes) -> None:
        """Notes an instruction of whose result nothing is known, though of its operands something is."""
        before = max((int(lanes.kind(r).max()) for _, r in e.sources), default=POINT)
        for _, register in e.targets:
            worst = int(lanes.kind(register).max())
            if worst >= LOST > before:
                self.notes.setdefault(worst, set()).add(e.i.name)

    def named(self, kind: int) -> str:
        return ", ".join(sorted(self.notes.get(kind, {"an instruction"})))

    def machine(self, name: str, machine: Machine) -> Machine:
        """A machine whose memory is one of the planes."""
        spaces = {}
        for key, space in machine.spaces.items():
            data = self.data[name] if key == "global" else np.zeros_like(space.data)
            spaces[key] = Space(space.name, space.base, data, space.states, None, space.stride)
        return Machine(machine.arguments, machine.parameters, spaces, machine.order)


def undecided(i: Instruction, what: str) -> Unsupported:
    """The error where the way through a program, or a place in memory, depends on a range."""
    return Unsupported(f"{what} depends on what a device returns within the manual's bound{where(i)}")


def access(e: Enclosed, lanes: RangedLanes, live: Mask, planes: Planes) -> None:
    """ld, st, ldmatrix, stmatrix and shfl: the same on every plane."""
    i = e.i
    if lanes.uncertain is not None:
        raise undecided(i, "whether it is executed")
    if any(lanes.is_ranged(r) for r in e.addresses):
        raise undecided(i, "the address")
    moved = e.sources[:1] if i.opcode == "shfl" else e.sources if i.opcode in ("st", "stmatrix") else []
    if any(lanes.is_ranged(r) for name, r in e.sources if (name, r) not in moved):
        raise undecided(i, "which thread is read")
    ranged = e.ranged(lanes)
    planes.touched |= bool(ranged)
    if not planes.touched or "param" in i.modifiers:
        e.settled(lanes, live)
        return
    machine, kinds = lanes.machine, dict(moved)
    ends = {"low": e.lows(lanes), "high": e.highs(lanes)}
    ends["kinds"] = ends["low"] | {name: _bytes_of(lanes.kind(r), r.bits) for name, r in kinds.items()}
    real = e.run(lanes, live, ends[planes.side])
    found = {}
    for name in PLANES:
        lanes.machine = lanes.planes[name]
        try:
            found[name] = e.run(lanes, live, ends[name])
        finally:
            lanes.machine = machine
    for k, (_, register) in enumerate(e.targets):
        if register.bits == 1 or i.opcode == "shfl":
            kind = np.zeros(lanes.n, np.uint8) if register.bits == 1 else _kind_of(found["kinds"][k], 64)
            low, high = (ends_of[k] for ends_of in (found["low"], found["high"]))
            lanes.put(register, low, high, kind, live)
            continue
        kind = _kind_of(found["kinds"][k], _accessed_bits(i))
        is_range = found["kinds"][k] != 0
        mask = _where_ranged(found["kinds"][k])
        low, high = ((real[k] & ~mask) | (found[name][k] & mask) for name in ("low", "high"))
        # Somebody else has stored there since.
        stale = is_range & ((real[k] & mask) != (found[planes.side][k] & mask))
        lanes.put(register, low, high, np.where(stale, LOST, kind), live)


def _accessed_bits(i: Instruction) -> int:
    return 16 if i.opcode == "ldmatrix" else int(i.type.lstrip("bfsu"))


def _bytes_of(kind: Array, bits: int) -> Array:
    """A kind in every byte of a register."""
    dtype = UNSIGNED[bits]
    return np.asarray(kind.astype(dtype) * dtype(int.from_bytes(b"\x01" * (bits // 8), "little")))


def _bytes(register: Array) -> Array:
    found: Array = np.ascontiguousarray(register).view(np.uint8).reshape(register.size, -1)
    return found


def _where_ranged(kinds: Array) -> Array:
    """All bits of the bytes that are part of a range."""
    found = np.where(_bytes(kinds) != POINT, np.uint8(0xFF), np.uint8(0))
    return np.asarray(np.ascontiguousarray(found).view(kinds.dtype).reshape(-1))


def _kind_of(kinds: Array, bits: int) -> Array:
    """Of registers, by the kinds of their bytes, where so many bits were accessed."""
    return cut(together(*_bytes(kinds).T), bits)


def atomic(e: Enclosed, lanes: RangedLanes, live: Mask, planes: Planes) -> None:
    """atom and red, of memory in which no range is."""
    if lanes.uncertain is not None or e.ranged(lanes) or planes.touched:
        raise undecided(e.i, "an atomic operation")
    e.settled(lanes, live)
