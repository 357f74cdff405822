"""What the scripts suppose of e^x and ln 2, which Gappa does not know: derived in words, the numbers by Arb.

Each function returns a pair of Arb numbers; the first must be at most the second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import exponential_claims as claims
from flint import arb, ctx

from precision_lab.oracle import exponential as code

BITS = 300
SAMPLES = 512


def real(value: float | Fraction) -> Any:
    """A ball around a rational number; a float64 number is one without a radius."""
    exact = Fraction(value)
    return arb(exact.numerator) / arb(exact.denominator)


def ln2_is_split(low: float = code.LN2_LOW) -> tuple[Any, Any]:
    """|ln 2 − LN2_HIGH − LN2_LOW| ≤ LN2_REST."""
    return abs(arb(2).log() - real(code.LN2_HIGH) - real(low)), real(code.LN2_REST)


def shift_stretches() -> tuple[Any, Any]:
    """|e^d − 1| ≤ STRETCH for |d| ≤ SHIFT: the largest is e^SHIFT − 1."""
    return real(claims.SHIFT).expm1(), real(claims.STRETCH)


def exp_from_below() -> tuple[Any, Any]:
    """EXP_LOW ≤ e^r for |r| ≤ REDUCED + SHIFT, where the exact reduced argument lies."""
    return real(claims.EXP_LOW), (-real(code.REDUCED) - real(claims.SHIFT)).exp()


def exp_from_above() -> tuple[Any, Any]:
    """e^r ≤ EXP_HIGH for the same r."""
    return (real(code.REDUCED) + real(claims.SHIFT)).exp(), real(claims.EXP_HIGH)


def far_series_leaves_out(terms: int = len(code._C)) -> tuple[Any, Any]:
    """|Σ_{k≥14} r^(k−2)/k!| ≤ FAR_REST for |r| ≤ REDUCED: largest at REDUCED, where no term is negative."""
    r = real(code.REDUCED)
    left = r.expm1() - r
    for k in range(2, 2 + terms):
        left -= r**k / math.factorial(k)
    return left / r**2, real(claims.FAR_REST)


def near_series_leaves_out(x: Any, terms: int = len(code._D)) -> tuple[Any, Any]:
    """|Σ_{k≥19} x^(k−2)/k!| ≤ 1/19! for −1 ≤ x ≤ 0: Lagrange's e^ξ·|x|^17/19! with ξ ≤ 0."""
    left = x.expm1() - x
    for k in range(2, 2 + terms):
        left -= x**k / math.factorial(k)
    return abs(left / x**2), real(claims.NEAR_REST)


def near_sum_from_below(x: Any) -> tuple[Any, Any]:
    """NEAR_LOW ≤ (e^x − 1 − x)/x² = ∫₀¹ (1−t)·e^(xt) dt, which increases in x: 1/e at −1."""
    return real(claims.NEAR_LOW), (x.expm1() - x) / x**2


def near_sum_from_above(x: Any) -> tuple[Any, Any]:
    """The same is at most 1/2, its value at 0."""
    return (x.expm1() - x) / x**2, real(0.5)


def q_is_a_share_of_expm1(x: Any) -> tuple[Any, Any]:
    """(e^x − 1 − x)/(1 − e^x) ≤ SHARE: with t = −x it is w/(1 − w), w = 1 − (1 − e^−t)/t, increasing in t."""
    return (x.expm1() - x) / -x.expm1(), real(claims.SHARE)


NUMBERS = (ln2_is_split, shift_stretches, exp_from_below, exp_from_above, far_series_leaves_out)
ON_UNIT = (near_series_leaves_out, near_sum_from_below, near_sum_from_above, q_is_a_share_of_expm1)


def unit_points() -> Iterator[Any]:
    """−1, where all but one of the four are largest, and points up to −1/SAMPLES."""
    for k in range(SAMPLES, 0, -1):
        yield -arb(k) / SAMPLES


class Precision:
    """Arb's precision within a block."""

    def __enter__(self) -> None:
        self.before, ctx.prec = ctx.prec, BITS

    def __exit__(self, *_: object) -> None:
        ctx.prec = self.before
