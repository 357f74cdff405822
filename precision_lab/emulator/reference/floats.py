"""Floating-point arithmetic: add, sub, mul, fma, and div, sqrt and rcp with a rounding.

Source: PTX ISA, "Floating Point Instructions", "Half Precision …" and "Mixed Precision …".
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction
from precision_lab.emulator.reference.fused import fused
from precision_lab.emulator.reference.kinds import TYPES, Kind, finished, flushed, joined, number, parts
from precision_lab.emulator.reference.lanes import Array, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.rounding import (
    DIRECTIONS,
    DOWN,
    F32,
    NEAREST,
    directed64,
    odd_sum,
    sign_of,
)
from precision_lab.emulator.reference.step import Step

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
        sources = [Kind(kind.first) if kind.first else kind] * (count - 1) + [kind]

        def one(bits: tuple[Array, ...]) -> Array:
            if plain is not None and quick:
                values = (flushed(b, "f32") if kind.ftz else b for b in bits)
                found = plain(*(v.view(np.float32) for v in values))
                stored = np.where(np.isnan(found), np.uint32(F32.nan), found.view(np.uint32))
                return flushed(stored, "f32") if kind.ftz else stored
            values = (number(b, source) for b, source in zip(bits, sources, strict=True))
            return finished(operation(kind, *values), kind)

        quick = kind.scalar == "f32" and kind.direction == NEAREST and not (kind.sat or kind.first)

        def step(lanes: Lanes, live: Mask) -> None:
            each = zip(i.operands[1:], sources, strict=True)
            columns = zip(*(parts(lanes, i, o, source) for o, source in each), strict=True)
            lanes.write(i, i.operands[0], joined([one(bits) for bits in columns], kind), live)

        return step

    return build


def kind_of(i: Instruction) -> Kind:
    """Of add, sub and mul, whose rounding may be left out, and of fma and mad, whose rounding may not."""
    modifiers = Modifiers(i)
    name, first = modifiers.type(*TYPES), ""
    if name in ("f16", "bf16") and modifiers.flag("f32"):
        name, first = "f32", name
    direction = modifiers.one_of(*DIRECTIONS)
    kind = Kind(
        name, direction or NEAREST, modifiers.flag("ftz"), modifiers.flag("sat"), modifiers.flag("relu"),
        first=first,
    )  # fmt: skip
    modifiers.end()
    small = kind.scalar in ("f16", "bf16")
    if not direction and i.opcode in ("fma", "mad"):
        raise unsupported(i, "without a rounding")
    if small and (direction not in ("", NEAREST) or i.opcode == "mad"):
        raise unsupported(i, f"rounding .{direction} of {name}")
    if (kind.ftz and kind.scalar in ("f64", "bf16")) or (kind.sat and name not in ("f32", "f16", "f16x2")):
        raise unsupported(i, f"a modifier that .{name} does not have")
    if kind.relu and (i.opcode != "fma" or not small or kind.sat):
        raise unsupported(i, "modifier .relu")
    if first and (i.opcode not in ("add", "sub", "fma") or kind.ftz):
        raise unsupported(i, f"with .{first}")
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

    total = directed64(plain, error, kind.direction)
    if kind.direction != DOWN:
        return total
    # A zero that stands for a tiny positive number stays +0, though its product may be 0 in FP64. What is
    # exactly 0 with a product other than 0 has an addend other than 0, so `_signed_zero` sees no +0 there.
    exact = np.array([not error(k) for k in range(total.size)]) & (total == 0)
    return np.where(exact, _signed_zero(total, kind.direction, a * b, c), total)


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


# The arithmetic alone, for instructions that are not PTX's.
exact_sum, exact_product, exact_fma = _add, _mul, _fma

add = arithmetic(_add, 2, kind_of, np.add)
sub = arithmetic(_sub, 2, kind_of, np.subtract)
mul = arithmetic(_mul, 2, kind_of, np.multiply)
fma = arithmetic(_fma, 3, kind_of)
div = arithmetic(_divided, 2, correctly_rounded)
sqrt = arithmetic(_root, 1, correctly_rounded)
rcp = arithmetic(lambda kind, a: _divided(kind, np.ones(1), a), 1, correctly_rounded)
