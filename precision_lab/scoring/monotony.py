"""Whether computed values move against the exact ones between neighbouring inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from precision_lab.numeric.jit import bits_to_float, compiled, entry, float_to_bits
from precision_lab.oracle.format_row import EMAX, EMIN, PRECISION
from precision_lab.scoring.errors import MONOTONE_ULPS


@compiled
def count_moves(y: Any, s: Any, b: Any, n: int, fmt: Any) -> int:
    """Neighbours between which y moves against the exact values, where those certainly move."""
    # Both series rising, or both falling, is the rule; the sign bits of all steps, put together, show it.
    # A NaN raises suspicion at worst.
    falling = rising = y_falling = y_rising = np.int64(0)
    before, after, y_before, y_after = s[: n - 1], s[1:n], y[: n - 1], y[1:n]
    for i in range(n - 1):
        falling |= float_to_bits(after[i] - before[i])
        rising |= float_to_bits(before[i] - after[i])
    for i in range(n - 1):  # in float64, where the difference of two float32 is never subnormal
        y_falling |= float_to_bits(np.float64(y_after[i]) - np.float64(y_before[i]))
        y_rising |= float_to_bits(np.float64(y_before[i]) - np.float64(y_after[i]))
    if (rising >= 0 or y_falling >= 0) and (falling >= 0 or y_rising >= 0):
        return 0
    count = 0
    for i in range(1, n):
        count += moves_against(np.float64(y[i - 1]), s[i - 1], b[i - 1], np.float64(y[i]), s[i], b[i], fmt)
    return count


@entry
def moves_against(y0: float, s0: float, b0: float, y1: float, s1: float, b1: float, fmt: Any) -> bool:
    """Whether y1 − y0 has the other sign than s1 − s0, a step of more than 2^-9 ulp and the bounds."""
    step = s1 - s0
    size = max(abs(s0), abs(s1))
    exponent = min(max((float_to_bits(size) >> 52) - 1023, int(fmt[EMIN])), int(fmt[EMAX]))
    ulp = bits_to_float((exponent + 1024 - int(fmt[PRECISION])) << 52)
    certain = abs(step) > MONOTONE_ULPS * ulp + (b0 + b1) * (1 + 2.0**-40)
    move = y1 - y0
    against: bool = certain & (((move > 0) & (step < 0)) | ((move < 0) & (step > 0)))
    return against
