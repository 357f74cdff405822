"""Floating-point arithmetic: add, sub, mul, fma, and div, sqrt and rcp with a rounding.

Scalar types are f16, bf16, f32 and f64, packed ones f16x2, bf16x2 and f32x2: two scalars in one register, low
part first. Source: PTX ISA, "Floating Point Instructions", "Half Precision …" and "Mixed Precision …".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Operand
from precision_lab.emulator.reference.fused import fused
from precision_lab.emulator.reference.lanes import FLOATS, UNSIGNED, Array, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.rounding import (
    BF16,
    DIRECTIONS,
    DOWN,
    F16,
    F32,
    NAN64,
    NEAREST,
    Format,
    directed64,
    narrow,
    odd_sum,
    sign_of,
)
from precision_lab.emulator.reference.step import Step

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
        bits = narrow(value, FORMATS[kind.scalar], kind.direction).astype(UNSIGNED[kind.bits])
    if kind.ftz:
        bits = flushed(bits, kind.scalar)
    if kind.relu:
        negative = (bits >> bits.dtype.type(kind.bits - 1)).astype(bool) & ~np.isnan(value)
        bits = np.where(negative, bits.dtype.type(0), bits)
    return np.asarray(bits)


Exact = Callable[..., Array]


def arithmetic(
    operation: Exact, count: int, kinds: Callable[[Instruction], Kind], plain: Exact | None = None
) -> Callable[[Instruction], Step]:
    """A builder for an operation on `count` FP64 arrays that gives exact or odd results for the small types.

    Args:
        plain: the same on FP32 arrays, where IEEE arithmetic rounds to nearest as the instruction does.
    """

    def build(i: Instruction) -> Step:
        kind = kinds(i)
        if len(i.operands) != count + 1:
            raise unsupported(i, f"{len(i.operands)} operands")

        def one(bits: tuple[Array, ...]) -> Array:
            if plain is not None and quick:
                values = (flushed(b, "f32") if kind.ftz else b for b in bits)
                found = plain(*(v.view(np.float32) for v in values))
                stored = np.where(np.isnan(found), np.uint32(F32.nan), found.view(np.uint32))
                return flushed(stored, "f32") if kind.ftz else stored
            return finished(operation(kind, *(number(b, kind) for b in bits)), kind)

        quick = kind.scalar == "f32" and kind.direction == NEAREST and not kind.sat

        def step(lanes: Lanes, live: Mask) -> None:
            columns = zip(*(parts(lanes, i, o, kind) for o in i.operands[1:]), strict=True)
            lanes.write(i, i.operands[0], joined([one(bits) for bits in columns], kind), live)

        return step

    return build


def kind_of(i: Instruction) -> Kind:
    """Of add, sub, mul and fma, whose rounding may be left out."""
    modifiers = Modifiers(i)
    name = modifiers.type(*TYPES)
    kind = Kind(
        name, modifiers.one_of(*DIRECTIONS, default=NEAREST), modifiers.flag("ftz"), modifiers.flag("sat"),
        modifiers.flag("relu"),
    )  # fmt: skip
    modifiers.end()
    if kind.direction != NEAREST and kind.scalar in ("f16", "bf16"):
        raise unsupported(i, f"rounding .{kind.direction} of {name}")
    if (kind.ftz or kind.sat) and kind.scalar == "f64":
        raise unsupported(i, "a modifier of other types")
    if kind.relu and (i.opcode != "fma" or kind.scalar not in ("f16", "bf16")):
        raise unsupported(i, "modifier .relu")
    return kind


def _signed_zero(total: Array, direction: str, *terms: Array) -> Array:
    """A sum that is exactly 0 is +0, rounding down −0; of zeros of one sign it is that zero."""
    if direction != DOWN:
        return total
    positive = reduce(np.logical_and, ((t == 0) & ~np.signbit(t) for t in terms))
    return np.asarray(np.where((total == 0) & ~positive, -0.0, total))


def _add(kind: Kind, a: Array, b: Array) -> Array:
    if kind.scalar != "f64":
        return _signed_zero(odd_sum(a, b), kind.direction, a, b)
    a, b = np.broadcast_arrays(a, b)
    total = directed64(a + b, lambda k: _error(a[k] + b[k], a[k], b[k], add=True), kind.direction)
    return _signed_zero(total, kind.direction, a, b)


def _sub(kind: Kind, a: Array, b: Array) -> Array:
    return _add(kind, a, -b)


def _mul(kind: Kind, a: Array, b: Array) -> Array:
    if kind.scalar != "f64":
        return np.asarray(a * b)  # of two 24-bit significands: exact
    a, b = np.broadcast_arrays(a, b)
    return directed64(a * b, lambda k: _error(a[k] * b[k], a[k], b[k], add=False), kind.direction)


def _error(plain: Any, a: Any, b: Any, *, add: bool) -> int:
    if not (np.isfinite(a) and np.isfinite(b)):
        return 0
    exact = Fraction(float(a)) + Fraction(float(b)) if add else Fraction(float(a)) * Fraction(float(b))
    return sign_of(exact, float(plain))


def _fma(kind: Kind, a: Array, b: Array, c: Array) -> Array:
    if kind.scalar != "f64":
        return _signed_zero(odd_sum(a * b, c), kind.direction, a * b, c)
    a, b, c = (np.ascontiguousarray(v) for v in np.broadcast_arrays(a, b, c))
    plain = fused(a, b, c)

    def error(k: int) -> int:
        if not (np.isfinite(a[k]) and np.isfinite(b[k]) and np.isfinite(c[k])):
            return 0
        return sign_of(Fraction(float(a[k])) * Fraction(float(b[k])) + Fraction(float(c[k])), float(plain[k]))

    return _signed_zero(directed64(plain, error, kind.direction), kind.direction, a * b, c)


def _divided(kind: Kind, a: Array, b: Array) -> Array:
    """Quotients: FP64's, rounded to odd for FP32."""
    a, b = (np.ascontiguousarray(v) for v in np.broadcast_arrays(a, b))
    quotient = a / b
    if kind.scalar == "f64":

        def error(k: int) -> int:
            if not (np.isfinite(a[k]) and np.isfinite(b[k]) and b[k] != 0):
                return 0
            return sign_of(Fraction(float(a[k])) / Fraction(float(b[k])), float(quotient[k]))

        return directed64(quotient, error, kind.direction)
    # a − q·b is exact in a fused step for FP32's a and b: its sign says on which side of q the quotient is.
    rest = fused(-quotient, b, a)
    return _odd(quotient, np.where(np.signbit(b), -rest, rest))


