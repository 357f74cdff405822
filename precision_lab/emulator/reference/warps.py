"""What the threads of a warp, or of a block, do together: shuffles, votes, reductions, matrices, barriers.

Source: PTX ISA, "Parallel Synchronization and Communication Instructions" and "Warp-level Matrix …".
"""

from __future__ import annotations

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.launch import WARP
from precision_lab.emulator.ptx import Address, Instruction, Operand, Sink, Vector
from precision_lab.emulator.reference.lanes import Array, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.moves import destinations
from precision_lab.emulator.reference.spaces import fault
from precision_lab.emulator.reference.step import Step

_LANE = np.arange(WARP)


def _live(lanes: Lanes, live: Mask) -> Array:
    """Which lanes take part, by warp."""
    whole = np.ones(lanes.n, bool) if live is None else live
    return whole.reshape(-1, WARP)


def _by_warp(lanes: Lanes, i: Instruction, operand: Operand, bits: int = 32) -> Array:
    return lanes.spread(lanes.read(i, operand, bits)).reshape(-1, WARP)


def _require_members(lanes: Lanes, i: Instruction, operand: Operand, live: Mask) -> Array:
    """The threads that an instruction names; each must be here, and be named by all others.

    Raises:
        Fault: one is not.
    """
    masks = _by_warp(lanes, i, operand)
    here = _live(lanes, live)
    named = (masks[:, :, None] >> _LANE.astype(np.uint32) & np.uint32(1)).astype(bool)  # warp, lane, other
    exists = (np.ones(lanes.n, bool) if lanes.real is None else lanes.real).reshape(-1, WARP)
    missing = here[:, :, None] & named & exists[:, None, :] & ~here[:, None, :]
    strange = here & ~named[:, _LANE, _LANE]
    if missing.any() or strange.any():
        first = int(np.flatnonzero((missing.any(2) | strange).reshape(-1))[0])
        raise fault(
            lanes, i, "divergent_barrier",
            f"{i.opcode} names threads of its warp that are not there with it (mask "
            f"0x{int(masks.reshape(-1)[first]):08x})", first,
        )  # fmt: skip
    return named


def shuffle(i: Instruction) -> Step:
    """shfl.sync: another lane's value, and whether that lane is in range."""
    modifiers = Modifiers(i)
    modifiers.type("b32")
    synchronous = modifiers.flag("sync")
    mode = modifiers.one_of("up", "down", "bfly", "idx")
    modifiers.end()
    to, predicate = destinations(i)
    if not synchronous or not mode or len(i.operands) != 5:
        raise unsupported(i)

    def step(lanes: Lanes, live: Mask) -> None:
        _require_members(lanes, i, i.operands[4], live)
        value = _by_warp(lanes, i, i.operands[1])
        b = _by_warp(lanes, i, i.operands[2]).astype(np.int64) & 31
        c = _by_warp(lanes, i, i.operands[3]).astype(np.int64)
        clamp, segment = c & 31, (c >> 8) & 31
        low = _LANE & segment  # of the lane's own segment
        high = low | (clamp & ~segment)
        if mode == "up":
            source = _LANE - b
            inside = source >= high
        elif mode == "down":
            source = _LANE + b
            inside = source <= high
        elif mode == "bfly":
            source = _LANE ^ b
            inside = source <= high
        else:
            source = low | (b & ~segment)
            inside = source <= high
        source = np.where(inside, source, _LANE)
        here = _live(lanes, live)
        silent = here & ~np.take_along_axis(here, source, 1)
        if silent.any():
            first = int(np.flatnonzero(silent.reshape(-1))[0])
            raise fault(
                lanes, i, "divergent_barrier", "a shuffle reads of a thread that is not there with it", first
            )
        lanes.write(i, to, np.take_along_axis(value, source, 1).reshape(-1), live)
        lanes.write(i, predicate, inside.reshape(-1), live)
        lanes.machine.order.warp_barrier(np.asarray(here.any(1)))

    return step


