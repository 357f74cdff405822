"""What a kernel is held to: how many ulps, where, what is forgiven, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bound:
    """A promise about one output in one format, over every input measured.

    Attributes:
        max_ulp: largest error in ulps of the exact value; 0.5 is correct rounding.
        reason: where the number comes from, for people.
        regions: other limits for single regions of `inputs.REGIONS` and for `subnormal_result`.
        flush_subnormals: whether a subnormal input or result may be taken for zero.
        zero_sign: whether a zero of the wrong sign breaks the promise.
        wrong_sign, nonfinite: inputs that may have the wrong sign, or a wrong infinity or NaN.
            0 unless a bound file recorded them as known.
    """

    max_ulp: float
    reason: str = "asked for"
    regions: Mapping[str, float] = field(default_factory=dict, hash=False)
    flush_subnormals: bool = False
    zero_sign: bool = False
    wrong_sign: int = 0
    nonfinite: int = 0

    def __post_init__(self) -> None:
        for name, value in {"max_ulp": self.max_ulp, **self.regions}.items():
            if not (math.isfinite(value) and value >= 0.5):
                raise ValueError(
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
