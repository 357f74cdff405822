"""Scales against the rule that they are to follow, and codes against the nearest ones.

Each code is held to the exact quotient of its element by the scale that was *given*: a wrong scale does not
excuse it, nor it a scale. All of it is float64 arithmetic that is exact where it decides: elements have at
most 24 bits, scales 24, and a midpoint between two codes at most 8, so that midpoint·scale has 32 of 53.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from package import Quantiser

from precision_lab.formats import get_format

SCALE_ULPS = 2.0  # of FP32, of a scale that is no power of two: what a quotient in Triton promises
Array = np.ndarray


@dataclass(frozen=True)
class Codes:
    """Values of the codes of a format, without sign, ascending: what rounding chooses from."""

    values: Array
    bits: int
    nans: tuple[int, ...]
    has_infinity: bool

    @classmethod
    def of(cls, name: str) -> Codes:
        if name == "int8":
            return cls(np.arange(128.0), 8, (), False)
        fmt = get_format(name)
        values = fmt.decode(np.arange(2 ** (fmt.bits - 1), dtype=np.uint64)).astype(np.float64)
        nans = tuple(np.flatnonzero(np.isnan(values)))
        return cls(values[np.isfinite(values)], fmt.bits, nans, bool(np.isinf(values).any()))

    @property
    def top(self) -> float:
        return float(self.values[-1])

    def decode(self, codes: Array) -> Array:
        if self.bits == 8 and not self.nans and not self.has_infinity:
            return codes.astype(np.int8).astype(np.float64)
        sign = np.where(codes >> (self.bits - 1), -1.0, 1.0)
        size = codes & (2 ** (self.bits - 1) - 1)
        beyond = np.where(np.isin(size, self.nans), math.nan, math.inf)
        return sign * np.where(
            size < self.values.size, self.values[np.minimum(size, self.values.size - 1)], beyond
        )


def _exponent(x: Array) -> Array:
    """⌊log₂ x⌋, exact."""
    return np.frexp(x)[1] - 1


def _power(exponent: Array) -> Array:
    """2^exponent as E8M0 has it: from 2^-127 to 2^127."""
    return np.ldexp(1.0, np.clip(exponent, -127, 127))


def _up(amax: Array, top: float) -> Array:
    """⌈log₂(amax/top)⌉: amax and top are compared without a quotient."""
    exponent = _exponent(amax) - _exponent(np.float64(top))
    return exponent + (amax > np.ldexp(top, exponent))


def _down(amax: Array, top: float) -> Array:
    exponent = _exponent(amax) - _exponent(np.float64(top))
    return exponent - (amax < np.ldexp(top, exponent))


def _even(amax: Array, codes: Codes) -> Array:
    """⌊log₂⌋ of amax rounded to the significand of the codes, less the exponent of their largest."""
    step = codes.values[-1] - codes.values[-2]
    p = int(_exponent(codes.values[-1] / step)) + 1
    significand, exponent = np.frexp(amax)
    return _exponent(np.ldexp(np.round(np.ldexp(significand, p)), exponent - p)) - _exponent(
        np.float64(codes.top)
    )


# From the largest magnitude of a block, which is not 0, to its scale; a power of two, or a real number.
RULES: dict[str, Callable[[Array, Codes], Array] | None] = {
    "amax/max": None,
    "amax/max rounded up to a power of two": lambda amax, codes: _power(_up(amax, codes.top)),
    "amax/max rounded down to a power of two": lambda amax, codes: _power(_down(amax, codes.top)),
    # OCP Microscaling Formats 1.0, 6.3: the exponent of amax less that of the largest code.
    "exponent of amax": lambda amax, codes: _power(_exponent(amax) - _exponent(np.float64(codes.top))),
    "exponent of amax rounded up": lambda amax, codes: _power(
        _exponent(amax) + (np.frexp(amax)[0] > 0.5) - _exponent(np.float64(codes.top))
    ),
    "exponent of amax rounded to the significand": lambda amax, codes: _power(_even(amax, codes)),
    "given": None,
}


@dataclass
class Judged:
    """Of one case: the worst of its scales and codes, each with where it is."""

    blocks: int
    scale_ulps: float = 0.0
    wrong_scales: int = 0
    code_steps: float = 0.0
    wrong_codes: int = 0
    wrong_ties: int = 0
    tie_witness: tuple[float, float, float] | None = None  # x, scale, value
    nonfinite: int = 0
    scale_witness: tuple[float, float, float] | None = None  # amax, scale, what the rule gives
    code_witness: tuple[float, float, float, float] | None = None  # x, scale, value, error in steps
    nonfinite_witness: tuple[float, float, float] | None = None  # x, scale, value


def judge(x: Array, codes: Array, scales: Array, quantiser: Quantiser) -> Judged:
    """
    Args:
        x, codes: shape (blocks, elements).
        scales: shape (blocks,).
    """
    table = Codes.of(quantiser.format)
    found = Judged(x.shape[0])
    amax = np.maximum(np.max(np.abs(x), axis=1), quantiser.eps)
    some = amax > 0
    usable = np.isfinite(scales) & (scales > 0)
    values = table.decode(codes)
    bad = ~np.isfinite(values) | (some & ~usable)[:, None]
    if bad.any():
        at = np.unravel_index(int(np.argmax(bad)), bad.shape)
        found.nonfinite = int(bad.sum())
        found.nonfinite_witness = float(x[at]), float(scales[at[0]]), float(values[at])
    _judge_scales(found, amax, scales, some & usable, quantiser, table)
    _judge_codes(found, x, values, scales, usable, table)
    return found


def _judge_scales(
    found: Judged, amax: Array, scales: Array, these: Array, quantiser: Quantiser, table: Codes
) -> None:
    rule = RULES[quantiser.scale]
    if quantiser.scale == "given" or not these.any():
        return
    amax, scales = amax[these], scales[these]
    if rule is None:
        # float64: exact but for 2^-53 of it. FP32 numbers below 2^-126 have the ulp of that binade.
        expected = amax / table.top
        ulp = np.ldexp(1.0, np.maximum(_exponent(expected), -126) - 23)
        error = (scales - expected) / ulp
    else:
        expected = rule(amax, table)
        error = (scales - expected) / np.ldexp(expected, -23)  # 0 of the same power of two, else 2^22 or more
    limit = SCALE_ULPS if rule is None else 0.0
    worst = int(np.argmax(np.abs(error)))
    found.scale_ulps = float(abs(error[worst]))
    found.wrong_scales = int((np.abs(error) > limit).sum())
    if found.wrong_scales:
        found.scale_witness = float(amax[worst]), float(scales[worst]), float(expected[worst])


def _judge_codes(found: Judged, x: Array, values: Array, scales: Array, usable: Array, table: Codes) -> None:
    """Errors in steps, the distance of the two codes around the exact quotient, which is saturated."""
    if not usable.any():
        return
    x, values, scales = x[usable], values[usable], scales[usable][:, None]
    # INT8 ends at -127 or at -128: both are in use, and a code of -128 says which.
    least = table.top + 1 if (values == -table.top - 1).any() else table.top
    top = np.where(x < 0, least, table.top)
    size = np.minimum(np.abs(x), top * scales)  # saturated; exact: 8 bits by 24
    below = np.clip(np.searchsorted(table.values, size / scales, side="right") - 1, 0, table.values.size - 2)
    low, high = table.values[below], table.values[below + 1]
    # The quotient may have been rounded up to a code or down from one: then it lies at that code's end.
    step = high - low
    error = np.abs(values * scales - np.copysign(size, x)) / (step * scales)
    # A tie goes to the even code.
    middle = (low + high) / 2 * scales
    even = np.where(below % 2 == 0, low, high)
    ties = (size == middle) & (error <= 0.5) & (np.abs(values) != even)
    far = error > 0.5
    error = np.where(np.isfinite(error), error, 0.0)
    worst = np.unravel_index(int(np.argmax(np.where(far, error, -1.0))), error.shape)
    found.code_steps = float(error.max())
    found.wrong_codes, found.wrong_ties = int(far.sum()), int(ties.sum())
    if found.wrong_ties:
        at = np.unravel_index(int(np.argmax(ties)), ties.shape)
        found.tie_witness = float(x[at]), float(scales[at[0], 0]), float(values[at])
    if found.wrong_codes:
        found.code_witness = tuple(
            float(v) for v in (x[worst], scales[worst[0], 0], values[worst], error[worst])
        )  # type: ignore[assignment]