def vote(i: Instruction) -> Step:
    """vote.sync: all, any, uni or the ballot of a predicate."""
    modifiers = Modifiers(i)
    kind = modifiers.type("pred", "b32")
    synchronous = modifiers.flag("sync")
    mode = modifiers.one_of("all", "any", "uni", "ballot")
    modifiers.end()
    if not synchronous or (mode == "ballot") != (kind == "b32") or not mode:
        raise unsupported(i)

    def step(lanes: Lanes, live: Mask) -> None:
        named = _require_members(lanes, i, i.operands[2], live)
        here = _live(lanes, live)
        p = _by_warp(lanes, i, i.operands[1], 1)
        yes = (named & (p & here)[:, None, :]).sum(2)
        total = (named & here[:, None, :]).sum(2)
        if mode == "ballot":
            bits = (p & here).astype(np.uint64) << _LANE.astype(np.uint64)
            found = (named * bits[:, None, :]).sum(2).astype(np.uint32)
        else:
            found = {"all": yes == total, "any": yes > 0, "uni": (yes == total) | (yes == 0)}[mode]
        lanes.write(i, i.operands[0], found.reshape(-1), live)
        lanes.machine.order.warp_barrier(np.asarray(here.any(1)))

    return step


def active(i: Instruction) -> Step:
    """activemask: which lanes of the warp execute this instruction together."""
    modifiers = Modifiers(i)
    modifiers.type("b32")
    modifiers.end()

    def step(lanes: Lanes, live: Mask) -> None:
        bits = (_live(lanes, live).astype(np.uint64) << _LANE.astype(np.uint64)).sum(1).astype(np.uint32)
        lanes.write(i, i.operands[0], np.repeat(bits, WARP), live)

    return step


def elect(i: Instruction) -> Step:
    """elect.sync: the first of the named lanes."""
    modifiers = Modifiers(i)
    synchronous = modifiers.flag("sync")
    modifiers.end()
    to, predicate = destinations(i)
    if not synchronous:
        raise unsupported(i)

    def step(lanes: Lanes, live: Mask) -> None:
        named = _require_members(lanes, i, i.operands[1], live)
        first = named.argmax(2)
        lanes.write(i, to, first.reshape(-1).astype(np.uint32), live)
        lanes.write(i, predicate, (first == _LANE).reshape(-1), live)

    return step


def reduce(i: Instruction) -> Step:
    """redux.sync: of integers any of its operations, of FP32 min and max; NaN loses, and wins with .NaN."""
    modifiers = Modifiers(i)
    kind = modifiers.type("u32", "s32", "b32", "f32")
    synchronous, nan, magnitudes = modifiers.flag("sync"), modifiers.flag("NaN"), modifiers.flag("abs")
    what = modifiers.one_of("add", "min", "max", "and", "or", "xor")
    modifiers.end()
    fits = {"f32": ("min", "max"), "b32": ("and", "or", "xor")}.get(kind, ("add", "min", "max"))
    if not synchronous or what not in fits or ((nan or magnitudes) and kind != "f32"):
        raise unsupported(i)

    def combined(values: Array, named: Array) -> Array:
        """Over the last axis, of those that are named."""
        if kind == "f32":
            x = values.view(np.float32)
            x = np.abs(x) if magnitudes else x
            # Ordered as the instructions min and max do: −0 below +0.
            whole = x.view(np.int32).astype(np.int64)
            order = np.where(whole < 0, -(whole & 0x7FFFFFFF) - 1, whole)
            nans = np.isnan(x)
            low, high = np.int64(-1 << 40), np.int64(1 << 40)
            order = np.where(named & ~nans, order, high if what == "min" else low)
            best = order.min(-1) if what == "min" else order.max(-1)
            none = np.abs(best) == 1 << 40
            bits = np.where(best < 0, (-(best + 1)) | 0x80000000, best)
            bits = np.where(none | (nan & (nans & named).any(-1)), 0x7FFFFFFF, bits)
            return bits.astype(np.uint32)
        x = values.view(np.int32) if kind == "s32" else values
        ends = np.iinfo(np.int32 if kind == "s32" else np.uint32)
        neutral = {"add": 0, "or": 0, "xor": 0, "and": ends.max, "min": ends.max, "max": ends.min}[what]
        x = np.where(named, x, x.dtype.type(neutral))
        operation = {
            "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
            "xor": np.bitwise_xor,
        }[what]  # fmt: skip
        return np.asarray(operation.reduce(x, axis=-1, dtype=x.dtype)).view(np.uint32)

    def step(lanes: Lanes, live: Mask) -> None:
        named = _require_members(lanes, i, i.operands[2], live)
        values = np.ascontiguousarray(_by_warp(lanes, i, i.operands[1]))
        spread = np.ascontiguousarray(np.broadcast_to(values[:, None, :], named.shape))
        lanes.write(i, i.operands[0], combined(spread, named).reshape(-1), live)
        lanes.machine.order.warp_barrier(np.asarray(_live(lanes, live).any(1)))

    return step