def _root(kind: Kind, a: Array) -> Array:
    root = np.sqrt(a)
    if kind.scalar == "f64":

        def error(k: int) -> int:
            if not (np.isfinite(a[k]) and a[k] > 0):
                return 0
            exact, square = Fraction(float(a[k])), Fraction(float(root[k])) ** 2
            return (exact > square) - (exact < square)

        return directed64(root, error, kind.direction)
    return _odd(root, fused(-root, root, np.ascontiguousarray(a)))


def _odd(value: Array, rest: Array) -> Array:
    """FP64 results made odd where something is left, whose sign says on which side the exact one is."""
    bits = value.view(np.int64)
    inexact = np.isfinite(value) & np.isfinite(rest) & (rest != 0) & (value != 0)
    bits = np.where(inexact & ((rest > 0) != (value > 0)), bits - 1, bits)
    return np.where(inexact, bits | 1, bits).view(np.float64)


def correctly_rounded(i: Instruction) -> Kind:
    """Of div, sqrt and rcp with a rounding: approximate ones are models, and not here."""
    modifiers = Modifiers(i)
    name = modifiers.type("f32", "f64")
    kind = Kind(name, modifiers.one_of(*DIRECTIONS), modifiers.flag("ftz"))
    modifiers.end()
    if not kind.direction or (kind.ftz and name == "f64"):
        raise unsupported(i)
    return kind


add = arithmetic(_add, 2, kind_of, np.add)
sub = arithmetic(_sub, 2, kind_of, np.subtract)
mul = arithmetic(_mul, 2, kind_of, np.multiply)
fma = arithmetic(_fma, 3, kind_of)
div = arithmetic(_divided, 2, correctly_rounded)
sqrt = arithmetic(_root, 1, correctly_rounded)
rcp = arithmetic(lambda kind, a: _divided(kind, np.ones(1), a), 1, correctly_rounded)
