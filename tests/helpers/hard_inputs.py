"""Inputs whose exact value lies so near a float, or a midpoint of two, that two doubles do not decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


def searching(value: Callable[[float], tuple[float, float, bool]]) -> Any:
    """A compiled search through the float32 codes from `start` to `stop`, which keeps those it finds.

    Boundaries are multiples of half an ulp; the distance of h + tail to the nearest is exact up to its
    own rounding, since h over half an ulp has at most 28 digits behind the point.
    """

    @numba.njit(nogil=True)
    def search(start: int, stop: int, error: float, found: NDArray[np.uint32]) -> int:
        count = 0
        for code in range(start, stop):
            x = np.float64(np.uint32(code).view(np.float32))
            h, tail, settled = value(x)
            if settled:
                continue
            exponent = max(math.frexp(h)[1] - 1, -126)
            half = math.ldexp(1.0, exponent - 24)
            t, rest = abs(h) / half, (tail if h > 0 else -tail) / half
            if abs((t - np.rint(t)) + rest) <= error * t:
                if count < found.size:
                    found[count] = code
                count += 1
        return count

    return search


def found(search: Any, start: int, stop: int, error: float, step: int = 1 << 22) -> Iterator[int]:
    """All codes of `searching` in a range, by pieces."""
    room = np.empty(1 << 16, np.uint32)
    for low in range(start, stop, step):
        count = search(low, min(low + step, stop), error, room)
        assert count <= room.size, f"{count} hard inputs from {low:#x} on: the error is no bound there"
        yield from (int(c) for c in room[:count])
