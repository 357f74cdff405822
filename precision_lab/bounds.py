"""What an implementation is held to: how many ulps, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """A promise about one output in one format, over every input measured.

    Wrong signs and non-finite mismatches are never within a bound.

    Attributes:
        max_ulp: largest error in ulps of the exact value; 0.5 is correct rounding.
        reason: where the number comes from, for people.
    """

    max_ulp: float
    reason: str = "asked for"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_ulp) and self.max_ulp >= 0.5):
            raise ValueError(
                f"max_ulp={self.max_ulp!r}: must be a number of at least 0.5, which is correct rounding"
            )
