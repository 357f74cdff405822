"""What is certain of exact values, as every tier of the oracle hands it on.

Nothing compiled is needed for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat

Float64 = NDArray[np.float64]

# "balls" is arbitrary precision, mpmath's or Arb's.
TIERS = ("special", "float64", "double_double", "balls")
SPECIAL, FLOAT64, DOUBLE_DOUBLE, BALLS = range(4)
EXACT_BITS = 64  # relative bits of `Reference.exact`, and what makes its sign certain


@dataclass(frozen=True)
class Reference:
    """Exact values of one output at n inputs, relative to a format; arrays of shape (n,).

    Attributes:
        rounded: correct rounding, as float64; ±inf or NaN where the exact result overflows
            the format, or is infinite or undefined itself.
        tail: (exact − rounded) in ulps, certified to 2^-10; 0 where `rounded` is not finite. Where
            `rounded` is 0, ±1/2 is a tie and nothing beside it.
        ulp: ulp of the exact value.
        exact: the exact value to about float64 precision, for display and relative errors; ±SMALLEST where
            it is not 0 but too small for that, which in fp64 is no value to compare with: `rounded == 0` and
            |tail| < 1/2 say that it is below half the smallest subnormal.
        sign: of the exact value: -1, 0, +1; 0 also where it is proven to be below half the
            smallest subnormal and its sign was not needed.
        tier: index into `TIERS` of what settled the input.
        undecided: nothing could certify it.
        unjudged: inputs at which nothing is held to a value: infinite ones where no limit is proven or
            declared, and of a derivative those where the function has no value; None where there are none.
    """

    fmt: FloatFormat
    rounded: Float64
    tail: Float64
    ulp: Float64
    exact: Float64
    sign: NDArray[np.int8]
    tier: NDArray[np.uint8]
    undecided: NDArray[np.bool_]
    unjudged: NDArray[np.bool_] | None = None

    @classmethod
    def empty(cls, fmt: FloatFormat, n: int) -> Reference:
        """Zeros of the tier `SPECIAL`, to be filled."""
        return cls(
            fmt, np.zeros(n), np.zeros(n), np.full(n, fmt.min_subnormal), np.zeros(n),
            np.zeros(n, np.int8), np.full(n, SPECIAL, np.uint8), np.zeros(n, np.bool_), np.zeros(n, np.bool_),
        )  # fmt: skip