# -- matrices --------------------------------------------------------------------------------------


def matrix(i: Instruction) -> Step:
    """ldmatrix and stmatrix: 8×8 matrices of 16-bit numbers, a row's address from each lane.

    Lane 8·m + r holds the address of row r of matrix m; lane l holds numbers 2·(l mod 4) and the next one of
    row l div 4, of the transposed matrix with .trans.
    """
    modifiers = Modifiers(i)
    modifiers.type("b16")
    fits = modifiers.flag("sync") and modifiers.flag("aligned") and modifiers.flag("m8n8")
    count = int(modifiers.one_of("x1", "x2", "x4")[1:] or 0)
    transposed = modifiers.flag("trans")
    shared = modifiers.one_of("shared", "shared::cta")
    modifiers.end()
    loads = i.opcode == "ldmatrix"
    registers, address = i.operands if loads else (i.operands[1], i.operands[0])
    items = registers.items if isinstance(registers, Vector) else (registers,)
    if not (fits and shared and isinstance(address, Address) and len(items) == count):
        raise unsupported(i)

    def step(lanes: Lanes, live: Mask) -> None:
        here = _live(lanes, live)
        if not (here.all(1) | ~here.any(1)).all():
            first = int(np.flatnonzero(here.reshape(-1))[0])
            raise fault(lanes, i, "divergent_barrier", f"{i.opcode} by a part of a warp", first)
        space, order = lanes.machine.space("shared"), lanes.machine.order
        base = lanes.spread(lanes.read(i, address.base, 32)).astype(np.int64) + address.offset
        base = base.reshape(-1, WARP)
        warps = np.flatnonzero(here.any(1))
        lane = (warps[:, None] * WARP + _LANE).reshape(-1)
        for m, register in enumerate(items):
            rows = base[warps][:, 8 * m : 8 * m + 8]
            row_lane = (warps[:, None] * WARP + 8 * m + np.arange(8)).reshape(-1)
            at = space.check(lanes, i, row_lane, rows.reshape(-1), 16, 16, loads=loads).reshape(-1, 8)
            row, column = _LANE // 4, 2 * (_LANE % 4)
            places = [
                (at[:, column + k] + 2 * row if transposed else at[:, row] + 2 * (column + k)).reshape(-1)
                for k in (0, 1)
            ]
            flat = space.data.view(np.uint16)
            if loads:
                halves = []
                for place in places:
                    space.loaded(lanes, i, lane, place, 2, order)
                    halves.append(flat[place // 2].astype(np.uint32))
                whole = np.zeros(lanes.n, np.uint32)
                whole[lane] = halves[0] | (halves[1] << np.uint32(16))
                lanes.write(i, register, whole, live)
            else:
                value = lanes.spread(lanes.read(i, register, 32))[lane]
                for k, place in enumerate(places):
                    half = (value >> np.uint32(16 * k)).astype(np.uint16)
                    space.stored(lanes, i, lane, place, half, 2, order)

    return step


def warp_barrier(i: Instruction) -> Step:
    """bar.warp.sync."""

    def step(lanes: Lanes, live: Mask) -> None:
        _require_members(lanes, i, i.operands[0], live)
        lanes.machine.order.warp_barrier(np.asarray(_live(lanes, live).any(1)))

    if i.modifiers not in (("warp", "sync"),) or isinstance(i.operands[0], Sink):
        raise unsupported(i)
    return step
