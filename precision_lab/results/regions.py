"""What the names of regions mean, in words that follow an error in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Of `inputs.sets.REGIONS`, and of results that are subnormal.
REGION_WORDS: Mapping[str, str] = {
    "special": "at inf or NaN",
    "zero": "at ±0",
    "subnormal_input": "for subnormal inputs",
    "subnormal_result": "where the result is subnormal",
    "eps_zone": "for −1e-6 < x < 0",
    "edge": "beside a point other than 0 at which the formula changes",
    "near_zero_negative": "just below 0 (−1/16 ≤ x ≤ −1e-6)",
    "root_forward": "within 2 % of a root of the function",
    "root_gradient": "within 2 % of a root of its gradient",
    "far_tail": "for x < −16",
    "rest_negative": "on the rest of the negative side",
    "positive": "for x > 0",
}


def legend(names: Iterable[str]) -> str:
    """What each of these regions is, in the order of the table above; "" where there is none."""
    wanted = set(names)
    return "; ".join(f"{name}: {words}" for name, words in REGION_WORDS.items() if name in wanted)
