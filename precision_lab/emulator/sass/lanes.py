"""The registers of many threads at once, as raw bits, and operands read from them."""

from __future__ import annotations

import struct

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.launch import WARP, Launch, packed
from precision_lab.emulator.reference.lanes import Array, Lanes, Mask
from precision_lab.emulator.sass.code import EMPTY, Operand, SassInstruction, SassKernel

SIGN = np.uint32(0x80000000)
_SPECIALS = {
    "SR_TID.X": "%tid.x", "SR_TID.Y": "%tid.y", "SR_TID.Z": "%tid.z", "SR_CTAID.X": "%ctaid.x",
    "SR_CTAID.Y": "%ctaid.y", "SR_CTAID.Z": "%ctaid.z", "SR_LANEID": "%laneid", "SR_EQMASK": "%lanemask_eq",
    "SR_LTMASK": "%lanemask_lt", "SR_LEMASK": "%lanemask_le", "SR_GTMASK": "%lanemask_gt",
    "SR_GEMASK": "%lanemask_ge",
}  # fmt: skip
LOCAL_BYTES = 1 << 12  # of each thread; the stack grows down from there
# What the driver puts before the parameters, as far as it is known: sizes of blocks and of the grid, then
# the end of the stack, and what describes global memory to loads and stores (for sm_80 and for sm_90), which
# is never looked at.
_DRIVER, _DRIVER_WORDS = 0x18, ((0x28, 4), (0x118, 8), (0x208, 8), (0x358, 8))
_STACK = 0x28  # byte of constant bank 0 where a thread finds the end of its stack


