"""What conforming devices may return for an approximate instruction: how many results, and which extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator.bounds import BOUNDS, Bound
from precision_lab.emulator.choosing import HIGH, LOW, PROMISED
from precision_lab.emulator.nominal import Bits, described
from precision_lab.exceptions import unknown_name
from precision_lab.formats import BF16, FP16, FP32, FP64

MOST_CANDIDATES = 9
_FORMATS = {"f32": FP32, "f16": FP16, "bf16": BF16, "f64": FP64}


def bound(op: str) -> Bound:
    """What the manual promises of an instruction such as "ex2.approx.f32".

    Raises:
        ValueError: none of those known here.
    """
    if op not in BOUNDS:
        raise unknown_name("approximate instruction", op, BOUNDS)
    return BOUNDS[op]


def is_enumerable(op: str) -> bool:
    """Whether no input that something is promised for has more than a few conforming results."""
    return bound(op).lowest is not None


def candidates(op: str) -> range:
    """Numbers of all results of conforming devices, over all inputs that something is promised for.

    Of one input, numbers beyond its own last one stand for that last one (`nominal.evaluate`). Where there
    are too many to be tried (not `is_enumerable`), the range holds all that a 32-bit number can say.
    """
    found = bound(op)
    if found.lowest is None or found.highest is None:
        return range(-(2**31), 2**31)
    return range(found.lowest, found.highest + 1)


def is_promised(op: str, ftz: bool, *bits: Bits) -> NDArray[np.bool_]:
    """Whether the manual says anything of each input; where not, a device may return any number at all."""
    bound(op)
    return described(op, ftz, PROMISED, *bits).astype(np.bool_)


def extremes(op: str, ftz: bool, *bits: Bits) -> tuple[Bits, Bits]:
    """Bits of the smallest and the largest conforming result for each input; NaN where that is the result."""
    bound(op)
    return described(op, ftz, LOW, *bits), described(op, ftz, HIGH, *bits)


def enclosure(op: str, ftz: bool, *bits: Bits) -> tuple[NDArray[Any], NDArray[Any]]:
    """As `extremes`, as float64; infinite on both sides where nothing is promised."""
    low, high = extremes(op, ftz, *bits)
    fmt = _FORMATS[op.rsplit(".", 1)[-1]]
    return fmt.decode(low), fmt.decode(high)


__all__ = [
    "BOUNDS", "MOST_CANDIDATES", "Bound", "bound", "candidates", "enclosure", "extremes", "is_enumerable",
    "is_promised",
]  # fmt: skip
