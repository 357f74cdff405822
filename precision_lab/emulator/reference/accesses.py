"""ld, st, atom, red, cvta and isspacep: what touches memory or makes addresses.

Source: PTX ISA, "Data Movement …" and "Parallel Synchronization and Communication Instructions: atom".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Address, Instruction, Register, Sink, Symbol, Vector
from precision_lab.emulator.reference.kinds import flushed
from precision_lab.emulator.reference.lanes import FLOATS, SIGNED, UNSIGNED, Array, Lanes, Mask
from precision_lab.emulator.reference.machine import LOCAL_WINDOW, SHARED_WINDOW, Machine
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.spaces import Index, Space
from precision_lab.emulator.reference.step import Step

_SIZES = {f"{k}{n}": n for k in "bus" for n in (8, 16, 32, 64)} | {
    "f16": 16,
    "bf16": 16,
    "f32": 32,
    "f64": 64,
}
_SPACES = ("global", "shared", "local", "const", "param")
# Of caches and of the order that other threads see: what is loaded and stored by one order of all steps is
# one that they allow.
_HINTS = (
    "weak", "volatile", "relaxed", "acquire", "release", "acq_rel", "cta", "cluster", "gpu", "sys", "nc",
    "ca", "cg", "cs", "lu", "cv", "wb", "wt", "L1::evict_normal", "L1::evict_unchanged", "L1::evict_first",
    "L1::evict_last", "L1::no_allocate", "L2::64B", "L2::128B", "L2::256B", "L2::cache_hint",
    "L2::evict_last", "L2::evict_normal", "L2::evict_first", "unified",
)  # fmt: skip


class _Access:
    """What a load, store or atomic says about where and how much."""

    def __init__(self, i: Instruction, modifiers: Modifiers, address: object) -> None:
        self.i = i
        if modifiers.flag("shared::cluster"):
            raise unsupported(i, "clusters of blocks")
        if modifiers.flag("shared::cta"):
            self.space = "shared"
        else:
            self.space = modifiers.one_of(*_SPACES, default="generic")
        modifiers.ignore(*_HINTS)
        if not isinstance(address, Address):
            raise unsupported(i, f"the address {address}")
        self.address = address

    def places(self, lanes: Lanes, live: Mask) -> tuple[Index, Index]:
        """The live lanes, and their addresses."""
        base = self.address.base
        bits = 32 if self.space in ("shared", "local") else 64
        if isinstance(base, Register) and base.bits > bits:
            bits = base.bits
        value = lanes.read(self.i, base, bits).astype(np.int64) + self.address.offset
        lane = np.arange(lanes.n) if live is None else np.flatnonzero(live)
        return lane, lanes.spread(value)[lane]

    def spaces(self, machine: Machine, address: Index) -> Space:
        """The one space that all these addresses are in."""
        if self.space != "generic":
            return machine.space(self.space)
        if address.size and (address >= SHARED_WINDOW).all():
            return machine.space("local" if (address >= LOCAL_WINDOW).all() else "shared")
        return machine.space("global")


def _local(address: Index, access: _Access) -> Index:
    if access.space != "generic" or not address.size or not (address >= SHARED_WINDOW).all():
        return address
    return address - (LOCAL_WINDOW if (address >= LOCAL_WINDOW).all() else SHARED_WINDOW)


def load(i: Instruction) -> Step:
    """ld and ldu: one number, or the elements of a vector."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*_SIZES)
    count = int(modifiers.one_of("v2", "v4", "v8", default="v1")[1:])
    to = i.operands[0].items if isinstance(i.operands[0], Vector) else (i.operands[0],)
    access = _Access(i, modifiers, i.operands[1])
    modifiers.end()
    if len(to) != count:
        raise unsupported(i, f"{len(to)} registers for {count}")
    size = _SIZES[kind] // 8
    base = access.address.base

    def parameter(lanes: Lanes, live: Mask) -> None:
        assert isinstance(base, Symbol)
        at = lanes.machine.parameters[base.name] + access.address.offset
        for k, register in enumerate(to):
            raw = lanes.machine.arguments[at + k * size : at + (k + 1) * size]
            _fill(lanes, i, register, np.frombuffer(raw, UNSIGNED[8 * size]), kind, live)

    def step(lanes: Lanes, live: Mask) -> None:
        machine = lanes.machine
        lane, address = access.places(lanes, live)
        space = access.spaces(machine, address)
        at = space.check(lanes, i, lane, _local(address, access), size * count, size * count, loads=True)
        space.loaded(lanes, i, lane, at, size * count, machine.order)
        flat = space.data.view(UNSIGNED[8 * size])
        for k, register in enumerate(to):
            found = flat[at // size + k]
            if live is not None:
                whole = np.zeros(lanes.n, UNSIGNED[8 * size])
                whole[lane] = found
                found = whole
            _fill(lanes, i, register, found, kind, live)

    if access.space == "param":
        if not isinstance(base, Symbol):
            raise unsupported(i, "parameters of device functions")
        return parameter
    return step


def _fill(lanes: Lanes, i: Instruction, register: object, value: Array, kind: str, live: Mask) -> None:
    """A loaded number, extended to its register: by its sign where its type has one."""
    if isinstance(register, Sink):
        return
    if not isinstance(register, Register):
        raise unsupported(i, f"the destination {register}")
    bits = 8 * value.dtype.itemsize
    if kind[0] == "s" and register.bits > bits:
        value = value.view(SIGNED[bits]).astype(SIGNED[register.bits]).view(UNSIGNED[register.bits])
    lanes.write(i, register, value, live)


def store(i: Instruction) -> Step:
    """st: one number, or the elements of a vector."""
    modifiers = Modifiers(i)
    kind = modifiers.type(*_SIZES)
    count = int(modifiers.one_of("v2", "v4", "v8", default="v1")[1:])
    values = i.operands[1].items if isinstance(i.operands[1], Vector) else (i.operands[1],)
    access = _Access(i, modifiers, i.operands[0])
    modifiers.end()
    if len(values) != count or access.space in ("const", "param"):
        raise unsupported(i)
    size = _SIZES[kind] // 8

    def step(lanes: Lanes, live: Mask) -> None:
        lane, address = access.places(lanes, live)
        space = access.spaces(lanes.machine, address)
        at = space.check(lanes, i, lane, _local(address, access), size * count, size * count, loads=False)
        for k, value in enumerate(values):
            found = lanes.spread(lanes.read(i, value, 8 * size))[lane]
            space.stored(lanes, i, lane, at + k * size, found, size, lanes.machine.order)

    return step


# -- atomics ---------------------------------------------------------------------------------------

_ATOMIC = {
    "add": ("u32", "s32", "u64", "f32", "f64"), "inc": ("u32",), "dec": ("u32",), "exch": ("b32", "b64"),
    "cas": ("b16", "b32", "b64"), **dict.fromkeys(("min", "max"), ("u32", "s32", "u64", "s64")),
    **dict.fromkeys(("and", "or", "xor"), ("b32", "b64")),
}  # fmt: skip


def atomic(i: Instruction) -> Step:
    """atom and red: a read, an operation and a store that nothing comes between.

    Threads come in the order of their numbers: one of those that the hardware may take.
    """
    modifiers = Modifiers(i)
    kind = modifiers.type(*(k for k in _SIZES if _SIZES[k] >= 16), "f16x2", "bf16x2")
    what = modifiers.one_of("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")
    modifiers.ignore("noftz")
    returns = i.opcode == "atom"
    to = i.operands[0] if returns else Sink()
    address, *operands = i.operands[1:] if returns else i.operands
    access = _Access(i, modifiers, address)
    modifiers.end()
    # A cache policy may be the last operand.
    operands = operands[: 2 if what == "cas" else 1]
    if (
        not what
        or len(operands) != (2 if what == "cas" else 1)
        or any(isinstance(o, Vector) for o in operands)
    ):
        raise unsupported(i)
    if kind not in _ATOMIC[what] or (not returns and what in ("exch", "cas")):
        raise unsupported(i, f".{what} of .{kind}")
    bits = _SIZES[kind]
    dtype = FLOATS[bits] if kind[0] == "f" else SIGNED[bits] if kind[0] == "s" else UNSIGNED[bits]

    def updated(old: Array, given: list[Array]) -> Array:
        b = given[0]
        operations: dict[str, Callable[[], Array]] = {
            "add": lambda: old + b, "min": lambda: np.minimum(old, b), "max": lambda: np.maximum(old, b),
            "and": lambda: old & b, "or": lambda: old | b, "xor": lambda: old ^ b, "exch": lambda: b,
            "cas": lambda: np.where(old == b, given[-1], old),
            "inc": lambda: np.where(old >= b, old.dtype.type(0), old + old.dtype.type(1)),
            "dec": lambda: np.where((old == 0) | (old > b), b, old - old.dtype.type(1)),
        }  # fmt: skip
        return operations[what]()

    def step(lanes: Lanes, live: Mask) -> None:
        lane, address_of = access.places(lanes, live)
        space = access.spaces(lanes.machine, address_of)
        size = bits // 8
        at = space.check(lanes, i, lane, _local(address_of, access), size, size, loads=True)
        given = [lanes.spread(lanes.read(i, o, bits))[lane].view(dtype) for o in operands]
        flat = space.data.view(dtype)
        before = np.zeros(lanes.n, dtype)
        # Rounds: in each, every address is touched by the first lane that still waits for it.
        left = np.arange(lane.size)
        while left.size:
            _, first = np.unique(at[left], return_index=True)
            now = left[np.sort(first)]
            old = flat[at[now] // size].copy()
            before[lane[now]] = old
            own = [g[now] for g in given]
            new = updated(old, own)
            if kind == "f32" and space.name == "global":
                # "Flushes subnormal inputs and results to sign-preserving zero", there but not in shared.
                new = _flushed(updated(_flushed(old), [_flushed(g) for g in own]))
            if kind == "f32":
                new = np.where(np.isnan(new), np.uint32(0x7FFFFFFF).view(np.float32), new)
            flat[at[now] // size] = new
            left = np.setdiff1d(left, now, assume_unique=True)
        lanes.write(i, to, before.view(UNSIGNED[bits]), live)

    return step


def _flushed(x: Array) -> Array:
    return flushed(x.view(np.uint32), "f32").view(np.float32)


# -- addresses -------------------------------------------------------------------------------------


def convert_address(i: Instruction) -> Step:
    """cvta: between a state space's address and the generic one."""
    modifiers = Modifiers(i)
    modifiers.type("u64", "u32")
    back = modifiers.flag("to")
    space = modifiers.one_of("global", "const", "shared", "local", "param", "shared::cta")
    modifiers.end()
    window = {"shared": SHARED_WINDOW, "shared::cta": SHARED_WINDOW, "local": LOCAL_WINDOW}.get(space, 0)
    if not space or space == "param":
        raise unsupported(i)

    def step(lanes: Lanes, live: Mask) -> None:
        value = lanes.read(i, i.operands[1], 64)
        moved = value - np.uint64(window) if back else value + np.uint64(window)
        lanes.write(i, i.operands[0], moved, live)

    return step


def is_space(i: Instruction) -> Step:
    """isspacep: whether a generic address is in a space."""
    modifiers = Modifiers(i)
    space = modifiers.one_of("global", "shared", "local", "shared::cta")
    modifiers.end()
    low, high = {
        "shared": (SHARED_WINDOW, LOCAL_WINDOW), "shared::cta": (SHARED_WINDOW, LOCAL_WINDOW),
        "local": (LOCAL_WINDOW, 1 << 63), "global": (0, SHARED_WINDOW),
    }.get(space, (0, 0))  # fmt: skip
    if not high:
        raise unsupported(i)

    def step(lanes: Lanes, live: Mask) -> None:
        value = lanes.read(i, i.operands[1], 64).astype(np.int64)
        lanes.write(i, i.operands[0], (value >= low) & (value < high), live)

    return step


def cache_policy(i: Instruction) -> Step:
    """createpolicy: a hint to caches, of no value."""

    def step(lanes: Lanes, live: Mask) -> None:
        lanes.write(i, i.operands[0], np.zeros(1, np.uint64), live)

    return step


def nothing(i: Instruction) -> Step:
    """Fences, prefetches and hints: the order in which steps are executed here is one that they allow."""
    return lambda lanes, live: None
