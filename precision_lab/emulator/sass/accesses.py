"""Loads, stores and atomics, and loads from constant banks."""

from __future__ import annotations

from typing import Any

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.reference.kinds import flushed
from precision_lab.emulator.reference.lanes import Array, Mask
from precision_lab.emulator.reference.rounding import F32
from precision_lab.emulator.reference.spaces import Index
from precision_lab.emulator.sass.code import EMPTY, Operand, SassInstruction, SassKernel
from precision_lab.emulator.sass.lanes import SassLanes
from precision_lab.emulator.sass.step import Step, Words

_SPACES = {"G": "global", "S": "shared", "L": "local"}
_NARROW: dict[str, Any] = {"U8": np.uint8, "S8": np.int8, "U16": np.uint16, "S16": np.int16}
_WIDE = {"64": 2, "128": 4}
# Of caches and of the order that other threads see.
_HINTS = (
    "E", "CONSTANT", "STRONG", "WEAK", "GPU", "SYS", "CTA", "SM", "EF", "EL", "LU", "EU", "NA",
    "LTC64B", "LTC128B", "LTC256B", "PRIVATE", "EVICT_LAST",
)  # fmt: skip


def _width(i: SassInstruction, words: Words) -> tuple[Any, int]:
    """The type of what is moved where it is narrower than a register, and how many registers take part."""
    words.flag(*_HINTS)
    narrow = words.one_of(_NARROW)
    count = _WIDE[words.one_of(_WIDE)] if any(w in i.modifiers for w in _WIDE) else 1
    return (_NARROW[narrow] if narrow else np.uint32), count


def _places(lanes: SassLanes, i: SassInstruction, o: Operand, live: Mask) -> tuple[Index, Index]:
    """The live lanes, and their addresses: of global memory 64 bits, else 32."""
    if o.kind != "address":
        raise unsupported(i, "no address")
    total = np.array([o.number], np.int64)
    for part in (o.base, o.uniform):
        if part is None:
            continue
        if part.parts == ("64",) or (part.kind == "UR" and o.base is None and i.opcode[-1] == "G"):
            total = total + lanes.integer64(i, part).astype(np.int64)
        elif part.parts in ((), ("U32",)):
            total = total + lanes.bits(i, part).astype(np.int64)
        elif part.parts and part.parts[0] in ("X4", "X8", "X16"):
            total = total + lanes.bits(i, part).astype(np.int64) * int(part.parts[0][1:])
        else:
            raise unsupported(i, f"an address of .{part.parts[0]}")
    lane = np.arange(lanes.n) if live is None else np.flatnonzero(live)
    return lane, lanes.spread(total)[lane]


def _space(lanes: SassLanes, i: SassInstruction) -> tuple[Any, int]:
    """The space that an instruction names, and the address of its first byte that is the kernel's."""
    name = _SPACES.get(i.opcode[2:3])
    if name is None:
        raise unsupported(i, "of a generic address")
    kernel = lanes.launch.kernel
    assert isinstance(kernel, SassKernel)
    return lanes.machine.space(name), kernel.shared_base if name == "shared" else 0


def load(i: SassInstruction) -> Step:
    """LDG, LDS and LDL."""
    words = Words(i)
    kind, count = _width(i, words)
    words.end()
    if len(i.arguments) != 2:
        raise unsupported(i)
    to, address = i.arguments
    size = np.dtype(kind).itemsize

    def step(lanes: SassLanes, live: Mask) -> None:
        space, base = _space(lanes, i)
        lane, at = _places(lanes, i, address, live)
        at = space.check(lanes, i, lane, at - base, size * count, size * count, loads=True)
        space.loaded(lanes, i, lane, at, size * count, lanes.machine.order)
        flat = space.data.view(kind)
        for k in range(count):
            found = flat[at // size + k].astype(np.int32 if size < 4 else kind).view(np.uint32)
            whole = np.zeros(lanes.n, np.uint32)
            whole[lane] = found
            lanes.put(i, to, whole, live, k)

    return step


def store(i: SassInstruction) -> Step:
    """STG, STS and STL."""
    words = Words(i)
    kind, count = _width(i, words)
    words.end()
    if len(i.arguments) != 2:
        raise unsupported(i)
    address, source = i.arguments
    size = np.dtype(kind).itemsize

    def step(lanes: SassLanes, live: Mask) -> None:
        space, base = _space(lanes, i)
        lane, at = _places(lanes, i, address, live)
        at = space.check(lanes, i, lane, at - base, size * count, size * count, loads=False)
        for k in range(count):
            value = lanes.spread(lanes.bits(i, source, k))[lane]
            space.stored(lanes, i, lane, at + k * size, value.astype(kind), size, lanes.machine.order)

    return step


def constant(i: SassInstruction) -> Step:
    """LDC and ULDC."""
    words = Words(i)
    kind, count = _width(i, words)
    words.end()
    to, source = i.arguments
    size = np.dtype(kind).itemsize

    def step(lanes: SassLanes, live: Mask) -> None:
        for k in range(count):
            found = lanes.constant(i, source, size, k * size).view(kind).reshape(-1)
            found = found.astype(np.int32 if size < 4 else kind).view(np.uint32)
            lanes.put(i, to, found, live, k)

    return step


def atomic(i: SassInstruction) -> Step:
    """ATOMG and RED: sums, and extremes of integers, in the order of threads."""
    words = Words(i)
    words.flag(*_HINTS)
    words.flag("RN")
    what = words.one_of(("ADD", "MIN", "MAX"))
    single, flushes = words.flag("F32"), words.flag("FTZ")
    kind = np.int32 if words.one_of(("U32", "S32"), "U32") == "S32" else np.uint32
    words.end()
    *outs, address, source = i.arguments
    if not what or source.kind != "R" or (single and what != "ADD"):
        raise unsupported(i)
    to = [o for o in outs if o.kind == "R" and o.number != EMPTY]

    def joined(old: Array, value: Array) -> Array:
        if what != "ADD":
            extreme = np.minimum if what == "MIN" else np.maximum
            return np.asarray(extreme(old.view(kind), value.view(kind))).view(np.uint32)
        if not single:
            return old + value
        a, b = (flushed(v, "f32") if flushes else v for v in (old, value))
        total = a.view(np.float32) + b.view(np.float32)
        bits = np.where(np.isnan(total), np.uint32(F32.nan), total.view(np.uint32))
        return flushed(bits, "f32") if flushes else bits

    def step(lanes: SassLanes, live: Mask) -> None:
        space = lanes.machine.space("global")
        lane, at = _places(lanes, i, address, live)
        at = space.check(lanes, i, lane, at, 4, 4, loads=True)
        value, flat = lanes.spread(lanes.bits(i, source))[lane], space.data.view(np.uint32)
        before = np.zeros(lanes.n, np.uint32)
        for k in range(lane.size):
            place = slice(int(at[k]) // 4, int(at[k]) // 4 + 1)
            before[lane[k]] = flat[place][0]
            flat[place] = joined(flat[place], value[k : k + 1])
        for o in to:
            lanes.put(i, o, before, live)

    return step


def nothing(i: SassInstruction) -> Step:
    """What orders accesses that are ordered here anyway, or concerns caches."""
    return lambda lanes, live: None
