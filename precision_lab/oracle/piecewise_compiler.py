"""Compiles a basis function's definition into piecewise polynomials with proven errors.

A side of f is g(a) = f(±a), a = |x| > 0. On |x| < 2^c it is a^v·P(a), v the order of its zero at
0; every binade [2^e, 2^(e+1)) above is cut into 2^s equal pieces, on which g is a polynomial in
u = (a − centre)/half-width, |u| ≤ 1: both the difference (the operands are within a factor two of
each other) and the division by a power of two are exact. s is the smallest for which the proven
error is small enough.

One absolute bound per piece contains
- what the polynomial leaves out: Lagrange's remainder, the (d+1)-th Taylor coefficient that Arb
  proves for all points of the piece at once (a power series around a ball);
- the distance of the stored coefficients from Arb's balls;
- the roundings of Horner's rule, summed up by the recurrence in `horner_bound` and `_horner_dd`.

Beyond the last binade f is its asymptote, up to 2^-1060 (`BasisFunction.beyond`).

Tables are kept on disk, keyed by the definition's text and the settings below, with the parts of
every bound; a damaged file is compiled again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import UsageError
from precision_lab.functions.basis import BasisFunction
from precision_lab.numeric.error_free import U
from precision_lab.oracle import arb_series as arb_module
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.system.ieee import require

Float64 = NDArray[np.float64]

VERSION = 1
CENTRAL = -5  # c: the central piece is |x| < 1/32
FP32_END = 128  # 2^128 is beyond every fp32 number
MAX_SPLIT = 11  # no binade is cut into more than 2^11 pieces
DEGREE = 11  # first tier
DEGREE_DD = 21  # second tier,
LOWS = 13  # of which the first coefficients have low parts
TARGET = 2.0**-47  # error wanted, relative to the largest |g| or slope·width of a piece
TARGET_DD = 2.0**-98
# Results this small are invisible to fp32 (first tier) or out of float64's reach (second).
FLOOR, FLOOR_DD = 2.0**-190, 2.0**-1040
REMAINDER_FROM = 2.0**-8  # where f is nearer to its asymptote, the second tier stores the difference
PRECISION, MAX_PRECISION = 128, 4096  # bits Arb starts with, and where it stops
SLACK = 1 + 2.0**-30  # covers the host's roundings: a few hundred of 2^-53


@dataclass(frozen=True)
class Table:
    """One side of one basis function.

    Attributes:
        layout: c, E, v, then for every binade from c on its split s and first row.
        coefficients: shape (rows, degree + 1), row 0 the central piece's, lowest order first.
        lows: low parts, shape (rows, LOWS); empty in the first tier.
        bounds: absolute error of each row; row 0: relative to |x|^v (first tier), or absolute of
            R in f = c0·x^v + x^(v+1)·R(x) (second tier).
        central: c0 of the second tier as high, low and radius.
        remainder: per row, whether the polynomial is f − asymptote.
        asymptote: its coefficients of 1 and x; NaN where they are no float64 numbers or there is none.
        beyond: |x| from which f is the asymptote, up to 2^-1060.
        proof: what each bound is made of: remainder, coefficients, roundings; shape (rows, 3).
    """

    layout: NDArray[np.int64]
    coefficients: Float64
    lows: Float64
    bounds: Float64
    central: Float64
    remainder: NDArray[np.bool_]
    asymptote: Float64
    beyond: Float64
    proof: Float64


def _end(basis: BasisFunction, side: int) -> int:
    """E: the asymptote takes over at 2^E."""
    if basis.approach[0 if side < 0 else 1] is None or math.isinf(basis.beyond):
        return FP32_END
    return max(CENTRAL + 1, int(np.ceil(np.log2(max(basis.beyond, 1.0)))))


def _asymptote(basis: BasisFunction, side: int) -> tuple[float, float]:
    found = basis.at_minus_infinity if side < 0 else basis.at_plus_infinity
    if found is None or basis.approach[0 if side < 0 else 1] is None:
        return float("nan"), float("nan")
    if any(found[2:]) or not all(float(v) == v for v in found):
        raise UsageError(f"{basis.name}: an asymptote must be a + b·x with float64 a and b to be compiled")
    return float(found[0]), float(found[1])


def _series(
    basis: BasisFunction, side: int, centre: Any, terms: int, less: tuple[float, float] | None
) -> list[Any]:
    """Taylor coefficients of g (minus an asymptote) around a ball."""
    from flint import arb, arb_series

    x = arb_module.ArbSeries(arb_series([arb(centre) * side, arb(side)]))
    m = arb_module.ArbSeriesContext()
    if basis.slope is None:
        value = basis.formula(m, x)
    else:  # the value at the centre and the integral of the slope
        constant = basis.formula(m, arb_module.ArbSeries(x.coefficient(0))).coefficient(0)
        value = arb_module.ArbSeries((basis.slope(m, x) * side).series.integral()) + constant
    if less is not None:
        value = value - (arb_module.ArbSeries(arb(less[0])) + arb(less[1]) * x)
    return [value.coefficient(k) for k in range(terms)]


def horner_bound(size: list[float]) -> float:
    """h_k = fl(b_k + u·h_{k+1}), one rounding: E_k ≤ E_{k+1} + u·H_k, H_k = |b_k| + H_{k+1}, |u| ≤ 1."""
    error, total = 0.0, size[-1]
    for b in size[-2::-1]:
        total += b
        error += U * total
    return error


def _horner_dd(size: list[float]) -> float:
    """Float64 steps down to order LOWS, then dd_times_float (2u²) and dd_plus_dd (3.01u²) steps."""
    tail = size[LOWS:]
    error, total = horner_bound(tail), sum(tail)
    for b in size[LOWS - 1 :: -1]:
        error += 2 * U * U * total
        total += b
        error += 3.01 * U * U * total
    return error


@dataclass(frozen=True)
class Piece:
    high: list[float]
    low: list[float]
    bound: float
    proof: tuple[float, float, float]
    size: float
    precision: int = PRECISION


def upper(value: Any) -> float:
    """A float64 not below |value|."""
    return float(abs(value).upper()) * (1 + 2.0**-50) + 2.0**-1074


def _piece(
    basis: BasisFunction,
    side: int,
    centre: float,
    half: float,
    double: bool,
    less: tuple[float, float] | None,
    precision: int,
) -> Piece:
    """Polynomial in u around `centre` with its bound; Arb's `precision` is doubled while it matters."""
    from flint import arb

    degree, lows = (DEGREE_DD, LOWS) if double else (DEGREE, 0)
    target, floor = (TARGET_DD, FLOOR_DD) if double else (TARGET, FLOOR)
    while True:
        with working_precision(precision, degree + 2):
            width = arb(half)
            exact = _series(basis, side, centre, degree + 1, less)
            high, low, apart = [], [], 0.0
            scale = arb(1)
            for k, a in enumerate(exact):
                b = a * scale
                scale = scale * width
                h = float(b.mid())
                rest = b - arb(h)
                s = float(rest.mid()) if k < lows else 0.0
                apart += upper(rest - arb(s))
                high.append(h)
                low.append(s)
        sizes = [abs(h) * (1 + 2.0**-50) for h in high]
        rounding = _horner_dd(sizes) if double else horner_bound(sizes)
        size = max(sizes[0], sizes[1])
        wanted = max(target * size, floor)
        if apart <= wanted / 4 or precision >= MAX_PRECISION:
            break
        precision *= 2
    with working_precision(precision, degree + 2):
        try:
            whole = _series(basis, side, arb(centre, half), degree + 2, less)[degree + 1]
            left_out = upper(whole * arb(half) ** (degree + 1))
        except (ValueError, ZeroDivisionError):  # a divisor's ball contains 0: the piece is too wide
            left_out = float("inf")
    bound = (left_out + apart + rounding) * SLACK + 2.0**-1074
    if not bound < math.inf:  # Arb could say nothing: whoever uses the piece climbs
        bound = math.inf
    return Piece(high, low, bound, (left_out, apart, rounding), size, precision)


