"""Certified exact values of any formula, input by input, over Arb's balls; nothing here is compiled.

Blocks settle what is far out and next to 0, a pass at 64 bits nearly all of the others, with numpy. What is
left goes to more bits, then to its germ, which sees what no precision does, then to more bits still; what
makes no difference to any stays undecided.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from flint import arb
from mpmath.libmp import from_man_exp, fzero, mpf_abs, mpf_gt, mpf_shift
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat
from precision_lab.formats.ball_rounding import float_near, round_ball
from precision_lab.formula.branching import linear
from precision_lab.formula.expression import Expression
from precision_lab.functions import Activation
from precision_lab.numeric.certainty import SMALLEST
from precision_lab.oracle.affine import affine
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.arb_program import loop
from precision_lab.oracle.blocks import settle
from precision_lab.oracle.branches import pieces
from precision_lab.oracle.decide_arrays import decide_arrays
from precision_lab.oracle.declared import check_declared
from precision_lab.oracle.domain import ends_before, mark_outside, outside, partial, value_at_pole
from precision_lab.oracle.germ_functions import Place
from precision_lab.oracle.germs import Germ
from precision_lab.oracle.infinity import limit
from precision_lab.oracle.record import BALLS, EXACT_BITS, SPECIAL, Reference

Float64 = NDArray[np.float64]

VECTOR_BITS = (64, 256)  # in numpy's two parts
BITS = (1024, 4096, 16384, 65536)  # for what they leave; a germ comes before the first of them
GERM_BITS = (256, 2048, 16384)
ENCLOSING_BITS = (128, 512, 4096)
_UP = 1 + 2.0**-50  # covers the roundings of a bound
# Beyond, a power of two is no float64 number, and nothing that a format of the lab rounds to.
_LARGEST_EXPONENT = 1 << 22


def certified_reference(
    function: Activation, output: str, params: Mapping[str, float], x: Float64, fmt: FloatFormat,
    *, saturating: bool = False,
) -> Reference:  # fmt: skip
    """As `reference`, for any formula; parameters are checked already.

    ±∞ gives the limit, where one is proven or declared; else it is not judged. Outside of the domain the
    exact value is NaN: the function is held to that, its derivatives to nothing. At a pole it is what the
    formula goes to (`domain.value_at_pole`).

    Raises:
        UndecidedError: a comparison whose sides may be equal.
    """
    e = function.bound_expression(output, params)
    result = Reference.empty(fmt, x.size)
    result.rounded[np.isnan(x)] = result.exact[np.isnan(x)] = np.nan
    for sign in (-1, 1):
        where = np.flatnonzero(np.isinf(x) & (np.sign(x) == sign))
        if where.size:
            value = limit_of(function, output, params, sign)
            _fill_with(float("nan") if value is None else value, where, result, saturating)
            result.unjudged[where] = value is None  # type: ignore[index]
            result.tier[where] = SPECIAL
    forward = function.bound_expression("forward", params)
    fill(e, x, np.flatnonzero(np.isfinite(x)), result, fmt, saturating, forward)
    if output != "forward" and partial(forward):
        _without_values(forward, x, result)
    return result


def _without_values(forward: Expression, x: Float64, result: Reference) -> None:
    """Where a function has no value, nothing is held to what its derivative's formula has there.

    log(1 + x) is NaN at −2, whatever 1/(1 + x) is: what comes of a gradient there is nobody's promise, as at
    NaN.
    """
    own = Reference.empty(result.fmt, x.size)
    fill(forward, x, np.flatnonzero(np.isfinite(x)), own, result.fmt, False)
    without = np.isfinite(x) & np.isnan(own.exact)
    for sign in (-1, 1):
        if ends_before(forward, sign):
            without |= x == sign * np.inf
    mark_outside(np.flatnonzero(without), result)
    result.unjudged[without] = True  # type: ignore[index]


def certified_enclosures(
    function: Activation, output: str, params: Mapping[str, float], x: Float64
) -> tuple[Float64, Float64, Float64]:
    """As `enclosures`, for any formula: high + low ± radius, the radius ∞ where there is no number.

    Bits are added until the radius is below 2^-90 of the value, or 2^-1060, or there are no more.
    """
    e = function.bound_expression(output, params)
    result = np.zeros((3, x.size))
    for piece, index in pieces(e, x):
        run, left = loop(piece), index
        for bits in ENCLOSING_BITS:
            high, low, radius = _as_floats(run(x[left].tolist(), bits))
            result[:, left] = high, low, radius
            left = left[~(radius <= np.maximum(np.abs(high) * 2.0**-90, 2.0**-1060))]
            if not left.size:
                break
        result[:, left] = np.where(np.isfinite(result[2, left]), result[:, left], [[0.0], [0.0], [np.inf]])
    return result[0], result[1], result[2]


def limit_of(function: Activation, output: str, params: Mapping[str, float], sign: int) -> float | None:
    """The limit at sign·∞ that is proven, else the one that is declared; None where there is neither.

    NaN where there are no values, and where the author says that there is no limit.

    Raises:
        ValueError: what is declared contradicts the formula (`declared`).
    """
    e = function.bound_expression(output, params)
    found = limit(e, sign)
    declared = function.limits.get(output, (None, None))[0 if sign < 0 else 1]
    if declared is not None:
        said = f"limits={{{output!r}: …}} of {function.name}"
        check_declared(e, sign, declared, found, said)
    if found is None and declared is not None:
        return declared
    if found is None and ends_before(e, sign):
        return float("nan")
    if output != "forward" and ends_before(function.bound_expression("forward", params), sign):
        return float("nan")
    return found


def is_judged_at_infinity(function: Activation, output: str, params: Mapping[str, float], sign: int) -> bool:
    """Whether it is known what there is at sign·∞: a limit, or that there are no values."""
    if function.has_terms(output) and output not in function.limits:
        return True
    return limit_of(function, output, params, sign) is not None


def _fill_with(
    value: arb | float | None, index: NDArray[np.int64], result: Reference, saturating: bool
) -> None:
    """One value for several inputs, a ball or a number; None and a ball too wide leave them undecided."""
    if value is None:
        result.undecided[index] = True
        return
    one = float(value)
    if np.isnan(one):
        mark_outside(index, result)
        return
    result.undecided[index] = False
    result.exact[index], result.sign[index] = one, np.sign(one)
    if np.isinf(one):
        result.rounded[index] = result.fmt.overflow(np.array([one]), saturating=saturating)[0]
        return
    high, low, radius = _as_floats([arb(value)])
    found = decide_arrays(high, low, radius, np.zeros(1, np.int64), result.fmt, saturating=saturating)
    result.rounded[index], result.tail[index] = found.rounded[0], found.tail[0]
    result.ulp[index], result.undecided[index] = found.ulp[0], not found.certain[0]


def fill(
    e: Expression, x: Float64, where: NDArray[np.int64], result: Reference, fmt: FloatFormat,
    saturating: bool, function: Expression | None = None,
) -> None:  # fmt: skip
    """Settles the inputs x[where] of a result, for an expression in x alone.

    Args:
        x: as float64, finite at `where`.
        function: what it is a derivative of, whose domain it has.
        result: its arrays are written at `where`; what stays undecided has `undecided` set.

    Raises:
        UndecidedError: a comparison whose sides may be equal.
    """
    for piece, part in pieces(e, x[where]):
        _fill_piece(piece, x, where[part], result, fmt, saturating, function)


def _fill_piece(
    e: Expression, x: Float64, index: NDArray[np.int64], result: Reference, fmt: FloatFormat,
    saturating: bool, function: Expression | None,
) -> None:  # fmt: skip
    result.tier[index], result.undecided[index] = BALLS, True
    zero = x[index] == 0
    left = _fill_affine(e, x, index[~zero], result, fmt, saturating)
    left = np.concatenate([index[zero], settle(e, x, left, result, fmt, saturating)])
    run = loop(e)
    rest: list[int] = []
    for bits in VECTOR_BITS:
        if not left.size:
            return
        balls = run(x[left].tolist(), bits)
        # What float64 cannot hold, but decides: all of e^x beyond 710.
        rest = [i for i, y, known in zip(left.tolist(), balls, _decided(balls, left, result, fmt, saturating),
                                         strict=True)
                if not known and not _settled(i, _from_ball(y, fmt, saturating), result)]  # fmt: skip
        left = np.array(rest, np.int64)
    for step, bits in enumerate(BITS):
        if not rest:
            return
        if step == 0:
            rest = [i for i in rest
                    if not _settled(i, _from_germ(e, float(x[i]), fmt, saturating), result)]  # fmt: skip
            rest = [i for i in rest if not _singular(e, i, x, result, saturating, function)]
        rest = [i for i, y in zip(rest, run([float(x[i]) for i in rest], bits), strict=True)
                if not _settled(i, _from_ball(y, fmt, saturating), result)]  # fmt: skip


def _fill_affine(
    e: Expression, x: Float64, index: NDArray[np.int64], result: Reference, fmt: FloatFormat, saturating: bool
) -> NDArray[np.int64]:
    """Settles a·x + b with rational numbers, where float64 arithmetic does; the indices that are left."""
    written = linear(e)
    if written is None or not index.size:
        return index
    high, low, radius = affine(*written, x[index])
    # A value that is not 0 is far above what float64 loses: `affine` says no to smaller ones.
    return index[~_write_decided(high, low, radius, np.zeros(index.size), index, result, fmt, saturating)]


def _singular(
    e: Expression, i: int, x: Float64, result: Reference, saturating: bool, function: Expression | None
) -> bool:
    """Settles an input at which the formula has no finite value; True where it has none, settled or not."""
    point = Fraction(float(x[i]))
    index = np.array([i])
    if partial(e) and outside(e, point, point):
        mark_outside(index, result)
        return True
    if loop(e)([float(x[i])], BITS[-1])[0].is_finite():
        return False
    _fill_with(value_at_pole(e, float(x[i]), function), index, result, saturating)
    return True


def _decided(
    balls: list[arb], index: NDArray[np.int64], result: Reference, fmt: FloatFormat, saturating: bool
) -> NDArray[np.bool_]:
    """Writes what numpy can decide of balls; where it could."""
    high, low, radius = _as_floats(balls)
    # Not 0, only too small for float64.
    sides = np.zeros(len(balls))
    for i in np.flatnonzero((high == 0) & (radius > 0)):
        sides[i] = -1.0 if balls[i] < 0 else 1.0
    return _write_decided(high, low, radius, sides, index, result, fmt, saturating)


def _write_decided(
    high: Float64, low: Float64, radius: Float64, sides: Float64, index: NDArray[np.int64],
    result: Reference, fmt: FloatFormat, saturating: bool,
) -> NDArray[np.bool_]:  # fmt: skip
    """Writes what numpy can decide of high + low ± radius; where it could.

    Args:
        sides: the signs of values that float64 shows as 0.
    """
    rounded, tail, ulp, certain = decide_arrays(
        high, low, radius, np.zeros(high.size, np.int64), fmt, saturating=saturating
    )
    size = np.abs(high)
    with np.errstate(invalid="ignore", over="ignore"):
        # `exact` is to float64's precision: what only the rounding of a coarse format is known of is not
        # enough.
        known = (size * 2.0**-50 > radius) | ((size == 0) & (radius == 0))
        invisible = 4 * (size + radius) < fmt.min_subnormal
    good = certain & (known | invisible)
    vanished = (high == 0) & (radius > 0)  # the smallest number stands for it
    sign = np.where(known, np.sign(high), 0)
    chosen = index[good]
    for name, values in (("rounded", rounded), ("tail", tail), ("ulp", ulp), ("sign", sign),
                         ("exact", np.where(vanished, sides * SMALLEST, high))):  # fmt: skip
        getattr(result, name)[chosen] = values[good]
    result.undecided[chosen] = False
    return np.asarray(good)


def _as_floats(balls: list[arb]) -> tuple[Float64, Float64, Float64]:
    """high + low ± radius of balls, low being what the middle has beyond float64.

    The radius is infinite where a ball is not finite.

    The difference from `high` is a ball again, whose float64 middle is `low`; converting that loses at most
    half an ulp of it, or 2^-1075. Of a ball with k bits of relative accuracy the radius is below
    |middle|·2^-k (the definition of `arb_rel_error_bits`).
    """
    n = len(balls)
    high = np.fromiter((_middle(y) for y in balls), np.float64, n)
    low, radius = np.zeros(n), np.full(n, np.inf)
    with working_precision(53):
        for i in np.flatnonzero(np.isfinite(high)).tolist():
            rest = balls[i] - high[i]
            bits = rest.rel_accuracy_bits()
            middle = float(rest)
            if rest.is_zero():
                radius[i] = 0.0
            elif bits > 2:
                low[i] = middle
                radius[i] = abs(middle) * (2.0**-53 + 2.0 ** -min(bits, 1000)) * _UP + SMALLEST
            else:
                radius[i] = float(abs(rest).upper()) * _UP + SMALLEST
    return high, low, radius


def _middle(ball: arb) -> float:
    try:
        return float(ball) if ball.is_finite() else float("nan")
    except (OverflowError, ValueError):
        return float("inf")


Settled = tuple[float, float, float, float, int]  # rounded, tail, ulp, exact, sign


def _settled(i: int, found: Settled | None, result: Reference) -> bool:
    if found is None:
        return False
    result.rounded[i], result.tail[i], result.ulp[i], result.exact[i], result.sign[i] = found
    result.undecided[i] = False
    return True


def _raw(ball: arb) -> tuple[object, object] | None:
    """Middle and radius as raw libmp numbers."""
    if not ball.is_finite():
        return None
    found = []
    for part in (ball.mid(), ball.rad()):
        mantissa, exponent = part.man_exp()
        if abs(int(exponent)) > _LARGEST_EXPONENT:
            return None
        found.append(from_man_exp(int(mantissa), int(exponent)))
    return found[0], found[1]


def _from_ball(ball: arb, fmt: FloatFormat, saturating: bool) -> Settled | None:
    sign = 1 if ball > 0 else -1 if ball < 0 else 0
    if sign and ball.is_finite() and abs(ball) > arb(2) ** (fmt.emax + 2):
        number = float(fmt.overflow(np.array([sign * np.inf]), saturating=saturating)[0])
        ulp = 2.0 ** (fmt.emax - fmt.precision + 1)
        return number, 0.0, ulp, _middle(ball), sign
    raw = _raw(ball)
    if raw is None or not (ball.is_exact() or ball.rel_accuracy_bits() > EXACT_BITS):
        return None
    rounded, tail, _, ulp, decided = round_ball(*raw, fmt, saturating=saturating)
    return (rounded, tail, ulp, float_near(raw[0]), sign) if decided else None


def _from_germ(e: Expression, x: float, fmt: FloatFormat, saturating: bool) -> Settled | None:
    for bits in GERM_BITS:
        with working_precision(bits):
            place = Place(Fraction(x), Fraction(x))
            germ = place.germ(e)
            if germ.constant is None:
                continue
            rest = place.ball(Germ(rests=germ.rests))
            if not rest.is_finite():
                continue
            found = _beside(germ.constant, rest, place.rests_sign(germ.rests), fmt, saturating)
            if found is not None:
                return found
    return None


def _beside(
    exact: Fraction, rest: arb, side: int | None, fmt: FloatFormat, saturating: bool
) -> Settled | None:
    """Where the value is an exact dyadic number up to a rest of known sign that float64 does not show."""
    if side is None or exact.denominator & (exact.denominator - 1):
        return None
    anchor = from_man_exp(exact.numerator, 1 - exact.denominator.bit_length())
    # Then the anchor's sign is the value's, and it is `exact` to float64's precision.
    smallest = from_man_exp(1, -1074) if anchor == fzero else mpf_shift(mpf_abs(anchor), -EXACT_BITS)
    reach = fzero
    if side:
        if not abs(rest) < arb(2) ** -1200:
            raw = _raw(arb(abs(rest).upper()))
            if raw is None:
                return None
            reach = raw[0]
        else:
            reach = from_man_exp(1, -1200)
        if mpf_gt(reach, smallest):
            return None
    rounded, tail, _, ulp, decided = round_ball(anchor, reach, fmt, side=side, saturating=saturating)
    if not decided:
        return None
    if anchor == fzero:
        return rounded, tail, ulp, side * SMALLEST, side
    return rounded, tail, ulp, float_near(anchor), -1 if anchor[0] else 1
