"""Evaluates the tables of `piecewise`: a tile of one binade in float64, any inputs in double-double."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from precision_lab.functions.basis import BASIS
from precision_lab.numeric.certainty import SMALLEST
from precision_lab.numeric.error_free import dd_plus_dd, dd_times_float
from precision_lab.numeric.jit import bits_to_float, compiled, entry, float_to_bits, fma
from precision_lab.oracle.double_double import ball_add, ball_times
from precision_lab.oracle.piecewise_compiler import DEGREE, DEGREE_DD, LOWS, Table
from precision_lab.oracle.piecewise_tables import table

Float64 = NDArray[np.float64]

BOUND_BEYOND = 2.0**-1000  # of what `BasisFunction.beyond` says is below 2^-1060
FRACTION = (1 << 52) - 1
# What underflow adds to a second-tier piece whose values are below 2^-960, half a step at a time: 8 fused
# steps and two roundings of each of 13 products in `horner_dd`, and 34 products in the piece's bound
# (`piecewise._horner_dd`). |u| ≤ 1 does not magnify them. First-tier sums are charged 2^-1000.
UNDERFLOW = 64 * SMALLEST


class Packed(NamedTuple):
    """First-tier tables of several basis functions in common arrays; row 2k is x < 0, 2k + 1 is x > 0.

    Attributes:
        layout: per side c, E, v and the central row, then split and first row of every binade.
        asymptotes: coefficients of 1 and x, and |x| from which they hold.
    """

    layout: NDArray[np.int64]
    coefficients: Float64
    bounds: Float64
    asymptotes: Float64


def pack(names: tuple[str, ...]) -> Packed:
    """The tables of the named basis functions, compiled or read from disk where needed."""
    return pack_tables([table(name, side, False) for name in names for side in (-1, 1)])


def pack_tables(found: Sequence[Table]) -> Packed:
    """First-tier tables in common arrays: of each function that of x < 0, then that of x > 0."""
    layout = np.zeros((max(len(found), 1), 4 + max((t.layout.size for t in found), default=0)), np.int64)
    row = 0
    for line, t in zip(layout, found, strict=False):
        line[:3], line[3] = t.layout[:3], row
        line[4 : 1 + t.layout.size] = t.layout[3:]
        line[5 : 1 + t.layout.size : 2] += row
        row += t.bounds.size
    if not found:
        return Packed(layout, np.zeros((1, DEGREE + 1)), np.zeros(1), np.zeros((1, 3)))
    return Packed(
        layout,
        np.concatenate([t.coefficients for t in found]),
        np.concatenate([t.bounds for t in found]),
        np.array([[*t.asymptote, t.beyond[0]] for t in found]),
    )


@compiled
def table_tile(
    x: Any, n: int, layout: Any, coefficients: Any, bounds: Any, asymptote: Any, value: Any, bound: Any
) -> None:
    """value and its absolute error bound at x[:n]: one sign, one binade, ordered by |x|, |x| ≥ 2^-149."""
    first = abs(x[0])
    if first >= 2.0 ** layout[1]:
        known = first >= asymptote[2]
        for i in range(n):
            value[i] = fma(asymptote[1], x[i], asymptote[0])
            # One rounding, which is none where only one of the two coefficients is not 0.
            bound[i] = BOUND_BEYOND + abs(value[i]) * 2.0**-53 if known else np.inf
        return
    exponent = (float_to_bits(first) >> 52) - 1023
    if exponent < layout[0]:
        row = coefficients[layout[3]]
        scale = 2.0 ** -layout[0]
        for i in range(n):
            value[i] = horner(row, abs(x[i]) * scale)
            bound[i] = bounds[layout[3]]
        if layout[2] == 1:
            for i in range(n):
                value[i] *= abs(x[i])
                bound[i] *= abs(x[i]) * (1 + 2.0**-50)
        elif layout[2] > 1:
            for i in range(n):
                for _ in range(layout[2]):
                    value[i] *= abs(x[i])
                    bound[i] *= abs(x[i]) * (1 + 2.0**-50)
        return
    at = 4 + 2 * (exponent - layout[0])
    split, base = layout[at], layout[at + 1]
    shift = 52 - split
    scale = 2.0 ** (split + 1 - exponent)
    half = 1 << (shift - 1)
    start = (float_to_bits(first) & FRACTION) >> shift
    if start == (float_to_bits(abs(x[n - 1])) & FRACTION) >> shift:
        row = coefficients[base + start]
        error = bounds[base + start]
        centre = bits_to_float(((float_to_bits(first) >> shift) << shift) | half)
        for i in range(n):
            value[i] = horner(row, (abs(x[i]) - centre) * scale)
            bound[i] = error
        return
    for i in range(n):
        size = abs(x[i])
        bits = float_to_bits(size)
        j = base + ((bits & FRACTION) >> shift)
        u = (size - bits_to_float(((bits >> shift) << shift) | half)) * scale
        value[i] = horner(coefficients[j], u)
        bound[i] = bounds[j]


@compiled
def horner(row: Any, u: float) -> float:
    """Σ row[k]·u^k, one rounding per step."""
    h = fma(u, row[11], row[10])
    h = fma(u, h, row[9])
    h = fma(u, h, row[8])
    h = fma(u, h, row[7])
    h = fma(u, h, row[6])
    h = fma(u, h, row[5])
    h = fma(u, h, row[4])
    h = fma(u, h, row[3])
    h = fma(u, h, row[2])
    h = fma(u, h, row[1])
    total: float = fma(u, h, row[0])
    return total


def enclose(name: str, x: Float64) -> Float64:
    """high, low, radius and nudge of a basis function at finite nonzero x, shape (4, n).

    A nudge is the sign of what f has beyond an asymptote that high + low is exactly, less than
    2^-1000, or twice that sign where it is less than 2^-2000; where the table ends without one, the
    radius is infinite.
    """
    found = np.zeros((4, x.size))
    for side in (-1, 1):
        chosen = np.flatnonzero(np.sign(x) == side)
        if chosen.size:
            t = table(name, side, True)
            part = np.zeros((4, chosen.size))
            approach = BASIS[name].approach[0 if side < 0 else 1]
            _enclose(
                x[chosen], t.layout, t.coefficients, t.lows, t.bounds, t.central, t.remainder, t.asymptote,
                t.beyond[0], 0 if approach is None else approach, part,
            )  # fmt: skip
            found[:, chosen] = part
    return found


@entry
def _enclose(
    x: Any, layout: Any, coefficients: Any, lows: Any, bounds: Any, central: Any, remainder: Any,
    asymptote: Any, beyond: float, approach: int, found: Any,
) -> None:  # fmt: skip
    for i in range(x.size):
        size = abs(x[i])
        exponent = (float_to_bits(size) >> 52) - 1023
        if size >= beyond or exponent >= layout[1]:
            if size >= beyond:
                ph, pl, pr = ball_times(asymptote[1], 0.0, 0.0, x[i], 0.0, 0.0)
                found[0, i], found[1, i], found[2, i] = ball_add(ph, pl, pr, asymptote[0], 0.0, 0.0)
                found[3, i] = approach * (2 if size >= 2 * beyond else 1)
            else:
                found[2, i] = np.inf
        elif exponent < layout[0]:
            high, low = horner_dd(coefficients[0], lows[0], size * 2.0 ** -layout[0])
            high, low, radius = ball_times(high, low, bounds[0], size, 0.0, 0.0)
            ch, cl, cr = central[0], central[1], central[2]
            for _ in range(layout[2]):
                high, low, radius = ball_times(high, low, radius, size, 0.0, 0.0)
                ch, cl, cr = ball_times(ch, cl, cr, size, 0.0, 0.0)
            found[0, i], found[1, i], found[2, i] = ball_add(ch, cl, cr, high, low, radius)
        else:
            at = 3 + 2 * (exponent - layout[0])
            shift = 52 - layout[at]
            bits = float_to_bits(size)
            j = layout[at + 1] + ((bits & FRACTION) >> shift)
            centre = bits_to_float(((bits >> shift) << shift) | (1 << (shift - 1)))
            u = (size - centre) * 2.0 ** (layout[at] + 1 - exponent)
            high, low = horner_dd(coefficients[j], lows[j], u)
            radius = bounds[j]
            if remainder[j]:
                ph, pl, pr = ball_times(asymptote[1], 0.0, 0.0, x[i], 0.0, 0.0)
                ph, pl, pr = ball_add(ph, pl, pr, asymptote[0], 0.0, 0.0)
                if abs(high) + radius < 2.0**-1000 and approach != 0 and size >= 2:
                    found[0, i], found[1, i], found[2, i], found[3, i] = ph, pl, pr, approach
                    continue
                high, low, radius = ball_add(ph, pl, pr, high, low, radius)
            found[0, i], found[1, i], found[2, i] = high, low, radius + UNDERFLOW


@compiled
def horner_dd(row: Any, lows: Any, u: float) -> tuple[float, float]:
    """Σ (row[k] + lows[k])·u^k: float64 down to order LOWS, double-double below; see `piecewise`."""
    high, low = row[DEGREE_DD], 0.0
    for k in range(DEGREE_DD - 1, LOWS - 1, -1):
        high = fma(u, high, row[k])
    for k in range(LOWS - 1, -1, -1):
        ph, pl = dd_times_float(high, low, u)
        high, low = dd_plus_dd(row[k], lows[k], ph, pl)
    return high, low
