"""e^x and e^x − 1 − x in float64 for the first tier: loops over a tile, and their relative bounds.

Both take exact inputs x ≤ 0. Below −1 the sums that use them are written with e^x, 1 and x;
above, with q(x) = e^x − 1 − x, which keeps its digits down to 0 (functions/base.py:
`split_exponentials`). Each `*_RELATIVE` constant bounds |computed − exact|/|exact| and is
computed below from the operations as they are written.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from precision_lab.numeric.error_free import U
from precision_lab.numeric.jit import bits_to_float, compiled, fma

# e^x < 2^-1009 below: nothing that a format up to fp32 can see, and exact enough as an absolute bound.
EXP_FLOOR = -700.0
EXP_FLOOR_BOUND = 2.0**-1009

# ln 2 = LN2_HIGH + LN2_LOW + d. LN2_HIGH has 32 significant bits, so n·LN2_HIGH is exact for
# |n| < 2^21; |d| ≤ half an ulp of LN2_LOW = 2^-86.
LN2_HIGH = float.fromhex("0x1.62e42feep-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
LN2_REST = 2.0**-86
INVERSE_LN2 = 1.0 / math.log(2)
# 1.5·2^52: adding and subtracting it rounds |v| < 2^51 to an integer, which its low bits then hold.
ROUNDER = 1.5 * 2.0**52
ROUNDER_BITS = 0x4338000000000000

REDUCED = 0.347  # |r| ≤ ln2/2 + what rounding the quotient can add


def _horner_relative(coefficients: tuple[float, ...], reach: float, smallest: float, rest: float) -> float:
    """Relative error of a Horner sum with FMAs for |t| ≤ reach, where the exact sum is ≥ smallest.

    h_k = fl(c_k + t·h_{k+1}), one rounding: E_k ≤ reach·E_{k+1} + u·H_k + u·|c_k|, the last for the
    rounded coefficient, H_k = |c_k| + reach·H_{k+1} bounding |h_k|. `rest` is what the sum
    leaves out. The host's own roundings, some 60 of 2^-53 each, are covered by 1 + 2^-40.
    """
    error, size = U * abs(coefficients[-1]), abs(coefficients[-1])
    for c in coefficients[-2::-1]:
        size = abs(c) + reach * size
        error = reach * error + U * size + U * abs(c)
    return (error + rest) / smallest * (1 + 2.0**-40)


# (e^r − 1 − r)/r² = Σ_{k=2}^{13} r^(k−2)/k! for |r| ≤ 0.347. Left out: ≤ 1.03·0.347^12/14!, since later
# terms shrink by more than 0.347/15 each. The sum is at least 1/2 − 0.347/6.
_Q_FAR = tuple(1.0 / math.factorial(k) for k in range(2, 14))
_Q_FAR_RELATIVE = _horner_relative(
    _Q_FAR, REDUCED, 0.5 - REDUCED / 6, 1.03 * REDUCED**12 / math.factorial(14)
)

# The same series for −1 ≤ x ≤ 0 with k ≤ 18: alternating, so what is left out is at most 1/19!.
# The sum is (e^x − 1 − x)/x² ≥ 1/e, its value at −1 (it increases in x).
_Q_NEAR = tuple(1.0 / math.factorial(k) for k in range(2, 19))
# Then two multiplications by x, one rounding each: (1+e)(1+u)² ≤ 1 + e + 2.01u.
Q_RELATIVE = _horner_relative(_Q_NEAR, 1.0, math.exp(-1) * (1 - 2.0**-50), 1 / math.factorial(19)) + 2.01 * U

# e^x − 1 = x + q for −1 ≤ x ≤ 0: |q| ≤ 0.582·|e^x − 1| there (its largest at −1: (1/e)/(1 − 1/e)),
# and the sum rounds once.
EXPM1_RELATIVE = 0.583 * Q_RELATIVE + U


def _exp_relative() -> float:
    """Relative error of `exp_tile`.

    r: x − n·LN2_HIGH rounds once (|.| ≤ 0.347 + 2^-20, what LN2_LOW·n still takes off), the next
    FMA once more, and LN2_REST·|n| with |n| ≤ 1011 is left: an absolute δ, which multiplies
    e^r by at most e^δ. m = fl(r + q) and s = fl(1 + m) round once each; |m| ≤ 0.42, |q| ≤ 0.068,
    and e^r ≥ 0.706.
    """
    delta = U * (0.348 + 0.348) + 1011 * LN2_REST
    q = 0.068 * (_Q_FAR_RELATIVE + 2.01 * U)
    return (q + U * 0.42 + U * 1.42) / 0.706 * (1 + 2.0**-40) + 1.0001 * delta


EXP_RELATIVE = _exp_relative()

_C = _Q_FAR
_D = _Q_NEAR


@compiled
def exp_tile(x: Any, n: int, out: Any) -> None:
    """out[i] = e^x[i]·(1 + d), |d| ≤ EXP_RELATIVE, for −700 ≤ x ≤ 0; e^-700 for smaller x."""
    for i in range(n):
        point = max(np.float64(x[i]), EXP_FLOOR)
        shifted = fma(point, INVERSE_LN2, ROUNDER)
        k = shifted - ROUNDER
        # |k| ≤ 1010: the low bits of `shifted` are ROUNDER's plus k.
        r = fma(-k, LN2_LOW, fma(-k, LN2_HIGH, point))
        h = fma(r, _C[11], _C[10])
        h = fma(r, h, _C[9])
        h = fma(r, h, _C[8])
        h = fma(r, h, _C[7])
        h = fma(r, h, _C[6])
        h = fma(r, h, _C[5])
        h = fma(r, h, _C[4])
        h = fma(r, h, _C[3])
        h = fma(r, h, _C[2])
        h = fma(r, h, _C[1])
        h = fma(r, h, _C[0])
        m = r + r * r * h
        power = bits_to_float((int(k) + 1023) << 52)  # 2^k, normal
        out[i] = power * (1.0 + m)  # exact scaling


@compiled
def q_tile(x: Any, n: int, out: Any) -> None:
    """out[i] = (e^x − 1 − x)·(1 + d), |d| ≤ Q_RELATIVE, for −1 ≤ x ≤ 0, x = 0 or |x| ≥ 2^-440."""
    for i in range(n):
        p = np.float64(x[i])
        h = fma(p, _D[16], _D[15])
        h = fma(p, h, _D[14])
        h = fma(p, h, _D[13])
        h = fma(p, h, _D[12])
        h = fma(p, h, _D[11])
        h = fma(p, h, _D[10])
        h = fma(p, h, _D[9])
        h = fma(p, h, _D[8])
        h = fma(p, h, _D[7])
        h = fma(p, h, _D[6])
        h = fma(p, h, _D[5])
        h = fma(p, h, _D[4])
        h = fma(p, h, _D[3])
        h = fma(p, h, _D[2])
        h = fma(p, h, _D[1])
        h = fma(p, h, _D[0])
        out[i] = p * p * h
