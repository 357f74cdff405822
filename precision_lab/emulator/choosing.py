"""From an exact value to one of the floats that a bound allows, compiled for one format and one bound.

A float is numbered by its ordinal: 0 for both zeros, 1 for the smallest positive number, negative ones
below, the infinities on both ends. Ordinals run on where floats stop: the number of the infinity's is
2^(emax+1), which is how `bounds` counts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from precision_lab.emulator.bounds import NOTHING, RELATIVE, ULPS, ULPS_OF_ROUNDED, Bound, Piece
from precision_lab.emulator.exact import exponent, power_of_two, scale, sticky
from precision_lab.formats import FloatFormat
from precision_lab.numeric.error_free import dd_plus_dd, dd_times_dd
from precision_lab.numeric.jit import bits_to_float, bits_to_float32, compiled, float32_to_bits, float_to_bits

Function = Callable[..., Any]

# What `Described` can be asked for.
LOW, HIGH, SIDE, PROMISED = range(4)
_DOWN, _NEAREST, _UP = -1, 0, 1


def compiled_as(tag: str) -> Callable[[Function], Function]:
    """A decorator: compiled under a name of its own.

    Code from disk brings along the symbols of the process that made it, in which functions of one name are
    told apart by a running number. Those of this process begin anew: without a name of their own two
    functions made from the same lines would be one symbol, and the wrong one be called.
    """

    def decorate(function: Function) -> Function:
        return compiled(named(function, tag))

    return decorate


def named(function: Function, tag: str) -> Function:
    """The function, under a name of its own: see `compiled_as`."""
    function.__name__ = function.__qualname__ = f"{function.__name__}_{tag}"
    return function


@compiled
def _ordinal(w: float, direction: int, precision: int, emin: int, infinity: int) -> int:
    """The ordinal of w rounded down, up or to nearest even, for |w| ≤ 2^990.

    The scaled significand is exact: a power of two away from w, and not below 2^-1000.
    """
    a = abs(w)
    if a == math.inf:
        n = infinity
    else:
        e = max(exponent(a), emin)
        scaled = a * scale(precision - 1 - e)
        if direction == _NEAREST:
            scaled = np.rint(scaled)
        elif (direction == _UP) == (w > 0.0):
            scaled = np.ceil(scaled)
        else:
            scaled = np.floor(scaled)
        n = min(((e - emin) << (precision - 1)) + int(scaled), infinity)
    return -n if w < 0.0 else n


@compiled
def _number(ordinal: int, precision: int, emin: int) -> float:
    """The number with an ordinal, as if floats did not stop at emax."""
    a, hidden = abs(ordinal), 1 << (precision - 1)
    if a < hidden:
        value = float(a) * scale(emin - precision + 1)
    else:
        value = float((a & (hidden - 1)) | hidden) * scale((a >> (precision - 1)) + emin - precision)
    return -value if ordinal < 0 else value


def _constants(piece: Piece | None) -> tuple[float, float, int, float, float]:
    if piece is None:
        return -1.0, -1.0, NOTHING, 0.0, 0.0
    in_ulps = piece.measure in (ULPS, ULPS_OF_ROUNDED)
    size = (float(piece.size), 0.0) if in_ulps else power_of_two(piece.size)
    return (*piece.inside, piece.measure, *size)


def _limits(fmt: FloatFormat, bound: Bound, tag: str) -> Function:
    """Compiled: the ordinals of the extreme floats that conform, and whether anything is promised.

    Their ends are sums of pairs, within 2^-104; `sticky` then decides on which side of a float one lies.
    """
    if len(bound.pieces) > 2:
        raise NotImplementedError("bounds of more than two pieces")
    first, second = (_constants(p) for p in [*bound.pieces, None, None][:2])
    low1, high1, measure1, size1, rest1 = first
    low2, high2, measure2, size2, rest2 = second
    precision, emin, infinity = fmt.precision, fmt.emin, _infinity(fmt)
    smallest, keeps_sign = 2.0**emin, bound.keeps_sign

    @compiled_as(tag)
    def limits(h: float, tail: float, w: float, nominal: int, magnitude: float) -> tuple[int, int, bool]:
        measure, size, rest = NOTHING, 0.0, 0.0
        if low1 <= magnitude <= high1:
            measure, size, rest = measure1, size1, rest1
        elif low2 <= magnitude <= high2:
            measure, size, rest = measure2, size2, rest2
        if measure == NOTHING:
            return -infinity, infinity, False
        if measure == ULPS_OF_ROUNDED:
            if abs(nominal) == infinity:
                return nominal, nominal, True
            h, tail = _number(nominal, precision, emin), 0.0
            size *= scale(max(exponent(h), emin) - precision + 1)
        elif measure == ULPS:  # w is cut off, so that its exponent is the exact value's
            size *= scale(max(exponent(w), emin) - precision + 1)
        elif measure == RELATIVE:
            if abs(w) >= smallest:
                size, rest = dd_times_dd(abs(h), tail if h > 0.0 else -tail, size, rest)
            else:
                size, rest = size * smallest, rest * smallest
        low = _ordinal(sticky(*dd_plus_dd(h, tail, -size, -rest)), _UP, precision, emin, infinity)
        high = _ordinal(sticky(*dd_plus_dd(h, tail, size, rest)), _DOWN, precision, emin, infinity)
        if keeps_sign:
            if w < 0.0:
                high = min(high, 0)
            else:
                low = max(low, 0)
        return low, high, True

    return limits


def _infinity(fmt: FloatFormat) -> int:
    return (fmt.emax - fmt.emin + 2) << fmt.fraction_bits


def nan_bits(fmt: FloatFormat) -> int:
    """The one NaN that these instructions return: all ones but for the sign."""
    return (1 << (fmt.bits - 1)) - 1


def choosing(fmt: FloatFormat, bound: Bound, ftz: bool, tag: str) -> tuple[Function, Function]:
    """Compiled: the bits of the float k from the nominal one, and what else is to be known of an input.

    `tag` is to be different for every instruction. Both take h, tail and settled as `exact` gives them and
    the |x| by which the bound is chosen; then the first takes k, and the second LOW or HIGH for the bits of
    an extreme conforming float, PROMISED for 1 where anything is, or SIDE for 0, 1 or 2: the exact value is
    below the nominal result, equal, or above.
    """
    precision, emin, infinity = fmt.precision, fmt.emin, _infinity(fmt)
    sign, normal, nan = 1 << (fmt.bits - 1), 1 << fmt.fraction_bits, nan_bits(fmt)
    single, smallest = fmt.bits == 32, 2.0**emin
    limits = _limits(fmt, bound, tag)

    @compiled_as(tag)
    def bits_of(ordinal: Any, negative: bool) -> Any:
        """A zero, and what is flushed to one, keeps the sign of the nominal result or its own."""
        negative = ordinal < 0 or (ordinal == 0 and negative)
        if ftz and abs(ordinal) < normal:
            ordinal = 0
        return abs(ordinal) | (sign if negative else 0)

    @compiled_as(tag)
    def chosen(h: float, tail: float, settled: bool, magnitude: float, k: Any) -> Any:
        # Nearly always the processor rounds h to the same float32 as h + tail: where h is no midpoint of
        # two, which among normal numbers have this pattern, as both then lie on one side of it.
        if single and k == 0 and float_to_bits(h) & 0x1FFFFFFF != 0x10000000 and abs(h) >= smallest:
            return float32_to_bits(np.float32(h)) & 0xFFFFFFFF
        if h != h:
            return nan
        w = sticky(h, tail)
        ordinal: Any = _ordinal(w, _NEAREST, precision, emin, infinity)
        if k != 0 and not settled:
            low, high, _ = limits(h, tail, w, ordinal, magnitude)
            ordinal = min(max(ordinal + k, low), high)
        return bits_of(ordinal, math.copysign(1.0, w) < 0.0)

    @compiled_as(tag)
    def described(h: float, tail: float, settled: bool, magnitude: float, what: Any) -> Any:
        if settled:
            return 1 if what >= SIDE else chosen(h, tail, settled, magnitude, 0)
        w = sticky(h, tail)
        ordinal: Any = _ordinal(w, _NEAREST, precision, emin, infinity)
        if what == SIDE:
            if ftz and abs(ordinal) < normal:
                ordinal = 0
            nominal = _number(ordinal, precision, emin)
            if abs(ordinal) == infinity:
                nominal *= math.inf
            return 1 + (w > nominal) - (w < nominal)
        low, high, promised = limits(h, tail, w, ordinal, magnitude)
        if what == PROMISED:
            return 1 if promised else 0
        return bits_of(low if what == LOW else high, math.copysign(1.0, w) < 0.0)

    return chosen, described


def widening(fmt: FloatFormat, ftz: bool, tag: str) -> Function:
    """Compiled: the number that bits stand for, of float32 or a narrower format; flushed if so asked."""
    precision, emin, infinity = fmt.precision, fmt.emin, _infinity(fmt)
    sign, narrow, smallest = 1 << (fmt.bits - 1), fmt.bits < 32, 2.0**fmt.emin

    @compiled_as(tag)
    def widened(bits: Any) -> float:
        if narrow:
            a: Any = np.int64(bits) & (sign - 1)
            x = math.nan if a > infinity else math.inf if a == infinity else _number(a, precision, emin)
            if np.int64(bits) & sign:
                x = -x
        else:
            x = np.float64(bits_to_float32(np.int32(bits)))
        if ftz and abs(x) < smallest:
            x = math.copysign(0.0, x)
        return x

    return widened


def unary(value: Function, fmt: FloatFormat, bound: Bound, ftz: bool, tag: str) -> tuple[Function, Function]:
    """The two functions of `choosing` for bits of one operand; to be compiled by `jit.entry`."""
    widened = widening(fmt, ftz, tag)
    chosen, described = choosing(fmt, bound, ftz, tag)

    def choose(bits: Any, k: Any) -> Any:
        x = widened(bits)
        h, tail, settled = value(x)
        return np.uint32(chosen(h, tail, settled, abs(x), np.int64(k)))

    def describe(bits: Any, what: Any) -> Any:
        x = widened(bits)
        h, tail, settled = value(x)
        return np.uint32(described(h, tail, settled, abs(x), np.int64(what)))

    return named(choose, tag), named(describe, tag)


def binary(value: Function, fmt: FloatFormat, bound: Bound, ftz: bool, tag: str) -> tuple[Function, Function]:
    """As `unary`, for two operands; the second decides what is promised."""
    widened = widening(fmt, ftz, tag)
    chosen, described = choosing(fmt, bound, ftz, tag)

    def choose(a: Any, b: Any, k: Any) -> Any:
        x, y = widened(a), widened(b)
        h, tail, settled = value(x, y)
        return np.uint32(chosen(h, tail, settled, abs(y), np.int64(k)))

    def describe(a: Any, b: Any, what: Any) -> Any:
        x, y = widened(a), widened(b)
        h, tail, settled = value(x, y)
        return np.uint32(described(h, tail, settled, abs(y), np.int64(what)))

    return named(choose, tag), named(describe, tag)


def upper_half(value: Function, tag: str) -> tuple[Function, Function]:
    """As `unary`, for the upper 32 bits of a double, the lower ones being 0: nothing is promised of these.

    Rounding is done in the bits of the double, where adding half of what is cut off is rounding to nearest.
    """

    @compiled_as(tag)
    def evaluated(bits: Any) -> tuple[float, float, bool, float]:
        x = bits_to_float((np.int64(bits) >> 32) << 32)
        if abs(x) < 2.0**-1022:
            x = math.copysign(0.0, x)
        h, tail, settled = value(x)
        w = h if settled or abs(h) < 2.0**-1022 else sticky(h, tail)
        return h, w, settled, math.copysign(1.0, w)

    @compiled_as(tag)
    def bits_of(ordinal: Any, sign: float) -> Any:
        negative = ordinal < 0 or (ordinal == 0 and sign < 0.0)
        if abs(ordinal) < 1 << 20:
            ordinal = 0
        return (abs(ordinal) | (1 << 31 if negative else 0)) << 32

    @compiled_as(tag)
    def nominal(w: float, sign: float) -> Any:
        a = float_to_bits(abs(w))
        n = (a + 0x7FFFFFFF + ((a >> 32) & 1)) >> 32
        return -n if sign < 0.0 else n

    def choose(bits: Any, k: Any) -> Any:
        h, w, settled, sign = evaluated(bits)
        if h != h:
            return np.uint64(0x7FFFFFFF << 32)
        ordinal = nominal(w, sign)
        if not settled:
            ordinal = min(max(ordinal + np.int64(k), -(0x7FF << 20)), 0x7FF << 20)
        return np.uint64(bits_of(ordinal, sign))

    def describe(bits: Any, what: Any) -> Any:
        h, w, settled, sign = evaluated(bits)
        if settled:
            return np.uint64(
                1 if what >= SIDE else 0x7FFFFFFF << 32 if h != h else bits_of(nominal(w, sign), sign)
            )
        if what == SIDE:
            ordinal = nominal(w, sign)
            y = bits_to_float((abs(ordinal) if abs(ordinal) >= 1 << 20 else 0) << 32) * sign
            return np.uint64(1 + (w > y) - (w < y))
        if what == PROMISED:
            return np.uint64(0)
        return np.uint64(bits_of(0x7FF << 20 if what == HIGH else -(0x7FF << 20), sign))

    return named(choose, tag), named(describe, tag)
