"""What NVIDIA's manual promises of each approximate instruction, as data.

Source of every statement: "Parallel Thread Execution ISA", version 9.1, in the section that is named;
`statement` puts it in our words. Where the manual leaves something open, the wider reading is taken, except
where `Bound` says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

ULPS_OF_ROUNDED = 0  # from the correctly rounded result, in its ulps
ULPS = 1  # from the exact value, in its ulps
RELATIVE = 2
ABSOLUTE = 3
NOTHING = 4

_ALL = (0.0, math.inf)
PI = 3.141592653589793  # no float32 lies between this and π, nor between their multiples by 2 and 100


@dataclass(frozen=True)
class Piece:
    """An error that is promised for some inputs.

    Attributes:
        measure: what `size` is of; one of the constants above.
        size: ulps, or the base-2 logarithm of the absolute or relative error.
        inside: the smallest and the largest |x| that it is promised for; of div, |b|.
    """

    measure: int
    size: Fraction = Fraction(0)
    inside: tuple[float, float] = _ALL


@dataclass(frozen=True)
class Bound:
    """The numbers that a conforming device may return.

    An error in ulps is of the binade of what it is measured from, without a largest exponent: just below a
    power of two floats are half an ulp apart, so that two ulps there are four floats. A relative error of a
    value below the smallest normal number is taken of that number, as no format keeps it there. Infinity
    stands for all numbers from 2^(emax+1) on. Where the error is in ulps or relative, results have the sign
    of the exact value: the manual says nothing of it, and would allow 2^-200 to come out as −2^-149.

    Attributes:
        section: of the manual.
        statement: what it promises.
        pieces: the first whose interval holds the input counts; where none does, nothing is promised.
        lowest, highest: by how many floats the extreme conforming results of any input differ from the
            correctly rounded one, in the order of the reals; None where inputs have more than a few.
    """

    section: str
    statement: str
    pieces: tuple[Piece, ...]
    lowest: int | None = None
    highest: int | None = None

    @property
    def is_universal(self) -> bool:
        """Whether something is promised for every input."""
        return any(p.inside == _ALL for p in self.pieces)

    @property
    def keeps_sign(self) -> bool:
        return all(p.measure in (ULPS_OF_ROUNDED, ULPS, RELATIVE) for p in self.pieces)


def _ulps(n: int, inside: tuple[float, float] = _ALL) -> Piece:
    return Piece(ULPS, Fraction(n), inside)


def _relative(exponent: str, inside: tuple[float, float] = _ALL) -> Piece:
    return Piece(RELATIVE, Fraction(exponent), inside)


def _absolute(exponent: str, inside: tuple[float, float] = _ALL) -> Piece:
    return Piece(ABSOLUTE, Fraction(exponent), inside)


_PERIODIC = (_absolute("-20.5", (0.0, 2 * PI)), _absolute("-14.7", (0.0, 100 * PI)))
_PERIODIC_WORDS = "absolute error at most 2^-20.5 for |x| ≤ 2π and 2^-14.7 for |x| ≤ 100π; beyond, no promise"

BOUNDS: Mapping[str, Bound] = MappingProxyType({
    "ex2.approx.f32": Bound(
        "9.7.3.21",
        "at most 2 ulps from the correctly rounded result, for all inputs; exactly 1 only at ±0",
        (Piece(ULPS_OF_ROUNDED, Fraction(2)),), -4, 2,
    ),
    "lg2.approx.f32": Bound(
        "9.7.3.20",
        "absolute error at most 2^-22 for x in the open interval (0.5, 2), relative error at most 2^-22 for "
        "other positive finite x",
        (_absolute("-22", (0.5 + 2.0**-24, 2 - 2.0**-23)), _relative("-22")),
    ),
    "rcp.approx.f32": Bound(
        "9.7.3.13", "at most 1 ulp, for all inputs", (_ulps(1),), -2, 2,
    ),
    "rsqrt.approx.f32": Bound(
        "9.7.3.16", "relative error at most 2^-22.9, for all positive finite x", (_relative("-22.9"),), -2, 2,
    ),
    "sqrt.approx.f32": Bound(
        "9.7.3.15", "relative error at most 2^-23, for all positive finite x", (_relative("-23"),), -2, 2,
    ),
    "tanh.approx.f32": Bound(
        "9.7.3.22", "relative error at most 2^-11, for all inputs; subnormal inputs are passed through",
        (_relative("-11"),),
    ),
    "sin.approx.f32": Bound("9.7.3.18", _PERIODIC_WORDS, _PERIODIC),
    "cos.approx.f32": Bound("9.7.3.19", _PERIODIC_WORDS, _PERIODIC),
    # The manual has no table for div: IEEE's results are taken where an operand is 0, infinite or NaN.
    "div.approx.f32": Bound(
        "9.7.3.8",
        "at most 2 ulps for 2^-126 ≤ |b| ≤ 2^126; for larger finite b a zero with the quotient's sign, or "
        "NaN if a is infinite; computed as a·(1/b). Of subnormal b nothing is said",
        (_ulps(2, (2.0**-126, 2.0**126)),), -4, 4,
    ),
    "div.full.f32": Bound(
        "9.7.3.8", "at most 2 ulps, for all inputs; operands are scaled", (_ulps(2),), -4, 4,
    ),
    "ex2.approx.f16": Bound("9.7.4.10", "relative error at most 2^-9.9", (_relative("-9.9"),), -2, 2),
    "ex2.approx.bf16": Bound("9.7.4.10", "relative error at most 2^-7", (_relative("-7"),), -2, 2),
    "tanh.approx.f16": Bound("9.7.4.9", "absolute error at most 2^-10.987", (_absolute("-10.987"),)),
    "tanh.approx.bf16": Bound("9.7.4.9", "absolute error at most 2^-8", (_absolute("-8"),)),
    # "A fast, gross approximation": no number.
    "rcp.approx.f64": Bound("9.7.3.14", "of the upper 32 bits alone; no error is promised", ()),
    "rsqrt.approx.f64": Bound("9.7.3.17", "of the upper 32 bits alone; no error is promised", ()),
})  # fmt: skip


def operation(name: str) -> str:
    """What an approximate instruction is called in `BOUNDS`, by its name in a program: "ex2.approx.f32" also
    where it flushes or is of a pair.
    """
    opcode, *modifiers = name.split(".")
    how = "full" if "full" in modifiers else "approx"
    return f"{opcode}.{how}.{''.join(modifiers[-1:]).removesuffix('x2')}"