class SassLanes(Lanes):
    """The threads of consecutive blocks, with the registers of machine code.

    A register of a warp is kept for each of its threads; all of them have the same.
    """

    def __init__(self, launch: Launch, first: int, count: int) -> None:
        super().__init__(launch, np.arange(first, first + count, dtype=np.int64))
        kernel = launch.kernel
        assert isinstance(kernel, SassKernel)
        first, size = kernel.parameter_base, kernel.parameter_bytes
        # Bytes of constant bank 0 that are known: those of the driver that are used here, and parameters.
        self._known = np.zeros(first + size, bool)
        self._known[:_DRIVER] = True
        for at, count in _DRIVER_WORDS:
            self._known[at : at + count] = True
        self._known[first:] = True
        self._known[[first + k for k in launch.missing]] = False
        self._banks: dict[int, bytes] = {**kernel.constants, 0: _bank0(launch, kernel)}
        self._zeros = np.zeros(1, np.uint32)
        self._true = np.ones(1, bool)

    # -- reading --------------------------------------------------------------------------------

    def bits(self, i: SassInstruction, o: Operand, next_: int = 0) -> Array:
        """32 bits as they are, shape (n,) or (1,).

        Args:
            next_: 1 for the upper half of a pair of registers, or of 64 bits of a constant bank.
        """
        if o.kind in ("R", "UR"):
            if o.number == EMPTY:
                return self._zeros
            return self.registers.get(f"{o.kind}{o.number + next_}", self._zeros)
        if o.kind == "number":
            if next_:  # 64 bits of an integer have its sign, of a number its upper half in the code
                return np.array([0xFFFFFFFF if o.name != "float" and o.number < 0 else 0], np.uint32)
            return np.array([o.number & 0xFFFFFFFF], np.uint32)
        if o.kind == "c":
            return self.constant(i, o, 4, 4 * next_).view(np.uint32).reshape(-1)
        raise unsupported(i, f"the operand {o.kind}")

    def integer(self, i: SassInstruction, o: Operand) -> Array:
        """32 bits, negated or inverted as the text says."""
        value = self.bits(i, o)
        self._whole(i, o)
        if o.absolute:
            raise unsupported(i, "an integer's absolute value")
        if o.negative:
            value = np.uint32(0) - value
        return ~value if o.inverted else value

    def integer64(self, i: SassInstruction, o: Operand) -> Array:
        """64 bits of a pair of registers."""
        if o.parts not in ((), ("64",)):
            raise unsupported(i, f"the part .{o.parts[0]}")
        low, high = self.bits(i, o), self.bits(i, o, 1)
        value = low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32))
        if o.negative:
            value = np.uint64(0) - value
        return ~value if o.inverted else value

    def f32(self, i: SassInstruction, o: Operand) -> Array:
        """Bits of an FP32 number, with its sign changed as the text says."""
        self._whole(i, o)
        value = self.bits(i, o)
        value = value & ~SIGN if o.absolute else value
        return value ^ SIGN if o.negative else value

    def f64(self, i: SassInstruction, o: Operand) -> Array:
        """Bits of an FP64 number; of a constant the code has the upper half."""
        self._whole(i, o)
        if o.kind == "number":
            value = np.array([(o.number & 0xFFFFFFFF) << 32], np.uint64)
        else:
            low, high = self.bits(i, o), self.bits(i, o, 1)
            value = low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32))
        top = np.uint64(1 << 63)
        value = value & ~top if o.absolute else value
        return value ^ top if o.negative else value

    @staticmethod
    def _whole(i: SassInstruction, o: Operand) -> None:
        if o.parts:
            raise unsupported(i, f"the part .{'.'.join(o.parts)}")

    def truth(self, i: SassInstruction, o: Operand) -> Array:
        if o.kind not in ("P", "UP"):
            raise unsupported(i, f"the predicate {o.kind}")
        value = self._true
        if o.number != EMPTY:
            value = self.registers.get(o.key, np.zeros(1, bool))
        return ~value if o.inverted else value

    def constant(self, i: SassInstruction, o: Operand, size: int, more: int = 0) -> Array:
        """Bytes of a constant bank, shape (n or 1, size)."""
        bank = self._banks.get(o.bank)
        if bank is None:
            raise unsupported(i, f"constant bank {o.bank}")
        at = np.array([o.number + more], np.int64)
        if o.base is not None:
            at = at + self.bits(i, o.base).astype(np.int64)
        if (at < 0).any() or (at + size > len(bank)).any():
            raise unsupported(i, f"byte {int(at.max())} of constant bank {o.bank}, which has {len(bank)}")
        if o.bank == 0:
            inside = at + size <= self._known.size
            if not (inside.all() and self._known[at[:, None] + np.arange(size)].all()):
                raise unsupported(i, self._not_given(at, size))
        data = np.frombuffer(bank, np.uint8)
        return np.ascontiguousarray(data[at[:, None] + np.arange(size)])

    def _not_given(self, at: Array, size: int) -> str:
        """Which byte of constant bank 0 is not known."""
        kernel = self.launch.kernel
        assert isinstance(kernel, SassKernel)
        places = (at[:, None] + np.arange(size)).reshape(-1)
        wrong = [int(k) for k in places if k >= self._known.size or not self._known[k]]
        k = wrong[0] - kernel.parameter_base
        for number, p in enumerate(kernel.parameters):
            if p.offset <= k < p.offset + p.size:
                return f"it reads byte {k - p.offset} of parameter {number}, which the launch does not give"
        return f"it reads byte {wrong[0]} of constant bank 0, where no parameter lies"

    def special(self, i: SassInstruction, o: Operand) -> Array:
        if o.name in ("SRZ", "SR_CgaCtaId"):  # clusters of blocks are not emulated: each block is one
            return self._zeros
        if o.name not in _SPECIALS:
            raise unsupported(i, f"the register {o.name}")
        return self.specials[_SPECIALS[o.name]]

    # -- writing --------------------------------------------------------------------------------

    def put(self, i: SassInstruction, o: Operand, value: Array, live: Mask, next_: int = 0) -> None:
        """Puts 32 bits, or a predicate, into a register of the live lanes."""
        if not o.is_register:
            raise unsupported(i, f"the destination {o.kind}")
        if o.number == EMPTY:
            return
        if o.kind[0] == "U":
            value, live = self._of_warps(i, value, live)
        key = f"{o.kind}{o.number + next_}"
        if live is None:
            self.registers[key] = value
            return
        old = self.registers.get(key)
        if old is None:
            old = np.zeros(1, value.dtype)
        self.registers[key] = np.where(live, value, old)

    def put64(self, i: SassInstruction, o: Operand, value: Array, live: Mask) -> None:
        value = value.view(np.uint64)
        self.put(i, o, value.astype(np.uint32), live)
        self.put(i, o, (value >> np.uint64(32)).astype(np.uint32), live, 1)

    def _of_warps(self, i: SassInstruction, value: Array, live: Mask) -> tuple[Array, Mask]:
        """What a warp's register takes: one value for all of its threads.

        Raises:
            Unsupported: live threads of a warp have different ones.
        """
        if value.shape == (1,) and live is None:
            return value, None
        here = np.ones((self.n // WARP, WARP), bool) if live is None else live.reshape(-1, WARP)
        values = self.spread(value).reshape(-1, WARP)
        first = np.take_along_axis(values, here.argmax(1)[:, None], 1)
        if ((values != first) & here).any():
            raise unsupported(i, "threads of a warp that give its register different values")
        warps = here.any(1)
        return np.repeat(first[:, 0], WARP), None if warps.all() else np.repeat(warps, WARP)


def _bank0(launch: Launch, kernel: SassKernel) -> bytes:
    """What the driver puts before a kernel's parameters, and these."""
    bank = bytearray(max(kernel.parameter_base + 4096, 1 << 13))
    struct.pack_into("<6I", bank, 0, *launch.block, *launch.grid)
    struct.pack_into("<I", bank, _STACK, LOCAL_BYTES)
    given = packed(launch)
    bank[kernel.parameter_base : kernel.parameter_base + len(given)] = given
    return bytes(bank)
