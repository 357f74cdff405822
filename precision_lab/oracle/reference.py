"""Certified exact values, input by input: double-double, then mpmath for what is left.

This is the ladder's upper part. The first tier, which most inputs never leave, is `scoring.first_tier`:
it scores values without storing references. What is compiled is imported by the first call that needs it:
naming `reference` loads no compiler.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mpmath.libmp import from_float, from_man_exp, fzero, mpf_abs, mpf_add, mpf_gt, mpf_shift, mpf_sub

from precision_lab.exceptions import UsageError, door
from precision_lab.formats import FloatFormat, get_format
from precision_lab.formats.ball_rounding import float_above, float_near, round_ball
from precision_lab.functions import Activation, get_function
from precision_lab.numeric.certainty import SMALLEST
from precision_lab.oracle.balls import MpContext
from precision_lab.oracle.certified import certified_enclosures, certified_reference
from precision_lab.oracle.curve import Curve
from precision_lab.oracle.evaluate import MAX_PRECISION, beside, certain_ball, output_ball
from precision_lab.oracle.format_row import format_row
from precision_lab.oracle.record import BALLS, DOUBLE_DOUBLE, EXACT_BITS, TIERS, Float64, Reference

MP_START = 128  # bits of precision that mpmath starts with; doubled up to MAX_PRECISION


@door
def reference(
    function: str | Activation,
    output: str,
    params: Mapping[str, float] | None,
    x: Float64,
    fmt: str | FloatFormat,
    *,
    saturating: bool = False,
) -> Reference:
    """Certified exact values of an output, ready to score values of a format against.

    Args:
        params: effective parameter values, taken as exact float64 numbers.
        x: inputs as float64, shape (n,); NaN and infinities allowed.
        fmt: format of the *output* under test.
        saturating: overflow goes to the largest finite value instead of infinity or NaN.

    Raises:
        ValueError: unknown function, output, format or parameter; a parameter out of range; a format to
            which nothing rounds.
    """
    definition, target = get_function(function), get_format(fmt)
    target.check_rounds()
    definition.check_output(output)
    curve = Curve(definition, output, definition.check_params(params))
    x = np.asarray(x, np.float64)
    if not definition.has_terms(output):
        return certified_reference(definition, output, curve.params, x, target, saturating=saturating)
    from precision_lab.oracle import double_double_tier
    from precision_lab.oracle.settle import settle

    result = Reference.empty(target, x.size)
    _fill_special(curve, x, result, saturating)
    at_zero = np.flatnonzero(x == 0)
    finite = np.flatnonzero(np.isfinite(x) & (x != 0))
    if finite.size:
        high, low, radius, nudge = double_double_tier.enclose(curve, x[finite])
        certain = np.empty(finite.size, np.bool_)
        settled = [np.empty(finite.size) for _ in range(4)]
        signs = np.empty(finite.size, np.int64)
        rounded, tail, ulp, exact = settled
        settle(
            high, low, radius, nudge, format_row(target, saturating),
            rounded, tail, ulp, exact, signs, certain,
        )  # fmt: skip
        for field, values in zip(
            (result.rounded, result.tail, result.ulp, result.exact), settled, strict=True
        ):
            field[finite] = values
        result.sign[finite], result.tier[finite], result.undecided[finite] = signs, DOUBLE_DOUBLE, ~certain
    for i in [*at_zero.tolist(), *finite[result.undecided[finite]].tolist()]:
        _mpmath_tier(curve, float(x[i]), i, result, saturating)
    return result


def enclosures(
    function: Activation, output: str, params: Mapping[str, float] | None, x: Float64
) -> tuple[Float64, Float64, Float64]:
    """high + low ± radius of an output at finite inputs, from the double-double tier or Arb.

    Raises:
        ValueError: as `reference`, or an x that is not finite.
    """
    x = np.asarray(x, np.float64)
    if not np.isfinite(x).all():
        raise UsageError("enclosures are for finite inputs; x contains infinities or NaN")
    curve = Curve(function, output, function.check_params(params))
    if not function.has_terms(output):
        return certified_enclosures(function, output, curve.params, x)
    from precision_lab.oracle import double_double_tier

    result = np.zeros((3, x.size))
    nonzero = np.flatnonzero(x != 0)
    if nonzero.size:
        high, low, radius, nudge = double_double_tier.enclose(curve, x[nonzero])
        result[:, nonzero] = high, low, radius + np.where(nudge != 0, double_double_tier.NUDGED, 0.0)
    if nonzero.size < x.size:
        ball = certain_ball(lambda m: output_ball(function, output, curve.params, 0.0, m), 120)
        middle = float_near(ball.middle)
        # Not a factor of the middle: that underflows where the middle is small, or is itself rounded to 0.
        apart = mpf_add(mpf_abs(mpf_sub(ball.middle, from_float(middle))), ball.radius)
        result[:, x == 0] = np.array([[middle], [0.0], [float_above(apart)]])
    return result[0], result[1], result[2]


def _fill_special(curve: Curve, x: Float64, result: Reference, saturating: bool) -> None:
    """NaN gives NaN; ±inf gives the limit, rounded."""
    from precision_lab.oracle.decide import decide

    result.rounded[np.isnan(x)] = np.nan
    result.exact[np.isnan(x)] = np.nan
    row = format_row(result.fmt, saturating)
    for sign in (-1, 1):
        where = np.isinf(x) & (np.sign(x) == sign)
        if not where.any():
            continue
        limit = curve.function.limit(curve.output, curve.params, sign)
        result.exact[where] = limit
        result.sign[where] = np.sign(limit)
        if np.isinf(limit):
            result.rounded[where] = result.fmt.overflow(np.array([limit]), saturating=saturating)[0]
        else:
            rounded, tail, ulp, _ = decide(limit, 0.0, 0.0, 0, row)
            result.rounded[where], result.tail[where], result.ulp[where] = rounded, tail, ulp


def _mpmath_tier(curve: Curve, x: float, i: int, result: Reference, saturating: bool) -> None:
    """Settles one input with mpmath, or leaves it undecided.

    At each precision the value's ball is tried, then what it is beside: what makes no difference to
    either at any precision up to MAX_PRECISION stays open.
    """
    result.tier[i] = BALLS
    result.undecided[i] = True
    precision = MP_START
    while precision <= MAX_PRECISION:
        m = MpContext(precision)
        try:
            found = _from_ball(curve, x, m, result.fmt, saturating)
            if found is None:
                found = _from_beside(curve, x, m, result.fmt, saturating)
        except ZeroDivisionError:
            found = None  # a divisor's ball contains 0 at this precision: raise it
        if found is not None:
            result.rounded[i], result.tail[i], result.ulp[i], result.exact[i], result.sign[i] = found
            result.undecided[i] = False
            return
        precision *= 2


Settled = tuple[float, float, float, float, int]  # rounded, tail, ulp, exact, sign


def _from_ball(curve: Curve, x: float, m: MpContext, fmt: FloatFormat, saturating: bool) -> Settled | None:
    ball = output_ball(curve.function, curve.output, curve.params, x, m)
    if not ball.is_certain(EXACT_BITS):
        return None
    rounded, tail, _, ulp, decided = round_ball(ball.middle, ball.radius, fmt, saturating=saturating)
    return (rounded, tail, ulp, float_near(ball.middle), ball.sign()) if decided else None


def _from_beside(curve: Curve, x: float, m: MpContext, fmt: FloatFormat, saturating: bool) -> Settled | None:
    """Where the value is an exact number up to a remainder of known sign that float64 does not show."""
    found = beside(curve.function, curve.output, curve.params, x, m)
    if found is None:
        return None
    anchor, side = found.anchor, found.side
    # Then the anchor's sign is the value's, and it is `exact` to float64's precision.
    smallest = from_man_exp(1, -1074) if anchor == fzero else mpf_shift(mpf_abs(anchor), -EXACT_BITS)
    if mpf_gt(found.reach, smallest):
        return None
    rounded, tail, _, ulp, decided = round_ball(anchor, found.reach, fmt, side=side, saturating=saturating)
    if not decided:
        return None
    if anchor == fzero:
        return rounded, tail, ulp, side * SMALLEST, side
    return rounded, tail, ulp, float_near(anchor), -1 if anchor[0] else 1


__all__ = ["TIERS", "Reference", "enclosures", "reference"]
