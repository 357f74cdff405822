"""Numbers of an instruction's type: their bits, read as FP64 and stored again.

Scalar types are f16, bf16, f32 and f64, packed ones f16x2, bf16x2 and f32x2: two scalars in one register, low
part first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from precision_lab.emulator.ptx import Instruction, Operand
from precision_lab.emulator.reference.lanes import FLOATS, UNSIGNED, Array, Lanes
from precision_lab.emulator.reference.rounding import BF16, F16, F32, NAN64, NEAREST, Format, narrow

FORMATS: dict[str, Format] = {"f16": F16, "bf16": BF16, "f32": F32}
BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}
PACKED = {"f16x2": "f16", "bf16x2": "bf16", "f32x2": "f32"}
TYPES = (*BITS, *PACKED)


@dataclass(frozen=True)
class Kind:
    """A floating-point type of an instruction, with what happens to its operands and results."""

    name: str
    direction: str = NEAREST
    ftz: bool = False
    sat: bool = False
    relu: bool = False
    satfinite: bool = False
    first: str = ""  # the type of all sources but the last, where that is another

    @property
    def scalar(self) -> str:
        return PACKED.get(self.name, self.name)

    @property
    def bits(self) -> int:
        return BITS[self.scalar]

    @property
    def register_bits(self) -> int:
        return self.bits * (2 if self.name in PACKED else 1)


def parts(lanes: Lanes, i: Instruction, operand: Operand, kind: Kind) -> list[Array]:
    """An operand's bits: one array, or the low and the high one of a packed type."""
    whole = lanes.read(i, operand, kind.register_bits)
    if kind.name not in PACKED:
        return [whole]
    bits = kind.bits
    return [whole.astype(UNSIGNED[bits]), (whole >> whole.dtype.type(bits)).astype(UNSIGNED[bits])]


def joined(found: list[Array], kind: Kind) -> Array:
    """Inverse of `parts`."""
    if len(found) == 1:
        return found[0]
    wide = UNSIGNED[kind.register_bits]
    low, high = (f.astype(wide) for f in found)
    return np.asarray(low | (high << wide(kind.bits)))


def number(bits: Array, kind: Kind) -> Array:
    """FP64 numbers of bits of the scalar type, subnormals read as zeros with .ftz."""
    if kind.ftz:
        bits = flushed(bits, kind.scalar)
    if kind.scalar == "bf16":
        bits = bits.astype(np.uint32) << np.uint32(16)
    return np.asarray(
        bits.view(FLOATS[max(kind.bits, 32) if kind.scalar == "bf16" else kind.bits]), np.float64
    )


def flushed(bits: Array, scalar: str) -> Array:
    """Subnormal numbers as zeros of their sign; FP64 has no .ftz."""
    exponent, sign = {
        "f16": (0x7C00, 0x8000), "bf16": (0x7F80, 0x8000), "f32": (0x7F800000, 0x80000000)
    }[scalar]  # fmt: skip
    kind = bits.dtype.type
    found: Array = np.where((bits & kind(exponent)) == 0, bits & kind(sign), bits)
    return found


def finished(value: Array, kind: Kind) -> Array:
    """Bits of FP64 results, exact or rounded to odd, as the instruction stores them."""
    if kind.sat:
        value = np.where(np.isnan(value), 0.0, np.clip(value, 0.0, 1.0))
        value = np.where(value == 0, 0.0, value)
    if kind.scalar == "f64":
        return np.asarray(np.where(np.isnan(value), NAN64, value.view(np.uint64)))
    if kind.scalar == "f32" and kind.direction == NEAREST:
        bits = value.astype(np.float32).view(np.uint32)
        bits = np.where(np.isnan(value), np.uint32(F32.nan), bits)
    else:
        code = narrow(value, FORMATS[kind.scalar], kind.direction, saturate=kind.satfinite)
        bits = code.astype(UNSIGNED[kind.bits])
    if kind.ftz:
        bits = flushed(bits, kind.scalar)
    if kind.relu:
        negative = (bits >> bits.dtype.type(kind.bits - 1)).astype(bool) & ~np.isnan(value)
        bits = np.where(negative, bits.dtype.type(0), bits)
    return np.asarray(bits)
