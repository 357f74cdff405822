"""Limits that an author declares, held to the formula as far as it can be evaluated.

No test proves a limit. What is far from it at 2^1000, and has come no nearer since 2^128, contradicts it.
"""

from __future__ import annotations

import math
from functools import lru_cache

from flint import arb

from precision_lab.exceptions import UndecidedError, UsageError
from precision_lab.formula.expression import Expression
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.arb_value import value

NEAR, FAR = 128, 1000  # exponents of the points; between them even 1/log log x loses a quarter
POINTS = 32
NEARER = 0.75  # of the distance at the near points; a limit is come nearer than that
GROWN = 1.001
REACHED = 2.0**-40  # relative: as good as the limit itself
BITS = 64


def check_declared(e: Expression, sign: int, declared: float, proven: float | None, said: str) -> None:
    """
    Args:
        e: in x alone.
        proven: the limit, where it is known.
        said: names the declaration, for the error.

    Raises:
        ValueError: the formula contradicts it.
    """
    where = "∞" if sign > 0 else "−∞"
    if math.isnan(declared):
        return
    if proven is not None:
        if not _agree(declared, proven):
            raise UsageError(f"{said} is {declared!r} at {where}, but the limit there is {proven!r}, proven")
        return
    if (found := _contradiction(e, sign, declared)) is not None:
        x, there = found
        raise UsageError(f"{said} is {declared!r} at {where}, but the formula is {there!r} at x={x!r}")


def _agree(declared: float, proven: float) -> bool:
    if math.isinf(proven) or math.isinf(declared):
        return declared == proven
    return abs(declared - proven) <= 2.0**-50 * max(abs(proven), 2.0**-1000)


@lru_cache(maxsize=256)
@working_precision(BITS)
def _contradiction(e: Expression, sign: int, declared: float) -> tuple[float, float] | None:
    """A point far out and the value there; None where nothing contradicts."""
    try:
        near, far = (
            [(x, value(e, x, BITS)) for x in (sign * math.ldexp(1 + k / POINTS, top) for k in range(POINTS))]
            for top in (NEAR, FAR)
        )
    except UndecidedError:
        return None
    for x, there in far:
        if isinstance(there, float):  # no number
            return None if there == declared else (x, there)
    numbers = [[(x, there) for x, there in points if isinstance(there, arb)] for points in (near, far)]
    if math.isinf(declared):
        return _not_growing(numbers[0], numbers[1], declared)
    apart = [(_size(abs(there - declared).lower()), x, _size(there)) for x, there in numbers[1]]
    furthest, x, size = max(apart)
    before = max((_size(abs(there - declared).upper()) for _, there in numbers[0]), default=math.inf)
    return None if furthest <= max(REACHED * max(1.0, abs(declared)), NEARER * before) else (x, size)


def _not_growing(
    near: list[tuple[float, arb]], far: list[tuple[float, arb]], declared: float
) -> tuple[float, float] | None:
    least_x, least = min(far, key=lambda found: _size(found[1] * math.copysign(1.0, declared)))
    before = max((_size(abs(there)) for _, there in near), default=0.0)
    if _size(least * math.copysign(1.0, declared)) > GROWN * before:
        return None
    return least_x, _size(least)


def _size(ball: arb) -> float:
    try:
        return float(ball)
    except OverflowError:
        return math.inf if ball > 0 else -math.inf


__all__ = ["check_declared"]
