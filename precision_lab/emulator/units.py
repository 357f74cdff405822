"""What the units of a multiprocessor can do at once, GPUs by name, and which unit executes an instruction.

Sources: CUDA C++ Programming Guide, "Arithmetic Instructions", table "Throughput of Native Arithmetic
Instructions" (results per clock cycle per multiprocessor), for units; NVIDIA's data sheets of A100 80GB SXM,
H100 SXM, H200 SXM and B200, and its architecture white papers, for GPUs. The table names operations, not
instructions of machine code: which row an instruction belongs to is said here. Rows that may have several
readings were taken as the slower one: conversions count as those from and to 64 bits do, at 16 a clock,
except packing two FP32 numbers into 16 bits each (F2FP), which counts as an integer operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from precision_lab.emulator.machine_code import MachineInstruction

ISSUE = "issue slots"
FP32, FP64, SPECIAL, INTEGER = "FP32", "FP64", "MUFU", "integer and compare"
MULTIPLY, CONVERSION, HALF, BFLOAT, SHUFFLE = "integer multiply", "conversions", "FP16", "BF16", "shuffles"
SCHEDULERS, LANES = 4, 32  # each issues one instruction of a warp in a clock

_COMMON = {
    ISSUE: SCHEDULERS * LANES, SPECIAL: 16, INTEGER: 64, MULTIPLY: 64, CONVERSION: 16, SHUFFLE: 32
}  # fmt: skip
# Threads' instructions in a clock; HALF and BFLOAT are of two numbers each.
RATES: Mapping[int, Mapping[str, int]] = {
    80: {**_COMMON, FP32: 64, FP64: 32, HALF: 128, BFLOAT: 64},
    90: {**_COMMON, FP32: 128, FP64: 64, HALF: 128, BFLOAT: 128},
    100: {**_COMMON, FP32: 128, FP64: 64, HALF: 128, BFLOAT: 128},
}

COPY_SHARE = 4.192 / 4.8  # of an H200, 2²⁷ numbers in bf16: reports/h200


@dataclass(frozen=True)
class Gpu:
    """
    Attributes:
        capability: 90 for 9.0.
        multiprocessors: that are there.
        clock: the highest, in Hz.
        bandwidth: of its memory, in bytes a second.
        copy_share: what a plain copy reaches of it.
        copy_is_measured: on such a GPU, by the lab (`reports/h200`); else the H200's share is assumed.
    """

    name: str
    capability: int
    multiprocessors: int
    clock: float
    bandwidth: float
    copy_share: float = COPY_SHARE
    copy_is_measured: bool = False

    @property
    def copy_speed(self) -> float:
        """Bytes that a copy moves in a second, read and written together."""
        return self.bandwidth * self.copy_share

    def share(self, unit: str, per_byte: float) -> float:
        """Of what a unit can do while a copy moves a byte: `per_byte` instructions of a thread for each."""
        rate = RATES[self.capability][unit]
        return per_byte * self.copy_speed / (self.multiprocessors * rate * self.clock)


GPUS = (
    Gpu("A100 80GB SXM", 80, 108, 1.410e9, 2.039e12),
    Gpu("H100 SXM", 90, 132, 1.980e9, 3.352e12),
    Gpu("H200", 90, 132, 1.980e9, 4.8e12, copy_is_measured=True),
    Gpu("B200", 100, 148, 1.965e9, 8.0e12),
)


def gpus_of(target: str) -> tuple[Gpu, ...]:
    """Those that run machine code of a target such as "sm_90"."""
    return tuple(gpu for gpu in GPUS if target == f"sm_{gpu.capability}")


_INTEGERS = (
    "IADD3", "IADD", "IADD32I", "VIADD", "VIADDMNMX", "VIMNMX", "VIMNMX3", "IMNMX", "IABS", "ISETP", "ISET",
    "LOP3", "LOP", "LOP32I", "PLOP3", "SHF", "SHL", "SHR", "LEA", "PRMT", "SEL", "FSEL", "FSETP", "FSET",
    "FMNMX", "FMNMX3", "FCHK", "HSETP2", "HSET2", "HMNMX2", "VHMNMX", "BMSK", "SGXT", "I2FP", "F2FP",
)  # fmt: skip
_UNITS = {
    **dict.fromkeys(("FADD", "FMUL", "FFMA", "FADD32I", "FMUL32I", "FFMA32I"), FP32),
    **dict.fromkeys(("FADD2", "FMUL2", "FFMA2"), FP32),
    **dict.fromkeys(("DADD", "DMUL", "DFMA", "DSETP", "DMNMX"), FP64),
    **dict.fromkeys(("MUFU", "POPC", "FLO", "BREV"), SPECIAL),
    **dict.fromkeys(_INTEGERS, INTEGER),
    **dict.fromkeys(("IMAD", "IMUL", "IMAD32I", "IMUL32I", "IDP"), MULTIPLY),
    **dict.fromkeys(("F2F", "F2I", "I2F", "FRND", "I2I"), CONVERSION),
    **dict.fromkeys(("HADD2", "HMUL2", "HFMA2", "HADD2_32I", "HFMA2_32I", "HMUL2_32I"), HALF),
    "SHFL": SHUFFLE,
}
_TWICE = ("FADD2", "FMUL2", "FFMA2")  # of two FP32 numbers


def unit_of(i: MachineInstruction) -> tuple[str, int] | None:
    """Which unit beside the scheduler an instruction takes, and for how many instructions' worth."""
    unit = _UNITS.get(i.opcode)
    if unit == HALF and any("BF16" in m for m in i.modifiers):
        unit = BFLOAT
    return None if unit is None else (unit, 2 if i.opcode in _TWICE else 1)
