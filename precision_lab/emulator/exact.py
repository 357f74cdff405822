"""Values of 2^x, log2, tanh, reciprocals and roots as two doubles, from which correct rounding is decided.

Every function here gives (h, tail, settled): h is the double nearest to h + tail, which is within E·|v| of
the exact value v, with `ERRORS` naming E. Where `settled` is true, h alone is the result that the manual
tabulates for such an input, NaN and infinities included, and nothing is chosen. Arguments are doubles that
hold a number of at most 24 bits, so that reductions are exact where they say so.

That E is small enough is no probability: inputs are finitely many, and an exhaustive test finds every one
whose value lies within E·|v| of a float or of a midpoint of two, and has it decided by MPFR.

Algebraic values need no such search. A quotient of 24-bit numbers that is no float and no midpoint itself
differs from each by a relative 2^-50 at least (|a − b·m| is a positive integer multiple of their last
places, and b·m < 2^49 of them), a root by 2^-52 (compare squares), and the reciprocal of a root by 2^-75
(x·m² against 1, in multiples of the last place, which is 2^-74 of it): far above their E.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import gmpy2
import numpy as np

from precision_lab.numeric.error_free import dd_times_float, fast_two_sum, two_product, two_sum
from precision_lab.numeric.jit import bits_to_float, compiled, float_to_bits, fma

# E of each function; the sums of rounding errors behind them stand in the functions.
ERRORS: Mapping[str, float] = {
    "ex2": 2.0**-59, "lg2": 2.0**-58, "tanh": 2.0**-56, "sin": 2.0**-60, "cos": 2.0**-60,
    "rcp": 2.0**-100, "div": 2.0**-100, "sqrt": 2.0**-98, "rsqrt": 2.0**-98,
}  # fmt: skip

NAN, INFINITY = math.nan, math.inf
_PRECISION = 200  # bits, of constants until they are rounded


def pair(value: Any) -> tuple[float, float]:
    """The double nearest to a real number, and the one nearest to what that leaves."""
    with gmpy2.context(precision=_PRECISION):
        high = float(value)
        return high, float(value - gmpy2.mpfr(high))


def power_of_two(exponent: Fraction) -> tuple[float, float]:
    """2^exponent, as `pair` gives it."""
    with gmpy2.context(precision=_PRECISION):
        return pair(gmpy2.exp2(gmpy2.mpq(exponent.numerator, exponent.denominator)))


def _tables() -> tuple[Any, ...]:
    with gmpy2.context(precision=_PRECISION):
        ln2 = gmpy2.log(gmpy2.mpfr(2))
        powers = np.array([pair(gmpy2.exp2(gmpy2.mpfr(j) / 128)) for j in range(128)])
        # 2^r − 1 = r·(c₁ + r·(c₂ + …))
        exponential = [float(ln2**i / gmpy2.fac(i)) for i in range(1, 7)]
        # Reciprocals of nine bits; next to 1, from either side, they are 1, so that nothing cancels there.
        inverses, logarithms = np.empty(128), np.empty((128, 2))
        for i in range(128):
            centre = (1 + (i + 0.5) / 128) / (2 if i >= _UPPER else 1)
            inverses[i] = 1.0 if i in (0, 127) else round(256 / centre) / 256
            logarithms[i] = pair(-gmpy2.log2(gmpy2.mpfr(inverses[i])))
        # log2(1 + r) = r/ln 2 + r²·(d₂ + r·(d₃ + …))
        logarithm = [float((-1) ** (i + 1) / (i * ln2)) for i in range(2, 11)]
        return powers, exponential, inverses, logarithms, logarithm, pair(1 / ln2)


def _tangent() -> list[float]:
    """Taylor's coefficients of tanh, of x³, x⁵ and so on: they solve t′ = 1 − t²."""
    series = [Fraction(1)]
    for n in range(1, 11):
        convolution = sum((series[i] * series[n - 1 - i] for i in range(n)), Fraction(0))
        series.append(-convolution / (2 * n + 1))
    return [float(c) for c in series[1:]]


_UPPER = 53  # from 1 + 53/128, next to √2, on a significand counts as half of itself
_POWERS, _EXP, _INVERSES, _LOGS, _LOG, (_LOG2E, _LOG2E_LOW) = _tables()
_E1, _E2, _E3, _E4, _E5, _E6 = _EXP
_D2, _D3, _D4, _D5, _D6, _D7, _D8, _D9, _D10 = _LOG
_T1, _T2, _T3, _T4, _T5, _T6, _T7, _T8, _T9, _T10 = _tangent()


