"""A kernel's instructions as steps; what decides which thread goes where is the scheduler's."""

from __future__ import annotations

from collections.abc import Mapping

from precision_lab.emulator.faults import Unsupported, unsupported
from precision_lab.emulator.reference.lanes import Mask
from precision_lab.emulator.sass import accesses, bits, conversions, floats, halves, integers, warps
from precision_lab.emulator.sass.code import SassInstruction, SassKernel
from precision_lab.emulator.sass.lanes import SassLanes
from precision_lab.emulator.sass.step import Builder, Step

_BY_NAME: Mapping[str, Builder] = {
    **dict.fromkeys(("FADD", "FMUL", "FFMA", "DADD", "DMUL", "DFMA"), floats.arithmetic),
    **dict.fromkeys(("FSETP", "DSETP"), floats.set_predicate),
    **dict.fromkeys(("FSEL", "SEL"), floats.select),
    **dict.fromkeys(("HADD2", "HMUL2", "HFMA2"), halves.arithmetic),
    **dict.fromkeys(("IADD3", "VIADD"), integers.add),
    **dict.fromkeys(("IMNMX", "VIMNMX", "VIADDMNMX"), integers.extreme),
    **dict.fromkeys(("MOV", "S2R", "S2UR", "CS2R", "R2UR"), bits.move),
    **dict.fromkeys(("P2R", "R2P"), bits.pack_predicates),
    **dict.fromkeys(("POPC", "FLO", "BREV"), bits.count),
    **dict.fromkeys(("F2F", "FRND"), conversions.between),
    **dict.fromkeys(("I2F", "I2FP"), conversions.from_integer),
    **dict.fromkeys(("LDG", "LDS", "LDL"), accesses.load),
    **dict.fromkeys(("STG", "STS", "STL"), accesses.store),
    **dict.fromkeys(("ATOMG", "RED", "REDG"), accesses.atomic),
    **dict.fromkeys(("MEMBAR", "ERRBAR", "CGAERRBAR", "CCTL", "DEPBAR", "YIELD"), accesses.nothing),
    "FSET": floats.set_number, "FMNMX": floats.extreme, "MUFU": floats.multifunction,
    "FCHK": floats.check_division, "HMNMX2": halves.extreme, "HSETP2": halves.set_predicate,
    "HSET2": halves.set_numbers, "IMAD": integers.multiply, "LEA": integers.shift_and_add,
    "ISETP": integers.set_predicate, "IABS": integers.absolute, "VABSDIFF": integers.distance,
    "LOP3": bits.logic, "PLOP3": bits.predicate_logic, "SHF": bits.shift, "PRMT": bits.permute,
    "SGXT": bits.extend, "BMSK": bits.mask, "F2I": conversions.to_integer, "F2FP": conversions.packed,
    "I2I": conversions.clamped, "LDC": accesses.constant, "SHFL": warps.shuffle, "VOTE": warps.vote,
}  # fmt: skip
CONTROL = ("BRA", "EXIT", "CALL", "RET", "BSSY", "BSYNC", "BREAK", "WARPSYNC", "BAR")
# Of a warp's registers, with the same meaning as those of a thread's.
_OF_WARPS = ("UMOV", "ULDC", "UIADD3", "UIMAD", "ULEA", "UISETP", "ULOP3", "UPLOP3", "USHF", "USEL", "UPRMT",
             "UPOPC", "USGXT", "UFLO", "UBREV", "UP2UR")  # fmt: skip


def build(i: SassInstruction) -> Step:
    """
    Raises:
        Unsupported: the instruction is not emulated.
    """
    name = i.opcode[1:] if i.opcode in _OF_WARPS else i.opcode
    builder = _BY_NAME.get(name)
    if builder is None:
        raise unsupported(i)
    return builder(i)


def _step(i: SassInstruction) -> Step | None:
    """None for what the scheduler does; what is not emulated is refused by the thread that gets there.

    Kernels of libraries hold ways that no launch here takes: calls of the assertion handler, shuffles of
    warps that are not together.
    """
    if i.opcode in CONTROL:
        return None
    try:
        return build(i)
    except Unsupported as error:
        refusal = error

    def refuse(lanes: SassLanes, live: Mask) -> None:
        raise refusal

    return refuse


class Program:
    """Steps by index; None for what the scheduler does."""

    def __init__(self, kernel: SassKernel) -> None:
        self.kernel = kernel
        self.targets = {
            kernel.at[o.number]
            for i in kernel.code if i.opcode in ("BRA", "CALL") for o in i.arguments
            if o.kind == "label" and o.number in kernel.at
        }  # fmt: skip
        self.steps: list[Step | None] = [_step(i) for i in kernel.code]
