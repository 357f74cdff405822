"""Rounding to a format in fractions: what the lab's own rounding is held to."""

from __future__ import annotations

import math
from fractions import Fraction

from precision_lab.formats import FloatFormat


def exact_ulp(value: Fraction, fmt: FloatFormat, *, capped: bool = True) -> Fraction:
    """2^(max(e, emin) − p + 1); e is capped at emax, beyond which no ulp is ever reported."""
    exponent = fmt.emin
    if value:
        size = abs(value)
        exponent = size.numerator.bit_length() - size.denominator.bit_length()
        exponent -= Fraction(2) ** exponent > size
    exponent = max(exponent, fmt.emin)
    if capped:
        exponent = min(exponent, fmt.emax)
    return Fraction(2) ** (exponent - fmt.precision + 1)


def exact_rounding(value: Fraction, fmt: FloatFormat, saturating: bool = False) -> float:
    """Nearest number of the format, ties to even, as IEEE 754, OFP8 and OCP MX have overflow."""
    ulp = exact_ulp(value, fmt)
    number = round(abs(value) / ulp) * ulp  # Python rounds fractions to even
    if number > fmt.max_significand * Fraction(2) ** (fmt.emax - fmt.precision + 1):
        saturating = saturating or fmt.name in ("e3m2", "e2m3", "e2m1")
        number_ = fmt.max_finite if saturating else math.inf if fmt.has_infinity else math.nan
        return math.copysign(number_, -1 if value < 0 else 1)
    return math.copysign(float(number), -1 if value < 0 else 1)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def overflowed(value: Fraction, rounded: float, fmt: FloatFormat) -> bool:
    """Whether a number became infinity or NaN, or the largest number in a format that has neither."""
    if fmt.has_nan:
        return not math.isfinite(rounded)
    return abs(value) >= Fraction(fmt.overflow_threshold)