@compiled
def scale(e: int) -> float:
    """2^e, for −1022 ≤ e ≤ 1023."""
    value: float = bits_to_float((e + 1023) << 52)
    return value


@compiled
def exponent(x: float) -> int:
    """⌊log2 |x|⌋ of a normal double."""
    e: int = ((float_to_bits(x) >> 52) & 0x7FF) - 1023
    return e


@compiled
def _exp2(k: float, r: float) -> tuple[float, float]:
    """2^(k/128 + r) for an integer |k| ≤ 128000 and |r| ≤ 2^-8, within 2^-59.4.

    With t = T_h + T_l from the table, within 2^-107, and p = 2^r − 1 it is T_h + (T_h·p + T_l). Six terms
    of p leave (2^-8·ln 2)^7/7! < 2^-72. |p| < 2^-8.5, and its last step rounds twice, the inner error
    being smaller by r: at most 2^-60.4 in all; the product and the sum in brackets, below 2^-8.4, round
    once each, by 2^-61.4 at most. That is 2^-59.4 together, of a value of at least 1. `fast_two_sum` is
    exact: T_h ≥ 1.
    """
    whole = int(k)
    j = whole & 127
    high = _POWERS[j, 0]
    p = r * (_E1 + r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))))
    h, tail = fast_two_sum(high, high * p + _POWERS[j, 1])
    s = scale(whole >> 7)
    return h * s, tail * s


@compiled
def ex2(x: float) -> tuple[float, float, bool]:
    """2^x. k/128 and r are exact: where |x| ≥ 2^-8, x is a multiple of 2^-31; else k is 0 and r is x."""
    if x != x:
        return NAN, 0.0, True
    if x == 0.0:
        return 1.0, 0.0, True
    if abs(x) == INFINITY:
        return (INFINITY if x > 0.0 else 0.0), 0.0, True
    if abs(x) > 990.0:  # beyond every format's range, as these are
        x = 990.0 if x > 0.0 else -990.0
    k = np.rint(x * 128.0)
    h, tail = _exp2(k, x - k * 0.0078125)
    return h, tail, False


@compiled
def lg2(x: float) -> tuple[float, float, bool]:
    """log2 x. With x = 2^k·m and c = m·i for a nine-bit i near 1/m: k − log2 i + log2 c.

    r = c − 1 is exact, of at most 33 bits, and |r| ≤ 2^-7. Nine terms after the first leave r^10/11 < 2^-73
    of r/ln 2, which is a product of a double and a pair, within 2^-104. The rest, r²·(d₂ + …), rounds by
    3 u of itself. It is at most r/2 ≤ 2^-8 of the value next to 1, where i is 1 and all other parts are 0, so
    that one more sum rounds: 4 u·2^-8 = 2^-59. In all other cells of the table it is at most 2^-9 of the
    value, and four sums of small parts round: 7 u·2^-9 < 2^-59. Sums of large parts are exact.
    """
    if x != x or x < 0.0:
        return NAN, 0.0, True
    if x == 0.0 or x == INFINITY:
        return (INFINITY if x > 0.0 else -INFINITY), 0.0, True
    bits = float_to_bits(x)
    k = (bits >> 52) - 1023
    i = (bits >> 45) & 127
    m = bits_to_float((bits & 0xFFFFFFFFFFFFF) | (1023 << 52))
    if i >= _UPPER:
        m, k = m * 0.5, k + 1
    r = m * _INVERSES[i] - 1.0
    rest = _D6 + r * (_D7 + r * (_D8 + r * (_D9 + r * _D10)))
    rest = r * r * (_D2 + r * (_D3 + r * (_D4 + r * (_D5 + r * rest))))
    p = r * _LOG2E
    low = fma(r, _LOG2E, -p) + r * _LOG2E_LOW
    s, a = two_sum(float(k), _LOGS[i, 0])
    s, b = two_sum(s, p)
    h, tail = two_sum(s, b + (a + (_LOGS[i, 1] + (low + rest))))
    return h, tail, False


