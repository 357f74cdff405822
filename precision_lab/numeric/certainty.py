"""How far every number of the lab is certain."""

# Every reported ulp error is certified to this.
CERTIFIED_ULPS = 2.0**-10
# The smallest positive float64: what underflow loses at most, and what stands in for a number that is not 0
# but vanishes in float64.
SMALLEST = 2.0**-1074

__all__ = ["CERTIFIED_ULPS", "SMALLEST"]
