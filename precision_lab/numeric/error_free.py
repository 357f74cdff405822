"""Exact transformations and double-double steps, compiled; each with its bound in words.

Model: IEEE float64, round to nearest, u = 2^-53. A fused multiply-add rounds once.
A double-double number is an unevaluated sum high + low with |low| ≤ ulp(high)/2.

Sources: Knuth, TAOCP vol. 2, 4.2.2 (two_sum); Dekker, Numer. Math. 18 (1971);
Joldes, Muller, Popescu, "Tight and rigorous error bounds for basic building blocks of
double-word arithmetic", ACM TOMS 44 (2017), whose algorithm numbers are given.
"""

from __future__ import annotations

from typing import Any

from precision_lab.numeric.jit import compiled, entry, fma

U = 2.0**-53
# Products below this, and their low parts, may underflow: what is lost there is at most a few
# subnormal steps, charged as absolute errors by the callers.
PRODUCT_SAFE = 2.0**-960


@compiled
def two_sum(a: float, b: float) -> tuple[float, float]:
    """s = fl(a+b) and e with s + e = a + b exactly, whatever the order of magnitude."""
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


@compiled
def fast_two_sum(a: float, b: float) -> tuple[float, float]:
    """two_sum for |a| ≥ |b| or a = 0."""
    s = a + b
    return s, b - (s - a)


@compiled
def two_product(a: float, b: float) -> tuple[float, float]:
    """p = fl(a·b) and e with p + e = a·b exactly, if |p| ≥ 2^-960 or p = 0 = a·b, and p is finite."""
    p = a * b
    return p, fma(a, b, -p)


@entry
def two_products(a: Any, b: Any, high: Any, low: Any) -> None:
    """high + low = a·b element by element, exactly, under the conditions of `two_product`."""
    for i in range(a.size):
        high[i], low[i] = two_product(a[i], b[i])


@compiled
def dd_times_float(high: float, low: float, b: float) -> tuple[float, float]:
    """(high + low)·b with a relative error of at most 2u² (DWTimesFP3, algorithm 9)."""
    p, e = two_product(high, b)
    return fast_two_sum(p, fma(low, b, e))


@compiled
def dd_plus_dd(xh: float, xl: float, yh: float, yl: float) -> tuple[float, float]:
    """Sum with a relative error of at most 3u²/(1−4u) of the result (AccurateDWPlusDW, algorithm 6).

    The bound holds for arguments of either sign.
    """
    sh, sl = two_sum(xh, yh)
    th, tl = two_sum(xl, yl)
    vh, vl = fast_two_sum(sh, sl + th)
    return fast_two_sum(vh, tl + vl)


@compiled
def dd_times_dd(xh: float, xl: float, yh: float, yl: float) -> tuple[float, float]:
    """Product with a relative error of at most 4u² (DWTimesDW3, algorithm 12; its bound is 4u²)."""
    ch, cl = two_product(xh, yh)
    tl = fma(xh, yl, xl * yl)
    return fast_two_sum(ch, cl + fma(xl, yh, tl))
