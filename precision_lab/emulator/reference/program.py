"""A kernel's instructions as steps: each opcode's family builds it, and refuses what it does not know."""

from __future__ import annotations

from collections.abc import Mapping

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.influence import is_approximate
from precision_lab.emulator.ptx import Instruction, Integer, Kernel, Symbol
from precision_lab.emulator.reference import (
    accesses,
    bits,
    comparisons,
    conversions,
    floats,
    integers,
    moves,
    signs,
    warps,
    widths,
)
from precision_lab.emulator.reference.approximations import approximate
from precision_lab.emulator.reference.step import Builder, Step

_BY_NAME: Mapping[str, Builder] = {
    "fma": floats.fma, "copysign": signs.copysign, "testp": signs.testp,
    "sad": integers.difference, "rem": integers.quotient, "and": bits.bitwise, "or": bits.bitwise,
    "xor": bits.bitwise, "not": bits.bitwise, "cnot": bits.bitwise, "lop3": bits.lop3,
    "shl": bits.shift, "shr": bits.shift, "shf": bits.funnel, "bfe": bits.field,
    "bfi": bits.field, "popc": bits.counting, "clz": bits.counting, "bfind": bits.counting,
    "brev": bits.counting, "prmt": bits.permute, "mov": moves.move, "selp": moves.select,
    "slct": moves.select, "setp": comparisons.setp, "set": comparisons.set_, "cvt": conversions.cvt,
    "ld": accesses.load, "ldu": accesses.load, "st": accesses.store, "atom": accesses.atomic,
    "red": accesses.atomic, "cvta": accesses.convert_address, "isspacep": accesses.is_space,
    "createpolicy": accesses.cache_policy, "membar": accesses.nothing, "fence": accesses.nothing,
    "prefetch": accesses.nothing, "prefetchu": accesses.nothing, "applypriority": accesses.nothing,
    "griddepcontrol": accesses.nothing, "nanosleep": accesses.nothing, "pmevent": accesses.nothing,
    "shfl": warps.shuffle, "vote": warps.vote, "activemask": warps.active, "elect": warps.elect,
    "redux": warps.reduce, "ldmatrix": warps.matrix, "stmatrix": warps.matrix,
}  # fmt: skip
# What is an operation of integers and of numbers, by type.
_FLOATING: Mapping[str, Builder] = {
    "add": floats.add, "sub": floats.sub, "mul": floats.mul, "neg": signs.sign, "abs": signs.sign,
    "min": signs.extreme, "max": signs.extreme, "div": floats.div, "sqrt": floats.sqrt, "rcp": floats.rcp,
    "mad": floats.fma,
}  # fmt: skip
_INTEGER: Mapping[str, Builder] = {
    "add": integers.sums, "sub": integers.sums, "mul": integers.product, "neg": integers.sign,
    "abs": integers.sign, "min": integers.extreme, "max": integers.extreme, "div": integers.quotient,
    "mad": integers.product,
}  # fmt: skip
_LEAVES = ("ret", "exit")


def build(i: Instruction, index: int) -> Step:
    """
    Raises:
        Unsupported: the instruction is not emulated.
    """
    if is_approximate(i):
        return approximate(i, index)
    if i.opcode in ("bar", "barrier") and i.modifiers[:1] == ("warp",):
        return warps.warp_barrier(i)
    builder = _BY_NAME.get(i.opcode)
    if builder is None:
        builder = (_FLOATING if "f" in i.type else _INTEGER).get(i.opcode)
    if builder is None or (i.opcode == "fma" and "f" not in i.type):
        raise unsupported(i)
    step = builder(i)
    widths.check(i)
    return step


class Program:
    """A kernel's instructions as steps; branches and barriers are the scheduler's."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.targets = set(kernel.labels.values())
        self.jumps: dict[int, int] = {}  # branch → where to; the end for ret and exit
        self.barriers: set[int] = set()
        self.steps: list[Step | None] = []
        end = len(kernel.instructions)
        for at, i in enumerate(kernel.instructions):
            if i.opcode == "bra":
                if set(i.modifiers) - {"uni"} or not isinstance(i.operands[0], Symbol):
                    raise unsupported(i)
                self.jumps[at] = kernel.labels[i.operands[0].name]
            elif i.opcode in _LEAVES:
                self.jumps[at] = end
            elif _is_barrier(i):
                self.barriers.add(at)
            else:
                self.steps.append(self.step(i, at))
                continue
            self.steps.append(None)

    def step(self, i: Instruction, index: int) -> Step:
        """What executes an instruction."""
        return build(i, index)


def _is_barrier(i: Instruction) -> bool:
    """Whether all threads of a block meet here.

    Raises:
        Unsupported: it is a barrier of some of them, or one that threads only arrive at.
    """
    if i.opcode not in ("bar", "barrier") or i.modifiers[:1] == ("warp",):
        return False
    kinds = (("sync",), ("cta", "sync"), ("sync", "aligned"), ("cta", "sync", "aligned"))
    if i.modifiers not in kinds or len(i.operands) != 1 or not isinstance(i.operands[0], Integer):
        raise unsupported(i)
    return True
