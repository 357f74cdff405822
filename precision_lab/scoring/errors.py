"""What an error is: pure functions of computed values and a `Reference`, on arrays of shape (n,).

An ulp is `FloatFormat.ulp` of the exact value. These are the definitions; `oracle.decide` with `one_value`,
`tile` and `score.cu` are fast forms of them, which tests/scoring/test_one_ulp.py holds to them and to
fractions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from precision_lab.numeric.certainty import SMALLEST
from precision_lab.oracle import Reference

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

MONOTONE_ULPS = 2.0**-9  # a smaller step of the exact value promises nothing about computed ones


def ulp_error(computed: Float64, exact: Reference) -> Float64:
    """Signed error, computed − exact, in ulps of the exact value's binade.

    NaN where either side is not finite: that is no ulp figure, `nonfinite_mismatch`
    counts it. Certified to ±2^-10 ulp; beyond 2^42 ulps, where float64 holds no such
    digits, to a relative 2^-51.

    Source: Muller, "On the definition of ulp(x)", INRIA RR-5504 (2005).
    """
    both = np.isfinite(computed) & np.isfinite(exact.rounded)
    with np.errstate(invalid="ignore", over="ignore"):
        # Both are numbers of the format: the difference is exact when they are near.
        error = (computed - exact.rounded) / exact.ulp - exact.tail
    return np.where(both, error, np.nan)


def nonfinite_mismatch(computed: Float64, exact: Reference) -> Bool:
    """Whether the computed value's infinity or NaN, or the lack of it, is wrong.

    Right is what correct rounding of the exact value gives, so that overflow at the
    rounding threshold is an infinity and one step below is not.
    """
    expected, got = np.isfinite(exact.rounded), np.isfinite(computed)
    same = (computed == exact.rounded) | (np.isnan(computed) & np.isnan(exact.rounded))
    mismatch: Bool = (expected != got) | (~expected & ~got & ~same)
    return mismatch


def not_correctly_rounded(computed: Float64, exact: Reference) -> Bool:
    """Whether the computed value differs from the correct rounding (zero signs ignored)."""
    differs: Bool = ~((computed == exact.rounded) | (np.isnan(computed) & np.isnan(exact.rounded)))
    return differs


def wrong_sign(computed: Float64, exact: Reference) -> Bool:
    """Whether a nonzero computed value has the opposite sign of an exact one that matters.

    Exact values below half the smallest subnormal round to zero: their sign is not asked.
    """
    # `exact` does not tell: it may be a stand-in, or read the same as half the smallest number beside it.
    matters = (exact.rounded != 0) | (np.abs(exact.tail) >= 0.5)
    wrong: Bool = matters & (np.sign(computed) * exact.sign < 0)
    return wrong


def zero_sign_mismatch(computed: Float64, exact: Reference, x: Float64, output: str) -> Bool:
    """Whether a computed zero has the other sign than an exact result that rounds to zero.

    f(±0) = ±0 is expected of `forward`; an exactly zero gradient has no sign.
    """
    expected = exact.sign.astype(np.float64)
    if output == "forward":
        expected = np.where((exact.sign == 0) & (x == 0), np.copysign(1.0, x), expected)
    zeros = (computed == 0) & (exact.rounded == 0) & (expected != 0)
    mismatch: Bool = zeros & (np.signbit(computed) != (expected < 0))
    return mismatch


def correct_bits(errors: Float64, exact: Reference) -> Float64:
    """−log2 of the relative error, between 0 and the format's p; 0 for a non-finite mismatch.

    p means as good as correct rounding; a wrong sign or an error of 100 % and more is 0.
    """
    p = float(exact.fmt.precision)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Of what rounds to 0 the tail is the size, since `exact` may be a stand-in.
        size = np.where(exact.rounded == 0, np.abs(exact.tail), np.abs(exact.exact) / exact.ulp)
        bits = np.clip(-np.log2(np.abs(errors) / size), 0.0, p)
    bits = np.where(errors == 0, p, bits)
    return np.where(np.isnan(errors), np.where(np.isfinite(exact.rounded), 0.0, p), bits)


def moves_against(move: Float64, step: Float64, ulp: Float64, bound: Float64 | float = 0.0) -> Bool:
    """Whether computed values move against exact ones, where those certainly move; arrays of one shape.

    Args:
        move: difference of the computed values; step: of the exact ones.
        ulp: of the larger exact value; bound: how far the step is uncertain.
    """
    with np.errstate(invalid="ignore"):  # of a NaN
        certain: Bool = np.abs(step) > MONOTONE_ULPS * ulp + bound
        return certain & (((move > 0) & (step < 0)) | ((move < 0) & (step > 0)))


def moves_between(computed: Float64, exact: Reference) -> Bool:
    """`moves_against` from each input to the next, shape (n − 1,); never where one is undecided."""
    with np.errstate(invalid="ignore", over="ignore"):  # inf − inf; beyond the range only the sign counts
        move = np.diff(computed)
        # What stands in for too small a number is of no size that a step could have.
        stands_in = (exact.rounded == 0) & (np.abs(exact.exact) == SMALLEST)
        step = np.diff(np.where(stands_in, 0.0, exact.exact))
    known = ~(exact.undecided[1:] | exact.undecided[:-1])
    return known & moves_against(move, step, np.maximum(exact.ulp[1:], exact.ulp[:-1]))


def monotonicity_violations(computed: Float64, exact: Reference, order: NDArray[np.intp]) -> int:
    """Neighbouring inputs between which computed values move against the exact ones.

    Args:
        order: indices of the inputs with a finite x, ascending in x.
    """
    names = ("rounded", "tail", "ulp", "exact", "sign", "tier", "undecided")
    ordered = replace(exact, **{name: getattr(exact, name)[order] for name in names})
    return int(np.count_nonzero(moves_between(computed[order], ordered)))


def jump_at_zero(computed: Float64, exact: Reference, x: Float64) -> float:
    """Largest spread of computed values over ±0 and the nearest inputs around, less the exact one's."""
    finite = np.isfinite(x)
    near = np.flatnonzero(finite & (x == 0))
    for side in (x > 0, x < 0):
        candidates = np.flatnonzero(finite & side)
        if candidates.size:
            near = np.append(near, candidates[np.argmin(np.abs(x[candidates]))])
    got, expected = computed[near], exact.rounded[near]
    if near.size == 0 or not np.isfinite(got).all() or not np.isfinite(expected).all():
        return float("nan")
    with np.errstate(over="ignore"):  # a jump beyond float64 is infinite
        return max(0.0, float(np.ptp(got) - np.ptp(expected)))
