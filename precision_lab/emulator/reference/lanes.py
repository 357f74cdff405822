"""The registers of many threads at once, as raw bits."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.launch import WARP, Launch
from precision_lab.emulator.ptx import (
    Float,
    Instruction,
    Integer,
    Not,
    Operand,
    Register,
    Sink,
    Special,
    Symbol,
)

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = "NDArray[np.bool_] | None"  # None: every lane

# 128 bits are only moved; numpy has no such integers, so they are Python's.
UNSIGNED: dict[int, Any] = {
    1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64, 128: np.object_,
}  # fmt: skip
SIGNED: dict[int, Any] = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
FLOATS: dict[int, Any] = {16: np.float16, 32: np.float32, 64: np.float64}


class Lanes:
    """The threads of some blocks; a block's stand together, filled up to whole warps.

    A register holds an array of shape (n,), or (1,) where all lanes have the same.

    Attributes:
        n: lanes, those included that only fill a warp.
        per_block: lanes of a block, a multiple of a warp.
        blocks: numbers of the blocks in the grid.
        block: number of each lane's block among these.
        real: which lanes are threads; None for all.
    """

    def __init__(self, launch: Launch, blocks: NDArray[np.int64]) -> None:
        count = blocks.size
        self.launch, self.blocks, self.count = launch, blocks, count
        threads = launch.threads
        self.per_block = -(-threads // WARP) * WARP
        self.n = count * self.per_block
        lane = np.arange(self.n, dtype=np.int64)
        self.block = lane // self.per_block
        self.thread = lane % self.per_block
        self.real: Mask = None if threads == self.per_block else self.thread < threads
        self.registers: dict[str, Array] = {}
        self.addresses: dict[str, int] = {}  # of variables, by name
        self.specials = self._specials()
        self.machine: Any = None  # a `machine.Machine`, which knows lanes

    def _specials(self) -> dict[str, Array]:
        launch = self.launch
        found: dict[str, Array] = {}
        thread, block = self.thread, self.blocks[self.block]
        for axis, bx, gx in zip("xyz", launch.block, launch.grid, strict=True):
            found[f"%tid.{axis}"], found[f"%ctaid.{axis}"] = thread % bx, block % gx
            found[f"%ntid.{axis}"], found[f"%nctaid.{axis}"] = np.array([bx]), np.array([gx])
            thread, block = thread // bx, block // gx
        lane = self.thread % WARP
        found["%laneid"], found["%warpid"] = lane, self.thread // WARP
        found["%nwarpid"] = np.array([self.per_block // WARP])
        one = np.uint64(1) << lane.astype(np.uint64)
        below = one - np.uint64(1)
        for name, mask in (
            ("eq", one),
            ("lt", below),
            ("le", below | one),
            ("gt", ~(below | one)),
            ("ge", ~below),
        ):
            found[f"%lanemask_{name}"] = mask & np.uint64(0xFFFFFFFF)
        return {name: values.astype(np.uint32) for name, values in found.items()}

    # -- reading --------------------------------------------------------------------------------

    def read(self, i: Instruction, operand: Operand, bits: int) -> Array:
        """The low `bits` of an operand, unsigned, shape (n,) or (1,)."""
        kind = UNSIGNED[bits]
        if isinstance(operand, Register):
            value = self.registers.get(operand.name)
            if value is None:  # never written: hardware has anything there
                value = self.registers[operand.name] = np.zeros(1, UNSIGNED[operand.bits])
            return value if value.dtype == kind else value.astype(kind)
        if isinstance(operand, Integer):
            if bits == 1:
                return np.array([bool(operand.value)])
            return np.array([operand.value & ((1 << bits) - 1)], kind)
        if isinstance(operand, Float):
            return np.array([_float_bits(i, operand, bits)], kind)
        if isinstance(operand, Not):
            return ~self.read(i, operand.register, 1)
        if isinstance(operand, Special):
            return self.specials[operand.name].astype(kind)
        if isinstance(operand, Symbol) and operand.name in self.addresses:
            return np.array([self.addresses[operand.name] & ((1 << bits) - 1)], kind)
        raise unsupported(i, f"the operand {operand}")

    def signed(self, i: Instruction, operand: Operand, bits: int) -> Array:
        return self.read(i, operand, bits).view(SIGNED[bits])

    def float(self, i: Instruction, operand: Operand, bits: int) -> Array:
        return self.read(i, operand, bits).view(FLOATS[bits])

    def spread(self, values: Array) -> Array:
        """One value for each lane."""
        return values if values.shape == (self.n,) else np.broadcast_to(values, (self.n,))

    # -- writing --------------------------------------------------------------------------------

    def write(self, i: Instruction, operand: Operand, value: Array, live: Mask) -> None:
        """Puts bits into a register of the live lanes; a wider register is filled up with zeros."""
        if isinstance(operand, Sink):
            return
        if not isinstance(operand, Register):
            raise unsupported(i, f"the destination {operand}")
        kind = UNSIGNED[operand.bits]
        value = np.asarray(value)
        if value.dtype != kind:
            value = value.astype(kind)
        if live is None:
            self.registers[operand.name] = value
            return
        old = self.registers.get(operand.name)
        if old is None:
            old = np.zeros(1, kind)
        self.registers[operand.name] = np.where(live, value, old)


def _float_bits(i: Instruction, operand: Float, bits: int) -> int:
    if operand.width == bits:
        return operand.bits
    if operand.width == 0 and bits in (32, 64):  # a decimal constant, rounded to the type that takes it
        return int(np.array([operand.value], FLOATS[bits]).view(UNSIGNED[bits])[0])
    raise unsupported(i, f"a constant of {operand.width} bits where {bits} are taken")
