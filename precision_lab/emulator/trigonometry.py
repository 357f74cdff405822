"""Sine and cosine of every float32, as `exact` gives values: two doubles within 2^-60.

Multiples of π/2 are taken off in integers, with as many digits of 2/π as the exponent asks for, so that
the largest float32 loses no more than the smallest.
Source: Payne, Hanek, "Radian reduction for trigonometric functions", SIGNUM 18 (1983).
"""

from __future__ import annotations

import math

import gmpy2
import numpy as np

from precision_lab.emulator.exact import INFINITY, NAN, pair
from precision_lab.numeric.error_free import dd_times_dd, fast_two_sum, two_sum
from precision_lab.numeric.jit import compiled, float_to_bits

# Words of 32 bits: one of zeros, then 352 binary digits of 2/π.
_WORDS = 12
with gmpy2.context(precision=500):
    _two_over_pi = int(gmpy2.floor(2 / gmpy2.const_pi() * gmpy2.mpfr(2) ** (32 * (_WORDS - 1))))
    _HALF_PI, _HALF_PI_LOW = pair(gmpy2.const_pi() / 2)
_DIGITS = np.array([_two_over_pi >> 32 * (_WORDS - 1 - i) & 0xFFFFFFFF for i in range(_WORDS)], np.int64)

# Taylor's coefficients, for z = a²: sin a = a·(1 + z·(S₁ + z·(S₂ + …))), cos a = 1 + z·(−1/2 + z·(C₂ + …)).
(_S1, _S1L), (_S2, _S2L) = pair(gmpy2.mpq(-1, 6)), pair(gmpy2.mpq(1, 120))
_C2, _C2L = pair(gmpy2.mpq(1, 24))
_S3, _S4, _S5, _S6, _S7, _S8, _S9, _S10 = ((-1.0) ** n / math.factorial(2 * n + 1) for n in range(3, 11))
_C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10 = ((-1.0) ** n / math.factorial(2 * n) for n in range(3, 11))


@compiled
def _sine(ah: float, al: float) -> tuple[float, float]:
    """sin a for a pair |a| ≤ π/4 + 2^-20, within 2^-62.

    z < 0.62. The terms from S₃ on are doubles: they round by 3u·z³/5040 of the whole, below 2^-64; eleven
    terms leave z^11/23! < 2^-80. All else are pairs, each step within 2^-102.
    """
    zh, zl = dd_times_dd(ah, al, ah, al)
    q = _S6 + zh * (_S7 + zh * (_S8 + zh * (_S9 + zh * _S10)))
    q = zh * (_S3 + zh * (_S4 + zh * (_S5 + zh * q)))
    uh, ul = fast_two_sum(_S2, q + _S2L)
    uh, ul = dd_times_dd(zh, zl, uh, ul)
    uh, e = fast_two_sum(_S1, uh)
    uh, ul = dd_times_dd(zh, zl, uh, e + (ul + _S1L))
    uh, e = fast_two_sum(1.0, uh)
    uh, ul = fast_two_sum(uh, e + ul)
    return dd_times_dd(ah, al, uh, ul)


@compiled
def _cosine(ah: float, al: float) -> tuple[float, float]:
    """cos a for a pair |a| ≤ π/4 + 2^-20, within 2^-61: as `_sine`, with 3u·z³/720 < 2^-62 of 0.707."""
    zh, zl = dd_times_dd(ah, al, ah, al)
    q = _C6 + zh * (_C7 + zh * (_C8 + zh * (_C9 + zh * _C10)))
    q = zh * (_C3 + zh * (_C4 + zh * (_C5 + zh * q)))
    uh, ul = fast_two_sum(_C2, q + _C2L)
    uh, ul = dd_times_dd(zh, zl, uh, ul)
    uh, e = fast_two_sum(-0.5, uh)
    uh, ul = dd_times_dd(zh, zl, uh, e + ul)
    uh, e = fast_two_sum(1.0, uh)
    return fast_two_sum(uh, e + ul)


@compiled
def _digit(at: int) -> int:
    """32 digits of 2/π from the one numbered `at`."""
    i = at >> 5
    digit: int = ((_DIGITS[i] << 32 | _DIGITS[i + 1]) >> (32 - (at & 31))) & 0xFFFFFFFF
    return digit


@compiled
def _reduced(x: float) -> tuple[int, float, float]:
    """n and a with x = n·π/2 + a, n modulo 4, for a float32 x ≥ π/4: a within 2^-100 if |a| > 2^-60.

    x = M·2^e with a 24-bit M, so −24 ≤ e ≤ 104. Digits of 2/π that make multiples of 4 of x·2/π are left
    out: those of weight 2^(2−e) and more. The next 192, as an integer V, give M·V·2^-190 modulo 4, and the
    digits after them less than 2^-166. So P = M·V modulo 2^192 has n on top and 190 digits of the fraction;
    126 of these are used, a multiple of 2^-126 within 2^-115 of its first 2^-62.
    """
    bits = float_to_bits(x)
    significand, first = (bits >> 29) & 0x7FFFFF | 0x800000, (bits >> 52) - 1023 - 23 + 30
    p5 = _digit(first + 160) * significand
    p4 = _digit(first + 128) * significand + (p5 >> 32)
    p3 = _digit(first + 96) * significand + (p4 >> 32)
    p2 = _digit(first + 64) * significand + (p3 >> 32)
    p1 = _digit(first + 32) * significand + (p2 >> 32)
    p0 = _digit(first) * significand + (p1 >> 32)
    n, flip = (p0 >> 30) & 3, 0
    if p0 & 0x20000000:  # at least a half: 1 − f instead, whose digits are the others, up to 2^-190
        n, flip = n + 1, 0xFFFFFFFF
    f0, f1 = ((p0 ^ flip) & 0x3FFFFFFF), ((p1 ^ flip) & 0xFFFFFFFF)
    f2, f3 = ((p2 ^ flip) & 0xFFFFFFFF), ((p3 ^ flip) & 0xFFFFFFFF)
    h, tail = two_sum(f0 * 2.0**-30, f1 * 2.0**-62)
    h, tail = two_sum(h, tail + (f2 * 2.0**-94 + f3 * 2.0**-126))
    h, tail = dd_times_dd(h, tail, _HALF_PI, _HALF_PI_LOW)
    return (n, -h, -tail) if flip else (n, h, tail)


@compiled
def _turned(x: float, quarters: int) -> tuple[float, float]:
    """sin(x + quarters·π/2) for x > 0."""
    n, h, tail = 0, x, 0.0
    if x > 0.785:
        n, h, tail = _reduced(x)
    n += quarters
    h, tail = _cosine(h, tail) if n & 1 else _sine(h, tail)
    return (-h, -tail) if n & 2 else (h, tail)


@compiled
def sin(x: float) -> tuple[float, float, bool]:
    """sin x."""
    if x == 0.0 or not abs(x) < INFINITY:
        return (x if x == 0.0 else NAN), 0.0, True
    h, tail = _turned(abs(x), 0)
    return (h, tail, False) if x > 0.0 else (-h, -tail, False)


@compiled
def cos(x: float) -> tuple[float, float, bool]:
    """cos x."""
    if x == 0.0 or not abs(x) < INFINITY:
        return (1.0 if x == 0.0 else NAN), 0.0, True
    h, tail = _turned(abs(x), 1)
    return h, tail, False