@compiled
def tanh(x: float) -> tuple[float, float, bool]:
    """tanh x, of which subnormals of float32 are settled by nobody here.

    Below 1/8 by Taylor's series: ten terms leave (2x/π)^22 < 2^-80, and x³·(T₁ + …) rounds by 2^-51·x²/3,
    2^-58.5 at most. Else 1 − 2/(e^2x + 1): 2x·log2 e is a product within 2^-100, of which r takes a
    remainder rounded by 2^-61; so the exponential is within 2^-59.4 + 2^-61.5, below 2^-59, and an error δ
    of it makes at most δ/2 of the value, which is at least 0.124: 2^-57. Beyond 22 it differs
    from 1 by less than 2^-62.
    """
    if x != x or x == 0.0:
        return x, 0.0, True
    if abs(x) == INFINITY:
        return (1.0 if x > 0.0 else -1.0), 0.0, True
    a = abs(x)
    if a < 0.125:
        z = x * x
        s = _T5 + z * (_T6 + z * (_T7 + z * (_T8 + z * (_T9 + z * _T10))))
        s = z * (_T1 + z * (_T2 + z * (_T3 + z * (_T4 + z * s))))
        h, tail = fast_two_sum(x, x * s)
        return h, tail, False
    h, tail = 1.0, -(2.0**-64)
    if a < 22.0:
        t = 2.0 * a * _LOG2E
        low = fma(2.0 * a, _LOG2E, -t) + 2.0 * a * _LOG2E_LOW
        k = np.rint(t * 128.0)
        eh, el = _exp2(k, (t - k * 0.0078125) + low)
        dh, dl = two_sum(eh, 1.0)
        dl += el
        q = 2.0 / dh
        rest = (fma(-q, dh, 2.0) - q * dl) / dh
        h, tail = fast_two_sum(1.0, -q)
        h, tail = fast_two_sum(h, tail - rest)
    if x < 0.0:
        h, tail = -h, -tail
    return h, tail, False


@compiled
def div(a: float, b: float) -> tuple[float, float, bool]:
    """a/b. Of the rounded quotient the remainder is exact, and divided once more with an error of 2^-106.

    Zeros, infinities and NaN give IEEE's results. No quotient of float32 numbers is below 2^-277.
    """
    if not (abs(a) < INFINITY and abs(b) < INFINITY) or a == 0.0 or b == 0.0:
        return a / b, 0.0, True
    h = a / b
    return h, fma(-h, b, a) / b, False


@compiled
def rcp(x: float) -> tuple[float, float, bool]:
    """1/x, as `div`."""
    return div(1.0, x)


@compiled
def sqrt(x: float) -> tuple[float, float, bool]:
    """√x. x − h² is exact, and over 2h the correction, whose own next term is 2^-107 of the value."""
    if x != x or x < 0.0:
        return NAN, 0.0, True
    if x == 0.0 or x == INFINITY:
        return x, 0.0, True
    h = math.sqrt(x)
    h, tail = fast_two_sum(h, fma(-h, h, x) / (2.0 * h))
    return h, tail, False


@compiled
def rsqrt(x: float) -> tuple[float, float, bool]:
    """1/√x. With h within 2^-51 of it, h·(1 − x·h²)/2 is the correction, up to 3/8·2^-100 of the value.

    x·h² is a pair within 2^-104, and its difference from 1 is exact in its first part, so that the
    correction, below 2^-50, is within 2^-102.
    """
    if x != x or x < 0.0:
        return NAN, 0.0, True
    if x == 0.0:
        return math.copysign(INFINITY, x), 0.0, True
    if x == INFINITY:
        return 0.0, 0.0, True
    h = 1.0 / math.sqrt(x)
    ph, pl = two_product(h, h)
    ph, pl = dd_times_float(ph, pl, x)
    h, tail = fast_two_sum(h, 0.5 * h * ((1.0 - ph) - pl))
    return h, tail, False


@compiled
def sticky(h: float, tail: float) -> float:
    """h + tail, cut off after 53 bits, with the last bit set where anything was cut: rounded to odd.

    It lies on the same side as h + tail of every number of 52 bits or fewer, and equals one only if h + tail
    does: rounding it, to fewer bits, and comparing it with such numbers are exact. h must be the double
    nearest to h + tail, and normal.
    Source: Boldo, Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE TC 57 (2008).
    """
    if tail == 0.0:
        return h
    odd: float = bits_to_float((float_to_bits(h) - int((tail < 0.0) != (h < 0.0))) | 1)
    return odd
