"""Rounds an enclosure of a real number into a format, or says that it cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mpmath.libmp import (
    from_man_exp,
    fzero,
    mpf_abs,
    mpf_add,
    mpf_sub,
    to_float,
    to_int,
)
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Every reported ulp error is certified to this.
CERTIFIED_ULPS = 2.0**-10


@dataclass(frozen=True)
class Rounded:
    """Exact values relative to a format; arrays of one shape.

    Attributes:
        rounded: correct rounding, as float64; overflow as the format has it.
        tail: (exact − rounded) in ulps; 0 where `rounded` is not finite.
        tail_error: bound on the error of `tail`, in ulps.
        ulp: ulp of the exact value.
        decided: the rounding and the ulp are certain and tail_error ≤ 2^-10.
    """

    rounded: Float64
    tail: Float64
    tail_error: Float64
    ulp: Float64
    decided: Bool


def round_enclosure(
    high: Float64,
    low: Float64,
    radius: Float64,
    fmt: FloatFormat,
    *,
    saturating: bool = False,
    nudge: NDArray[np.int8] | None = None,
) -> Rounded:
    """Correct rounding of every number in high + low ± radius, where there is only one.

    Args:
        high, low: |low| ≤ ulp(high)/2; finite. Shape (n,).
        radius: nonnegative or NaN (nothing is known), shape (n,).
        nudge: where the radius is 0, the sign of an infinitesimal that the exact value has beyond
            high + low: too small to reach another boundary, it decides ties and powers of two.
    """
    size = np.abs(high)
    outward = np.zeros(size.shape, np.int8) if nudge is None else np.where(high < 0, -nudge, nudge)
    # An exact value just below a power of two has the smaller binade's ulp.
    signed_low = np.where(high < 0, -low, low)
    toward_zero = (signed_low < 0) | ((low == 0) & (outward < 0))
    fraction, exponent = np.frexp(size)
    exponent = np.where(size == 0, fmt.emin, exponent - 1 - ((fraction == 0.5) & toward_zero))
    exponent = np.clip(exponent, fmt.emin, fmt.emax)
    ulp = np.ldexp(1.0, exponent - fmt.fraction_bits)
    # The ulp is certain if the whole enclosure lies in one binade (or below 2^emin).
    bottom = np.where(exponent > fmt.emin, np.ldexp(1.0, exponent), 0.0)
    top = np.where(exponent < fmt.emax, np.ldexp(1.0, np.minimum(exponent, fmt.emax - 1) + 1), np.inf)
    signed_low = np.where(high < 0, -low, low)
    # high − bottom and top − high are exact or far from the radius; low and radius are tiny beside them.
    reach = radius * (1 + 2.0**-40)  # covers the rounding of the sums it is compared with
    one_binade = (radius == 0) | (
        ((bottom == 0) | ((size - bottom) + signed_low > reach)) & ((top - size) - signed_low > reach)
    )
    scaled = high / ulp  # exact: a power of two
    whole = np.rint(scaled)
    tail = scaled - whole  # exact: both are multiples of the last bit of `scaled`
    scaled_low = low / ulp
    tail, lost = _two_sum(tail, scaled_low)
    error = radius / ulp + np.abs(lost)
    pushed = np.zeros(size.shape) if nudge is None else nudge * np.sign(tail)
    tie = np.abs(tail) == 0.5
    over = (np.abs(tail) > 0.5) | (tie & (pushed > 0))
    odd_tie = tie & (pushed == 0) & (np.mod(whole, 2) == 1)
    step = np.where(over | odd_tie, np.sign(tail), 0.0)
    whole, tail = whole + step, tail - step
    # A low part that underflows here would turn a number beside a tie into the tie itself.
    exact = (radius == 0) & (lost == 0) & (scaled_low * ulp == low)
    # 2^-40: the sums above round by less than that.
    clear = exact | (0.5 - np.abs(tail) > error * (1 + 2.0**-40))
    with np.errstate(over="ignore"):
        direction = np.where(high == 0, low if nudge is None else nudge, high)
        number = np.copysign(whole * ulp, direction)
    number = fmt.overflow(number, saturating=saturating)
    saturated = np.isfinite(number) & (np.abs(whole * ulp) > fmt.max_finite)
    off_scale = ~np.isfinite(number) | saturated
    decided = one_binade & clear & (error <= CERTIFIED_ULPS)
    # Far beyond the overflow threshold the ulp says nothing; being beyond is what counts.
    beyond = size * (1 - 2.0**-50) - radius > fmt.overflow_threshold
    decided = np.where(off_scale, (one_binade & clear) | beyond, decided)
    zero = np.zeros_like(tail)
    return Rounded(
        number,
        np.where(off_scale, zero, tail),
        np.where(off_scale, zero, error),
        np.where(np.isfinite(ulp), ulp, np.inf),
        decided & np.isfinite(high) & ~np.isnan(radius),
    )


def _two_sum(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


def round_ball(
    middle: Any, radius: Any, fmt: FloatFormat, *, saturating: bool = False
) -> tuple[float, float, float, float, bool]:
    """`round_enclosure` of one mpmath ball (raw libmp numbers), for values float64 cannot hold.

    Returns:
        rounded, tail, tail_error, ulp, decided.
    """
    low = mpf_sub(mpf_abs(middle), radius)
    high = mpf_add(mpf_abs(middle), radius)
    exponent, exponent_high = (max(_exponent(v), fmt.emin) for v in (low, high))
    one_binade = exponent == exponent_high
    exponent = min(exponent_high, fmt.emax)
    shift = fmt.fraction_bits - exponent
    scaled = (middle[0], middle[1], middle[2] + shift, middle[3]) if middle != fzero else fzero
    whole = to_int(scaled, "n")  # ties to even
    tail_exact = mpf_sub(scaled, from_man_exp(whole, 0))
    tail = to_float(tail_exact)
    scaled_radius = (radius[0], radius[1], radius[2] + shift, radius[3]) if radius != fzero else fzero
    error = to_float(scaled_radius, rnd="u")
    clear = error == 0 or 0.5 - abs(tail) > error * (1 + 2.0**-40) + 2.0**-60
    beyond_max = abs(whole) > fmt.max_significand and exponent == fmt.emax
    sign = -1.0 if middle[0] else 1.0
    ulp = to_float(from_man_exp(1, -shift))
    if beyond_max:
        number = float(fmt.overflow(np.array([sign * np.inf]), saturating=saturating)[0])
        return number, 0.0, 0.0, ulp, clear and (one_binade or exponent_high > fmt.emax)
    number = sign * abs(to_float(from_man_exp(whole, -shift)))
    return number, tail, error, ulp, one_binade and clear and error <= CERTIFIED_ULPS


def _exponent(value: Any) -> int:
    """floor(log2 |v|) of a raw libmp number; far below every format for zero."""
    return -(1 << 30) if value == fzero or value[0] else int(value[2] + value[3] - 1)


__all__ = ["CERTIFIED_ULPS", "Rounded", "round_ball", "round_enclosure"]
