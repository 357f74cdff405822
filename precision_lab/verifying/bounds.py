"""What a kernel is held to: how many ulps, where, what is forgiven, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from precision_lab.exceptions import UsageError
from precision_lab.results import Measurement


@dataclass(frozen=True)
class Bound:
    """A promise about one output in one format, over every input measured.

    Attributes:
        max_ulp: largest error in ulps of the exact value; 0.5 is correct rounding.
        reason: where the number comes from, for people.
        regions: other limits for single regions of `inputs.sets.REGIONS` and for `subnormal_result`.
        flush_subnormals: whether a subnormal input or result may be taken for zero.
        zero_sign: whether a zero of the wrong sign breaks the promise.
        wrong_sign, nonfinite: inputs that may have the wrong sign, or a wrong infinity or NaN.
            0 unless a bound file recorded them as known.
        biased: whether roundings may lean to one side; see `lean_limit`.
    """

    max_ulp: float
    reason: str = "asked for"
    regions: Mapping[str, float] = field(default_factory=dict, hash=False)
    flush_subnormals: bool = False
    zero_sign: bool = False
    wrong_sign: int = 0
    nonfinite: int = 0
    biased: bool = False

    def __post_init__(self) -> None:
        for name, value in {"max_ulp": self.max_ulp, **self.regions}.items():
            if not (math.isfinite(value) and value >= 0.5):
                raise UsageError(
                    f"{name}={value!r}: must be a number of at least 0.5, which is correct rounding"
                )

    def limit(self, region: str, precision: int) -> float:
        """Ulps allowed in a region of results of that precision.

        With subnormals taken for zero, a subnormal result is off by less than 2^(p−1) of its ulps,
        and the result for a subnormal input by no more than itself, which is less than 2^p.
        """
        limit = self.regions.get(region, self.max_ulp)
        if self.flush_subnormals and region == "subnormal_result":
            return max(limit, 2.0 ** (precision - 1))
        if self.flush_subnormals and region == "subnormal_input":
            return max(limit, 2.0**precision)
        return limit


# What lies between rounding to nearest and truncation, and standard deviations of scatter allowed beyond.
LEAN, DEVIATIONS = 1 / 4, 4


def lean_limit(inexact: int, precision: int) -> float:
    """|lean| beyond which results are rounded to one side; infinite where so few of them cannot tell.

    Truncation takes every value that should go away from zero to the other side and no other value, which
    is a lean of −1/2 however values lie between their neighbours. Rounding v + d to nearest instead of v,
    d in ulps, does that to a share 2d of values that lie evenly there, so that the lean is how far results
    had been moved away from zero when they were rounded: 0 for any accurate computation. Rounding
    stochastically does it to less than half of the values on either side: the lean is below 1/4. So
    LEAN is halfway.

    Beyond it comes what scatter can do. A share of m independent roundings has a standard deviation of
    1/(2·√m) or less. Of n, n/4 at least are due to go each way, so that half the difference of two shares
    has √(4/n + 4/(3n))/4 = 1/√(3n) or less. They are not all independent: where f is nearly linear, all
    binades round the same 2^(p−1) significands, so that no more than these are counted. Where that leaves
    a limit of 1/2 or more, truncation could not be told from chance: with 85 results or fewer, and always
    in FP8 and FP4.
    """
    independent = min(inexact, 2 ** (precision - 1))
    if independent == 0:
        return math.inf
    limit = LEAN + DEVIATIONS / math.sqrt(3 * independent)
    return limit if limit < 0.5 else math.inf


@dataclass(frozen=True)
class Leaning:
    """Roundings that go to one side: for which exact values, how far, of how many, and the limit."""

    where: str
    lean: float
    inexact: int
    limit: float


def leaning(m: Measurement) -> Leaning | None:
    """The worst lean beyond its limit, whatever the largest error.

    Over all exact values, and over positive and negative ones alone: rounding toward −∞ leans one way for
    these and the other way for those. Regions are not judged, having too few different roundings each. Only
    results within one ulp count, so that a wrong one is a matter of accuracy and not of bias.
    """
    precision = m.precision_bits
    found = [
        Leaning(where, lean, inexact, lean_limit(inexact, precision))
        for where, lean, inexact in (
            ("", m.lean, m.inexact),
            (" where the exact value is positive", m.lean_positive, m.inexact_positive),
            (" where the exact value is negative", m.lean_negative, m.inexact_negative),
        )
        if lean is not None
    ]
    over = [lean for lean in found if abs(lean.lean) > lean.limit]
    return max(over, key=lambda lean: abs(lean.lean) - lean.limit, default=None)
