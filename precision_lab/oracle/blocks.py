"""Thousands of inputs settled by one evaluation: far out and next to 0, where a germ says all that counts.

On a block of x, f is an exact constant or c·x up to a rest of known sign that is too small to be seen.
Nothing is taken on trust from whoever wrote the formula: the germ is derived, on blocks that are halved until
it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from flint import arb
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat
from precision_lab.formula.expression import Expression
from precision_lab.formula.rewriting import ZERO
from precision_lab.numeric.certainty import SMALLEST
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.decide_arrays import decide_arrays
from precision_lab.oracle.domain import mark_outside, outside, partial
from precision_lab.oracle.germ_functions import Place
from precision_lab.oracle.germs import Germ, Rest
from precision_lab.oracle.record import BALLS, Reference

Float64 = NDArray[np.float64]

BITS = 256
# Blocks between these sizes are not halved any more: there functions have digits of their own.
INNER, OUTER = 2.0**-16, 2.0**6
FEWEST = 128  # inputs that are worth a block: one by one they take as long
VISIBLE = 2.0**-53  # a rest this much smaller than the exact part leaves float64's picture of it as it is
RESTS_BELOW = -1074  # rests alone stand for nothing that float64 shows


@dataclass(frozen=True)
class Shape:
    """f(x) = constant + slope·x + rest on a block, one of the two being 0.

    Attributes:
        side: sign of the rest; 0: there is none; None: unknown.
        reach: the rest is at most so large; a float64, 0 only where it is 0.
    """

    constant: Fraction
    slope: Fraction
    side: int | None
    reach: float


def shape(e: Expression, low: float, high: float) -> Shape | None:
    """Of a branch-free expression on low ≤ x ≤ high; None where it is not so simple, or cannot be shown."""
    with working_precision(BITS):
        place = Place(Fraction(low), Fraction(high))
        germ = place.germ(e)
        exact = germ.exact
        if germ.turns:
            return None
        # What grows faster than the first term is a rest as well: next to 0 it is small.
        first = next((k for k, c in enumerate(exact) if c), 0)
        if first < 2 and len(exact) > first + 1:
            grows = (Fraction(0),) * (first + 1) + exact[first + 1 :]
            rest = Germ(rests={ZERO: Rest(place.poly_ball(grows), place.poly_sign(grows))})
            exact = exact[: first + 1]
            germ = place.added(Germ(exact, rests=germ.rests), rest)
        if len(exact) > 2:
            return None
        reach = _reach(place, germ)
        if not reach < float("inf"):
            return None
        constant = exact[0] if len(exact) == 1 else Fraction(0)
        return Shape(
            constant, exact[1] if len(exact) == 2 else Fraction(0), place.rests_sign(germ.rests), reach
        )


def _reach(place: Place, germ: Germ) -> float:
    """A float64 not below |Σ rests|."""
    total = 0.0
    for exponent, rest in germ.rests.items():
        ball = abs(place.rest_ball(exponent, rest)) if place.value(exponent) > -(2.0**40) else abs(rest.ball)
        if not ball.is_finite():
            return float("inf")
        if not place.value(exponent) > -(2.0**40):
            # e^(−2^40) times less than 2^(2^30) is below 2^-1074.
            if not ball < arb(2) ** (1 << 30) or not place.value(exponent) < -(2.0**39):
                return float("inf")
            total += SMALLEST
            continue
        try:
            total += float(ball.upper()) * (1 + 2.0**-50) + SMALLEST
        except OverflowError:
            return float("inf")
    return total


def settle(
    e: Expression, x: Float64, index: NDArray[np.int64], result: Reference, fmt: FloatFormat, saturating: bool
) -> NDArray[np.int64]:
    """Settles what blocks can of the inputs x[index], none of them 0; the indices that are left."""
    left: list[NDArray[np.int64]] = []
    for sign in (-1, 1):
        part = index[np.sign(x[index]) == sign]
        if part.size:
            order = part[np.argsort(np.abs(x[part]), kind="stable")]
            _halved(e, x, order, result, fmt, saturating, left)
    return np.sort(np.concatenate(left)) if left else np.zeros(0, np.int64)


def _halved(
    e: Expression, x: Float64, order: NDArray[np.int64], result: Reference, fmt: FloatFormat,
    saturating: bool, left: list[NDArray[np.int64]],
) -> bool:  # fmt: skip
    """Of inputs ordered by size: as one block, else in two. Whether any was settled."""
    sizes = np.abs(x[order[[0, -1]]])
    if order.size < FEWEST or (sizes[0] >= INNER and sizes[1] <= OUTER and not partial(e)):
        left.append(order)
        return False
    ends = sorted(x[order[[0, -1]]].tolist())
    if partial(e) and outside(e, Fraction(ends[0]), Fraction(ends[1])):
        mark_outside(order, result)
        return True
    found, any_settled = shape(e, *ends), False
    if found is not None:
        settled = _settled(found, x, order, result, fmt, saturating)
        if settled.all():
            return True
        if settled.any():
            order, any_settled = order[~settled], True
            if order.size < FEWEST:
                left.append(order)
                return True
    exponents = np.frexp(np.abs(x[order]))[1]
    middle = (int(exponents[0]) + int(exponents[-1]) + 1) // 2
    cut = int(np.searchsorted(exponents, middle))
    if cut in (0, order.size):
        left.append(order)
        return any_settled
    # What is not simple at its end, next to 0 or far out, is not simpler away from there.
    first, second = (order[:cut], order[cut:]) if sizes[0] < 1 else (order[cut:], order[:cut])
    done = _halved(e, x, first, result, fmt, saturating, left)
    if done or sizes[0] < 1 < sizes[1]:
        done |= _halved(e, x, second, result, fmt, saturating, left)
    else:
        left.append(second)
    return done or any_settled


def _settled(
    found: Shape, x: Float64, order: NDArray[np.int64], result: Reference, fmt: FloatFormat, saturating: bool
) -> NDArray[np.bool_]:
    """Writes what the shape decides; where it did."""
    none = np.zeros(order.size, np.bool_)
    points = x[order]
    if found.slope:
        slope = float(found.slope)
        if Fraction(slope) != found.slope:
            return none
        high, low = product(slope, points)
        if not np.isfinite(high).all() or not np.isfinite(low).all():
            return none
    else:
        constant = float(found.constant)
        if Fraction(constant) != found.constant:
            return none
        high, low = np.full(order.size, constant), np.zeros(order.size)
    whole = high != 0
    reach, side = found.reach, found.side or 0
    with np.errstate(all="ignore"):
        unseen = np.where(whole, reach <= np.abs(high) * VISIBLE, reach <= 2.0**RESTS_BELOW * 8)
        radius = np.full(order.size, reach)
        wide = decide_arrays(high, low, radius, np.zeros(order.size, np.int64), fmt, saturating=saturating)
        on_edge = decide_arrays(
            high, low, np.zeros(order.size), np.full(order.size, side), fmt, saturating=saturating
        )
        # On a multiple of half an ulp no other edge is near: a rest below 2^-11 ulps is as good as
        # infinitesimal.
        edge = (low == 0) & (np.rint(2 * high / on_edge.ulp) == 2 * high / on_edge.ulp)
        edge &= (reach <= 2.0**-11 * on_edge.ulp) & (found.side is not None)
    use_edge = edge & on_edge.certain
    good = unseen & (use_edge | wide.certain)
    if found.side is None:
        good &= ~whole | wide.certain
    chosen = order[good]
    for name in ("rounded", "tail", "ulp"):
        values = np.where(use_edge, getattr(on_edge, name), getattr(wide, name))
        getattr(result, name)[chosen] = values[good]
    exact = np.where(whole, high, side * SMALLEST)
    sign = np.where(whole, np.sign(high), side)
    result.exact[chosen], result.sign[chosen] = exact[good], sign[good]
    result.tier[chosen], result.undecided[chosen] = BALLS, False
    return np.asarray(good)


def product(a: float, x: Float64) -> tuple[Float64, Float64]:
    """a·x as high + low exactly (Dekker), where nothing over- or underflows; else not finite."""
    with np.errstate(all="ignore"):
        high = a * x
        split = 134217729.0  # 2^27 + 1
        ta, tx = split * a, split * x
        ah, xh = ta - (ta - a), tx - (tx - x)
        al, xl = a - ah, x - xh
        low = ((ah * xh - high) + ah * xl + al * xh) + al * xl
        # Below 2^-960 the parts' products lose bits.
        return high, np.where((np.abs(high) < 2.0**-960) & (high != 0), np.nan, low)
