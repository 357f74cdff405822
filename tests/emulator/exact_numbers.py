"""Binary floating point in fractions: every operation exact, then rounded once, in each of PTX's modes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import NamedTuple


class Number(NamedTuple):
    """A sign (0 or 1) and a magnitude; infinite or no number where `kind` says so."""

    kind: str
    sign: int
    magnitude: Fraction


NAN = Number("nan", 0, Fraction(0))


def finite(sign: int, magnitude: Fraction) -> Number:
    return Number("finite", sign, magnitude)


def of(value: Fraction) -> Number:
    return finite(int(value < 0), abs(value))


@dataclass(frozen=True)
class Binary:
    """An IEEE format of `width` bits and `digits` digits, the leading one included."""

    width: int
    digits: int
    nan: int

    @property
    def emax(self) -> int:
        return (1 << (self.width - self.digits - 1)) - 1

    @property
    def emin(self) -> int:
        return 1 - self.emax

    @property
    def infinity(self) -> int:
        return ((1 << (self.width - self.digits)) - 1) << (self.digits - 1)

    def number(self, bits: int) -> Number:
        return _number(self, bits)

    def bits(self, value: Number, mode: str = "rn", *, satfinite: bool = False) -> int:
        """A number, rounded; "rna" is to nearest, ties away from zero."""
        top = value.sign << (self.width - 1)
        if value.kind == "nan":
            return self.nan
        if value.kind == "inf":
            return top | (self.infinity - satfinite)
        size = value.magnitude
        if not size:
            return top
        exponent = size.numerator.bit_length() - size.denominator.bit_length()
        exponent -= Fraction(2) ** exponent > size
        exponent = max(exponent, self.emin)
        scaled = size / Fraction(2) ** (exponent - self.digits + 1)
        kept, rest = divmod(scaled, 1)
        half = Fraction(1, 2)
        up = {
            "rz": False,
            "rn": rest > half or (rest == half and kept % 2 == 1),
            "rna": rest >= half,
            "rm": rest > 0 and value.sign == 1,
            "rp": rest > 0 and value.sign == 0,
        }[mode]
        code = ((exponent - self.emin) << (self.digits - 1)) + int(kept) + up
        if code >= self.infinity:
            inward = (
                satfinite
                or mode == "rz"
                or (mode == "rm" and not value.sign)
                or (mode == "rp" and value.sign)
            )
            code = self.infinity - bool(inward)
        return top | code

    def flushed(self, bits: int) -> int:
        """Zero of the same sign for what is subnormal."""
        top = bits & 1 << (self.width - 1)
        return top if (bits ^ top) < 1 << (self.digits - 1) else bits

    def saturated(self, bits: int) -> int:
        """Clamped to [+0, 1]; of a NaN, +0."""
        value = self.number(bits)
        if value.kind == "nan" or value.sign:
            return 0
        one = self.emax << (self.digits - 1)
        return min(bits, one)


@cache
def _number(fmt: Binary, bits: int) -> Number:
    sign, code = bits >> (fmt.width - 1), bits & ((1 << (fmt.width - 1)) - 1)
    if code > fmt.infinity:
        return NAN
    if code == fmt.infinity:
        return Number("inf", sign, Fraction(0))
    field, fraction = code >> (fmt.digits - 1), code & ((1 << (fmt.digits - 1)) - 1)
    if field:
        fraction += 1 << (fmt.digits - 1)
    return finite(sign, fraction * Fraction(2) ** (max(field, 1) - fmt.emax - fmt.digits + 1))


F16, BF16 = Binary(16, 11, 0x7FFF), Binary(16, 8, 0x7FFF)
F32, F64 = Binary(32, 24, 0x7FFFFFFF), Binary(64, 53, 0x7FF8000000000000)
FORMATS = {"f16": F16, "bf16": BF16, "f32": F32, "f64": F64}


def product(a: Number, b: Number) -> Number:
    sign = a.sign ^ b.sign
    if "nan" in (a.kind, b.kind):
        return NAN
    if "inf" in (a.kind, b.kind):
        zero = any(n.kind == "finite" and not n.magnitude for n in (a, b))
        return NAN if zero else Number("inf", sign, Fraction(0))
    return finite(sign, a.magnitude * b.magnitude)


def total(a: Number, b: Number, mode: str) -> Number:
    if "nan" in (a.kind, b.kind):
        return NAN
    if a.kind == "inf" or b.kind == "inf":
        if a.kind == b.kind and a.sign != b.sign:
            return NAN
        return a if a.kind == "inf" else b
    value = (a.magnitude if not a.sign else -a.magnitude) + (b.magnitude if not b.sign else -b.magnitude)
    if value:
        return of(value)
    return finite(a.sign if a.sign == b.sign else int(mode == "rm"), Fraction(0))


def quotient(a: Number, b: Number) -> Number:
    sign = a.sign ^ b.sign
    if "nan" in (a.kind, b.kind) or a.kind == b.kind == "inf":
        return NAN
    if b.kind == "inf":
        return finite(sign, Fraction(0))
    if a.kind == "inf":
        return Number("inf", sign, Fraction(0))
    if not b.magnitude:
        return Number("inf", sign, Fraction(0)) if a.magnitude else NAN
    return finite(sign, a.magnitude / b.magnitude)


def root(a: Number) -> Number:
    """The square root to 200 digits; one that is not exact is so much above that none takes it for exact."""
    if a.kind == "nan" or (a.sign and (a.kind == "inf" or a.magnitude)):
        return NAN
    if a.kind == "inf" or not a.magnitude:
        return a
    scale = 1 << 2 * (200 + 1100)
    scaled = a.magnitude * scale
    assert scaled.denominator == 1
    found = math.isqrt(scaled.numerator)
    inexact = found * found != scaled.numerator
    return finite(0, (found + Fraction(inexact, 2)) / math.isqrt(scale))


def exact(operation: str, numbers: list[Number], mode: str) -> Number:
    """add, sub, mul, fma, div, rcp or sqrt."""
    if operation == "add":
        return total(numbers[0], numbers[1], mode)
    if operation == "sub":
        return total(numbers[0], numbers[1]._replace(sign=1 - numbers[1].sign), mode)
    if operation == "mul":
        return product(numbers[0], numbers[1])
    if operation == "fma":
        return total(product(numbers[0], numbers[1]), numbers[2], mode)
    if operation == "div":
        return quotient(numbers[0], numbers[1])
    if operation == "rcp":
        return quotient(of(Fraction(1)), numbers[0])
    return root(numbers[0])