def _good(piece: Piece, double: bool) -> bool:
    target, floor = (TARGET_DD, FLOOR_DD) if double else (TARGET, FLOOR)
    return piece.bound <= max(target * piece.size, floor)


def _binade(
    basis: BasisFunction, side: int, e: int, guess: int, double: bool, less: tuple[float, float] | None
) -> tuple[int, list[Piece]]:
    """Split and pieces of one binade: the first and the last are tried before all."""
    for s in range(max(guess - 2, 0), MAX_SPLIT + 1):
        half = 2.0 ** (e - s - 1)
        centres = [2.0**e + (2 * i + 1) * half for i in range(1 << s)]
        ends = [_piece(basis, side, c, half, double, less, PRECISION) for c in (centres[0], centres[-1])]
        if s < MAX_SPLIT and not all(_good(end, double) for end in ends):
            continue
        # What the ends needed, those between need: trying less would cost as much again.
        precision = min(end.precision for end in ends)
        pieces = [_piece(basis, side, c, half, double, less, precision) for c in centres]
        if s == MAX_SPLIT or all(_good(p, double) for p in pieces):
            return s, pieces
    raise AssertionError("unreachable: MAX_SPLIT is always accepted")


def _central(basis: BasisFunction, side: int, double: bool) -> tuple[int, Piece, tuple[float, float, float]]:
    """v, the polynomial of a ≤ 2^c in u = a/2^c, and c0 as high, low, radius."""
    from flint import arb

    degree, lows = (DEGREE_DD, LOWS) if double else (DEGREE, 0)
    reach = 2.0**CENTRAL
    with working_precision(512, degree + 6):
        exact = _series(basis, side, 0.0, degree + 5, None)
        order = next(k for k, a in enumerate(exact) if not a.is_zero())
        first = order + 1 if double else order  # the second tier keeps c0 apart
        whole = _series(basis, side, arb(0, reach), degree + 6, None)[first + degree + 1]
        left_out = upper(whole * arb(reach) ** (degree + 1))
        high, low, apart = [], [], 0.0
        for k in range(degree + 1):
            b = exact[first + k] * arb(reach) ** k
            h = float(b.mid())
            s = float((b - arb(h)).mid()) if k < lows else 0.0
            apart += upper(b - arb(h) - arb(s)) if not b.is_zero() else 0.0
            high.append(h)
            low.append(s)
        c0 = exact[order]
        c0_high = float(c0.mid())
        c0_low = float((c0 - arb(c0_high)).mid())
        rest = c0 - arb(c0_high) - arb(c0_low)
        c0_rest = 0.0 if rest.is_zero() else upper(rest)
    sizes = [abs(h) * (1 + 2.0**-50) for h in high]
    # In the first tier up to v multiplications by a follow, each of one rounding.
    rounding = _horner_dd(sizes) if double else horner_bound(sizes) + 1.01 * order * U * sum(sizes)
    bound = (left_out + apart + rounding) * SLACK
    return (
        order,
        Piece(high, low, bound, (left_out, apart, rounding), max(sizes[:2])),
        (c0_high, c0_low, c0_rest),
    )


