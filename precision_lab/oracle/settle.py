"""What the enclosures of the double-double tier settle, in one compiled pass."""

from __future__ import annotations

from typing import Any

from precision_lab.numeric.certainty import SMALLEST
from precision_lab.numeric.jit import entry
from precision_lab.oracle.decide import decide


@entry
def settle(
    high: Any, low: Any, radius: Any, nudge: Any, fmt: Any,
    rounded: Any, tail: Any, ulp: Any, exact: Any, sign: Any, certain: Any,
) -> None:  # fmt: skip
    """`decide` for every enclosure; the sign must be known too, unless all is below half the smallest."""
    smallest = 2.0 ** (fmt[1] - fmt[0] + 1)
    for i in range(high.size):
        rounded[i], tail[i], ulp[i], certain[i] = decide(high[i], low[i], radius[i], nudge[i], fmt)
        # Not 0, only too small to be told from it: the smallest float64 stands for it.
        vanished = high[i] == 0 and (radius[i] > 0 or nudge[i] != 0)
        exact[i] = (SMALLEST if nudge[i] >= 0 else -SMALLEST) if vanished else high[i]
        size = abs(high[i])
        known = size * (1 - 2.0**-50) > radius[i] or (size == 0 and radius[i] == 0)
        sign[i] = (1 if high[i] > 0 else -1) if known and size > 0 else 0
        if size == 0 and known and nudge[i] != 0:
            sign[i] = 1 if nudge[i] > 0 else -1
            # In fp64 what is left may have digits: mpmath finds them.
            known = fmt[0] < 53 or abs(nudge[i]) == 2
        certain[i] &= known or (nudge[i] == 0 and 4 * (size + radius[i]) < smallest)


__all__ = ["settle"]