def compile_table(basis: BasisFunction, side: int, double: bool) -> Table:
    """The table of one side (-1 or 1) of a basis function for the first or the second tier.

    Raises:
        ValueError: the function's asymptote is no a + b·x with float64 numbers.
        EnvironmentAltersResultsError: this thread does not compute IEEE arithmetic.
    """
    require(f"No table of {basis.name} was made")
    end = _end(basis, side)
    asymptote = _asymptote(basis, side)
    order, centre, c0 = _central(basis, side, double)
    pieces, remainder = [centre], [False]
    layout = [CENTRAL, end, order]
    split = 2
    for e in range(CENTRAL, end):
        less = None
        if double and any(asymptote) and not np.isnan(asymptote[0]):
            with working_precision(2048, 2):
                gap = upper(_series(basis, side, 2.0**e, 1, asymptote)[0])
            if gap < REMAINDER_FROM * abs(asymptote[0] + asymptote[1] * 2.0**e):
                less = asymptote
        split, found = _binade(basis, side, e, split, double, less)
        layout += [split, len(pieces)]
        pieces += found
        remainder += [less is not None] * len(found)
    return Table(
        np.array(layout, np.int64),
        np.array([p.high for p in pieces]),
        np.array([p.low[:LOWS] for p in pieces]) if double else np.zeros((0, 0)),
        np.array([p.bound for p in pieces]),
        np.array(c0),
        np.array(remainder),
        np.array(asymptote),
        np.array([basis.beyond if basis.approach[0 if side < 0 else 1] is not None else math.inf]),
        np.array([p.proof for p in pieces]),
    )
